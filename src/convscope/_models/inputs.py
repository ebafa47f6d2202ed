"""What goes into a network: its ``Input``, batches of images, and how images become batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import ImageError, UsageError
from convscope._images import Preprocess, PreprocessedImage, is_image
from convscope._images.arrays import ARRAY_SUFFIX, read_array

# Scans are resumed where this text is equal, so version 0.1.0 fixes its words.
UNKNOWN_PREPROCESS = Preprocess(origin="assumed: the model brings none; tell it with --preprocess")


@dataclass(frozen=True)
class Input:
    """What a model takes and what its outputs mean.

    Attributes:
        channels: Number of input channels.
        preprocess: From an image to the values of a batch; its ``size`` is ``(height, width)``,
            or ``None``.
        classes: Names of the outputs in order, empty where they are unknown.
        note: What had to be assumed, shown with every result; empty where nothing was.
        depth: Number of slices of a network of volumes, else 0. A volume is drawn as an image of
            its slices, one below the other: ``size`` counts the rows of all of them.
        signal: Whether the network takes signals, ``(C, L)``. A signal is drawn as an image one
            pixel high: ``size`` is ``(1, length)``.
    """

    channels: int = 3
    preprocess: Preprocess = UNKNOWN_PREPROCESS
    classes: tuple[str, ...] = ()
    note: str = ""
    depth: int = 0
    signal: bool = False

    @property
    def kind(self) -> Literal["image", "volume", "signal"]:
        """What the network takes, in a word."""
        return "volume" if self.depth else "signal" if self.signal else "image"

    @property
    def shape(self) -> tuple[int, ...] | None:
        """``(channels, height, width)`` of one image; ``(channels, slices, height, width)`` of a
        volume, ``(channels, length)`` of a signal."""
        if self.size is None:
            return None
        if self.signal:
            return self.channels, self.size[1]
        if self.depth:
            return self.channels, self.depth, self.size[0] // self.depth, self.size[1]
        return self.channels, *self.size

    @property
    def size(self) -> tuple[int, int] | None:
        """``(height, width)`` the model expects, ``None`` where any will do or none is known."""
        return self.preprocess.size


@dataclass(frozen=True)
class InputShape:
    """The shape of one image, as a user gives it: the attributes of ``Input`` that it sets."""

    channels: int
    size: tuple[int, int]
    depth: int = 0
    signal: bool = False

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> InputShape:
        """From ``(C, H, W)``; ``(C, D, H, W)`` of volumes, ``(C, L)`` of signals."""
        if len(shape) not in (2, 3, 4) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise UsageError(
                f"input is (channels, height, width), not {shape!r}: input=(3, 224, 224)"
            )
        channels, *slices, height, width = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
        depth = slices[0] if slices else 0
        return cls(channels, (height * max(depth, 1), width), depth, len(shape) == 2)


@dataclass(frozen=True)
class Batch:
    """Preprocessed images, ready for the model, and where they come from.

    Attributes:
        values: float32 ``(N, C, H, W)``; volumes ``(N, C, D·H, W)``, slices one below the other;
            signals ``(N, C, 1, L)``.
        views: One ``PreprocessedImage`` per image; ``None`` where the caller gave arrays of floats.
        names: The images' names.
        single: Whether one image was given rather than a list or an array with a batch axis.
        preprocess: What made ``values`` of the images; ``None`` like ``views``.
    """

    values: Tensor
    views: tuple[PreprocessedImage, ...] | None
    names: tuple[str, ...]
    single: bool
    preprocess: Preprocess | None = None

    def __len__(self) -> int:
        return len(self.values)

    def one(self, index: int) -> Batch:
        """The image at ``index`` as a batch of its own."""
        views = None if self.views is None else (self.views[index],)
        return Batch(
            self.values[index : index + 1], views, (self.names[index],), True, self.preprocess
        )

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the preprocessed images."""
        return int(self.values.shape[2]), int(self.values.shape[3])


class NativeLayout(Protocol):
    """How a network lays out its input."""

    def standard_input(self, values: Tensor) -> Tensor:
        """A batch in the network's own layout with channels second: ``(N, C, H, W)``, …"""

    def input_shape(self, input: Input, channels: int) -> tuple[int | str, ...]:
        """The shape of one image in the network's own layout, for messages."""


