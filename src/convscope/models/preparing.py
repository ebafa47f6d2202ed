"""From pictures or numbers to what a network takes, and back to what it sees."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope.errors import ImageError, UsageError
from convscope.images import is_picture
from convscope.models.batch import (
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
        """A batch in the model's own layout, as ``(N, C, H, W)``."""

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
        if is_picture(images):
            return self._from_picture(images, sides)
        return self._from_numbers(images, sides)

    def _from_picture(self, source: Any, sides: tuple[int, int] | None) -> Batch:
        preprocess = self.input.preprocess.at(sides) if sides else self.input.preprocess
        view = preprocess.view(source, self.input.channels)
        values = torch.from_numpy(preprocess.normalise(view.seen))[None]
        return Batch(values, (view,), (view.name,), single=True, preprocess=preprocess)

    def _from_numbers(self, images: Any, sides: tuple[int, int] | None) -> Batch:
        values = as_floats(images)
        if values is None or values.ndim not in (3, 4):
            raise ImageError(
                f"{what(images)} is not an image. Give a path, a PIL image, a uint8 picture, or a "
                f"float array {shape_text(self._layout(self.input.channels))}"
            )
        if not values.numel():
            raise ImageError(f"{what(images)} holds no image")
        single = values.ndim == 3
        standard = self._standard_input(values[None] if single else values)
        if standard.shape[1] != self.input.channels:
            raise ImageError(self._wrong_channels(images, values, int(standard.shape[1])))
        size = (int(standard.shape[2]), int(standard.shape[3]))
        if sides and sides != size:
            raise UsageError(
                f"size= resizes pictures, and {what(images)} is model-ready. Give a picture, or "
                "an array of that size"
            )
        names = ("array",) if single else tuple(f"array {i}" for i in range(len(values)))
        return Batch(standard, None, names, single)

    def _wrong_channels(self, images: Any, values: Tensor, found: int) -> str:
        wanted = self.input.channels
        swapped = values.shape[-1] if self._layout(0)[0] == 0 else values.shape[-3]
        hint = " Its axes seem to be in another order." if swapped == wanted else ""
        return (
            f"{what(images)} has {found} channel{'s' * (found != 1)} where {self.name} takes "
            f"{wanted}.{hint} Give {shape_text(self._layout(wanted))}, or a picture"
        )

    def seen(self, batch: Batch, index: int = 0) -> tuple[NDArray[np.uint8], str]:
        """What the model sees as a picture ``(H, W, 3)`` uint8, and a note on how it was made."""
        if batch.views is not None:
            return np.asarray(batch.views[index].seen.convert("RGB")), ""
        values = batch.values[index].detach().cpu().numpy()
        if self.input.preprocess.origin != UNKNOWN_PREPROCESS.origin and len(values) in (1, 3):
            pixels = self.input.preprocess.restore(values)
            note = "drawn by undoing the model's normalisation"
        else:
            pixels = stretched(values)
            part = "" if len(values) in (1, 3) else f"channel 0 of {len(values)}, "
            low, high = np.nanmin(values), np.nanmax(values)
            note = f"{part}numbers from {low:.3g} to {high:.3g}, drawn black to white"
        return (np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels), note


def _is_many_pictures(images: Any) -> bool:
    return getattr(images, "ndim", 0) == 4 and is_picture(images)
