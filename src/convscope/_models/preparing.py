"""From pictures or numbers to what a network takes, and back to what it sees."""

from __future__ import annotations

import abc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import ImageError, UsageError
from convscope._images import is_picture
from convscope._images.arrays import ARRAY_SUFFIX, read_array
from convscope._models.batch import (
    UNKNOWN_PREPROCESS,
    Batch,
    Input,
    as_floats,
    join,
    shape_text,
    stretched,
    what,
)


class Preparing(abc.ABC):
    """The half of a model that prepares images for it."""

    name: str
    input: Input

    @abc.abstractmethod
    def _standard_input(self, values: Tensor) -> Tensor:
        """A batch in the model's own layout, as ``(N, C, H, W)`` or ``(N, C, D, H, W)``."""

    @abc.abstractmethod
    def _layout(self, channels: int) -> tuple[Any, ...]:
        """The shape of one image in the model's own layout, for messages."""

    def prepare(self, images: Any, *, size: int | tuple[int, int] | None = None) -> Batch:
        """Model-ready values from pictures or numbers.

        A path, a PIL image or anything uint8 is a picture and is preprocessed; a float array or
        tensor is taken as it is, in the model's own layout, with or without a batch axis; a list
        is a batch. ``size`` shows pictures at another size than the model's own.
        """
        if isinstance(images, Batch):
            return images
        sides = (size, size) if isinstance(size, int) else size
        if isinstance(images, (list, tuple)) or _is_many_pictures(images):
            if not len(images):
                raise UsageError("No image was given")
            return join([self.prepare(image, size=sides) for image in images])
        if isinstance(images, (str, Path)) and Path(images).suffix.lower() == ARRAY_SUFFIX:
            return self._from_file(Path(images), sides)
        if is_picture(images):
            return self._from_picture(images, sides)
        return self._from_numbers(images, sides)

    def _from_file(self, path: Path, sides: tuple[int, int] | None) -> Batch:
        batch = self.prepare(read_array(path), size=sides)
        return replace(batch, names=(path.name,)) if batch.single else batch

    def _from_picture(self, source: Any, sides: tuple[int, int] | None) -> Batch:
        if self.input.depth:
            raise ImageError(
                f"{self.name} takes volumes, not pictures. Give a float array "
                f"{shape_text(self._layout(self.input.channels))}, or a .npy file of one"
            )
        preprocess = self.input.preprocess.at(sides) if sides else self.input.preprocess
        view = preprocess.view(source, self.input.channels)
        values = torch.from_numpy(preprocess.normalize(view.seen))[None]
        return Batch(values, (view,), (view.name,), single=True, preprocess=preprocess)

    def _from_numbers(self, images: Any, sides: tuple[int, int] | None) -> Batch:
        values, dimensions = as_floats(images), 4 if self.input.depth else 3
        if values is None or values.ndim not in (dimensions, dimensions + 1):
            raise ImageError(
                f"{what(images)} is not an image. Give a path, a PIL image, a uint8 picture, or a "
                f"float array {shape_text(self._layout(self.input.channels))}"
            )
        if not values.numel():
            raise ImageError(f"{what(images)} holds no image")
        single = values.ndim == dimensions
        standard = self._standard_input(values[None] if single else values)
        if standard.shape[1] != self.input.channels:
            raise ImageError(self._wrong_channels(images, values, int(standard.shape[1])))
        if self.input.depth:
            standard = self._stacked(images, standard)
        size = (int(standard.shape[2]), int(standard.shape[3]))
        if sides and sides != size:
            raise UsageError(
                f"size= resizes pictures, and {what(images)} is model-ready. Give a picture, or "
                "an array of that size"
            )
        names = ("array",) if single else tuple(f"array {i}" for i in range(len(values)))
        return Batch(standard, None, names, single)

    def _stacked(self, images: Any, volumes: Tensor) -> Tensor:
        """Volumes as pictures of their slices, one below the other."""
        if volumes.shape[2] != self.input.depth:
            raise ImageError(
                f"{what(images)} has {volumes.shape[2]} slices where {self.name} was told of "
                f"{self.input.depth}. Load it again with the input that is meant: --input C,D,H,W"
            )
        return volumes.flatten(2, 3)

    def _wrong_channels(self, images: Any, values: Tensor, found: int) -> str:
        wanted = self.input.channels
        swapped = values.shape[-1] if self._layout(0)[0] == 0 else values.shape[-3]
        hint = " Its axes seem to be in another order." if swapped == wanted else ""
        return (
            f"{what(images)} has {found} channel{'s' * (found != 1)} where {self.name} takes "
            f"{wanted}.{hint} Give {shape_text(self._layout(wanted))}, or a picture"
        )

    def preprocessed(self, batch: Batch, index: int = 0) -> tuple[NDArray[np.uint8], str]:
        """What the model sees as a picture ``(H, W, 3)`` uint8, and a note on how it was made."""
        if batch.views is not None:
            return np.asarray(batch.views[index].seen.convert("RGB")), ""
        values = batch.values[index].detach().cpu().numpy()
        if self._restores(len(values)):
            pixels = self.input.preprocess.restore(values)
            note = "drawn by undoing the model's normalization"
        else:
            pixels = stretched(values)
            low, high = np.nanmin(values), np.nanmax(values)
            note = f"{self._part()}numbers from {low:.3g} to {high:.3g}, drawn black to white"
        return (np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels), note

    def drawing(self) -> str:
        """In words: how ``seen`` draws numbers, whatever they are."""
        if self._restores(self.input.channels):
            return "drawn by undoing the model's normalization"
        return f"{self._part()}each image from its lowest number (black) to its highest (white)"

    def _restores(self, channels: int) -> bool:
        """Whether numbers become a picture again by undoing a known normalization."""
        return self.input.preprocess.origin != UNKNOWN_PREPROCESS.origin and channels in (1, 3)

    def _part(self) -> str:
        """What of an array of numbers a picture can show."""
        count, depth = self.input.channels, self.input.depth
        slices = f"{depth} slices, one below the other; " if depth else ""
        return slices + ("" if count in (1, 3) else f"channel 0 of {count}, ")


def _is_many_pictures(images: Any) -> bool:
    return getattr(images, "ndim", 0) == 4 and is_picture(images)