@dataclass(frozen=True)
class Preparation:
    """Turns images and arrays into batches for the model called ``name``, and back to images."""

    name: str
    input: Input
    layout: NativeLayout

    def batch(self, images: Any, size: int | tuple[int, int] | None) -> Batch:
        """A batch of anything in ``ImagesLike``; see ``Model.prepare``."""
        if isinstance(images, Batch):
            return images
        sides = (size, size) if isinstance(size, int) else size
        if isinstance(images, (list, tuple)) or _is_image_stack(images):
            if not len(images):
                raise UsageError("No image was given")
            return join_batches([self.batch(image, sides) for image in images])
        if isinstance(images, (str, Path)) and Path(images).suffix.lower() == ARRAY_SUFFIX:
            return self._from_file(Path(images), sides)
        if is_image(images):
            return self._from_image(images, sides)
        return self._from_floats(images, sides)

    def _from_file(self, path: Path, sides: tuple[int, int] | None) -> Batch:
        batch = self.batch(read_array(path), sides)
        return replace(batch, names=(path.name,)) if batch.single else batch

    def _from_image(self, source: Any, sides: tuple[int, int] | None) -> Batch:
        if self.input.kind != "image":
            raise ImageError(
                f"{self.name} takes {self.input.kind}s, not images. Give a float array "
                f"{shape_text(self._shape(self.input.channels))}, or a .npy file of one"
            )
        preprocess = self.input.preprocess.at(sides) if sides else self.input.preprocess
        view = preprocess.view(source, self.input.channels)
        values = torch.from_numpy(preprocess.normalize(view.pixels))[None]
        return Batch(values, (view,), (view.name,), single=True, preprocess=preprocess)

    def _from_floats(self, images: Any, sides: tuple[int, int] | None) -> Batch:
        values, dimensions = as_floats(images), len(self._shape(0))
        if self.input.signal and values is not None:
            values = self._without_row(values)
        if values is None or values.ndim not in (dimensions, dimensions + 1):
            raise ImageError(
                f"{describe_value(images)} is not an image. Give a path, a PIL image, a uint8 "
                f"array, or a float array {shape_text(self._shape(self.input.channels))}"
            )
        if not values.numel():
            raise ImageError(f"{describe_value(images)} holds no image")
        single = values.ndim == dimensions
        standard = self.layout.standard_input(values[None] if single else values)
        if standard.shape[1] != self.input.channels:
            raise ImageError(self._wrong_channels(images, values, int(standard.shape[1])))
        if self.input.depth:
            standard = self._stack_slices(images, standard)
        if self.input.signal:
            standard = standard.unsqueeze(2)
        size = (int(standard.shape[2]), int(standard.shape[3]))
        if sides and sides != size:
            raise UsageError(
                f"size= resizes images, and {describe_value(images)} is model-ready. Give an image "
                "file, or an array of that size"
            )
        names = ("array",) if single else tuple(f"array {i}" for i in range(len(values)))
        return Batch(standard, None, names, single)

    def _without_row(self, values: Tensor) -> Tensor:
        """Signals from images one pixel high, as which they may be given too."""
        if values.ndim == 4 and values.shape[2] == 1:
            return values.squeeze(2)
        one = values.ndim == 3 and values.shape[1] == 1 and self.input.channels == values.shape[0]
        return values.squeeze(1) if one and self._shape(0)[0] == 0 else values

    def _stack_slices(self, images: Any, volumes: Tensor) -> Tensor:
        """Volumes as images of their slices, one below the other."""
        if volumes.shape[2] != self.input.depth:
            raise ImageError(
                f"{describe_value(images)} has {volumes.shape[2]} slices where {self.name} takes "
                f"{self.input.depth}. Load it again with the right shape: --input C,D,H,W"
            )
        return volumes.flatten(2, 3)

    def _wrong_channels(self, images: Any, values: Tensor, given: int) -> str:
        expected = self.input.channels
        last = self._shape(0)[0] == 0  # channels are first: others may have them last
        swapped = values.shape[-1] if last else values.shape[-len(self._shape(0))]
        hint = " Its axes seem to be in another order." if swapped == expected else ""
        channels = f"{given} channel{'s' * (given != 1)}"
        return (
            f"{describe_value(images)} has {channels} where {self.name} takes {expected}.{hint} "
            f"Give {shape_text(self._shape(expected))}"
            f"{', or an image file' if self.input.kind == 'image' else ''}"
        )

    def _shape(self, channels: int) -> tuple[int | str, ...]:
        return self.layout.input_shape(self.input, channels)

    def image(self, batch: Batch, index: int) -> tuple[NDArray[np.uint8], str]:
        """Image ``index`` of a batch as ``(H, W, 3)`` uint8, and a note on how it was drawn."""
        if batch.views is not None:
            return np.asarray(batch.views[index].pixels.convert("RGB")), ""
        values = batch.values[index].detach().cpu().numpy()
        if self._is_invertible(len(values)):
            pixels = self.input.preprocess.restore(values)
            note = "drawn by undoing the model's normalization"
        else:
            pixels = stretched_to_uint8(values)
            low, high = np.nanmin(values), np.nanmax(values)
            note = f"{self._shown_part()}numbers from {low:.3g} to {high:.3g}, drawn black to white"
        return (np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels), note

    def drawing(self) -> str:
        """In words: how ``image`` draws arrays of floats, whatever they hold."""
        if self._is_invertible(self.input.channels):
            return "drawn by undoing the model's normalization"
        return (
            f"{self._shown_part()}each image from its lowest number (black) to its highest (white)"
        )

    def _is_invertible(self, channels: int) -> bool:
        """Whether values become an image again by undoing a known normalization."""
        return self.input.preprocess.origin != UNKNOWN_PREPROCESS.origin and channels in (1, 3)

    def _shown_part(self) -> str:
        """Which part of an array of floats an image can show."""
        count, depth = self.input.channels, self.input.depth
        slices = f"{depth} slices, one below the other; " if depth else ""
        colors = 1 if self.input.signal else 3
        return slices + ("" if count in (1, colors) else f"channel 0 of {count}, ")


def _is_image_stack(images: Any) -> bool:
    return getattr(images, "ndim", 0) == 4 and is_image(images)


def as_floats(images: Any) -> Tensor | None:
    """An array of floats of any framework as float32; ``None`` where it is something else."""
    if isinstance(images, Tensor):
        return images.float() if images.is_floating_point() else None
    if not hasattr(images, "__array__"):
        return None
    values = np.asarray(images)
    if not np.issubdtype(values.dtype, np.floating):
        return None
    return torch.from_numpy(np.array(values, np.float32, order="C"))  # a copy: any strides will do


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Batches as one; they must have one size."""
    sizes = {tuple(b.values.shape[1:]) for b in batches}
    if len(sizes) > 1:
        named = ", ".join(f"{b.names[0]} {b.size[0]}×{b.size[1]}" for b in batches[:3])
        raise ImageError(f"Images of one call must have one size, not {named}. Set one with size=")
    views = [view for b in batches if b.views is not None for view in b.views]
    complete = len(views) == sum(map(len, batches))  # arrays of floats have no view
    return Batch(
        torch.cat([b.values for b in batches]),
        tuple(views) if complete else None,
        tuple(name for b in batches for name in b.names),
        single=False,
        preprocess=batches[0].preprocess if complete else None,
    )


def stack_slices(slices: Any, depth: int) -> Any:
    """``(…, d, h, w)`` as ``(…, depth·h, w)``: slices one below the other, to overlay an image.

    Where a layer has fewer slices than the volume, each is repeated.
    """
    nearest = [k * slices.shape[-3] // depth for k in range(depth)]
    repeated = slices[..., nearest, :, :]
    return repeated.reshape(*repeated.shape[:-3], -1, repeated.shape[-1])


def describe_value(value: Any) -> str:
    """A value in words, for messages: its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return f"A value of type {type(value).__name__}"
    return f"An array of {str(value.dtype).removeprefix('torch.')} of shape {shape_text(shape)}"


def shape_text(sides: Iterable[Any]) -> str:
    """``(3, 32, 32)``, names of sides among them."""
    return f"({', '.join(map(str, sides))})"


def stretched_to_uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Numbers as gray or, with three channels, color; the first channel where there are others."""
    shown = values if len(values) in (1, 3) else values[:1]
    shown = np.nan_to_num(shown, posinf=0, neginf=0)
    low, high = float(shown.min()), float(shown.max())
    pixels = ((shown - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2))


def imagenet_classes() -> tuple[str, ...]:
    """The thousand class names of ImageNet-1k, in the usual order."""
    text = (resources.files("convscope._models") / "builtin" / "imagenet.txt").read_text("utf-8")
    return tuple(text.splitlines())
