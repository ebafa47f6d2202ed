"""What goes into a network: what it takes, and batches of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import ImageError
from convscope._images import Preprocess, View

UNKNOWN_PREPROCESS = Preprocess(origin="assumed: the model brings none; tell it with --preprocess")


@dataclass(frozen=True)
class Input:
    """What a model takes and what its outputs mean.

    - ``channels``: of the input.
    - ``preprocess``: from a picture to numbers; its ``size`` is ``(height, width)`` or ``None``.
    - ``classes``: names of the outputs, empty where they are unknown.
    - ``note``: what had to be assumed, to be shown with every result; empty where nothing was.
    - ``depth``: how many slices a network of volumes takes, else 0. A volume is shown as a picture
      of its slices, one below the other: ``size`` counts the rows of all of them.
    """

    channels: int = 3
    preprocess: Preprocess = UNKNOWN_PREPROCESS
    classes: tuple[str, ...] = ()
    note: str = ""
    depth: int = 0

    @property
    def shape(self) -> tuple[int, ...] | None:
        """``(channels, height, width)`` or ``(channels, slices, height, width)`` of one image."""
        if self.size is None:
            return None
        if self.depth:
            return self.channels, self.depth, self.size[0] // self.depth, self.size[1]
        return self.channels, *self.size

    @property
    def size(self) -> tuple[int, int] | None:
        """``(height, width)`` the model expects, ``None`` where any will do or none is known."""
        return self.preprocess.size


@dataclass(frozen=True)
class Batch:
    """Model-ready images: ``values`` float32 ``(N, C, H, W)``, and where they come from.

    ``views`` holds one ``View`` per picture, and ``preprocess`` is what made them; both are
    ``None`` where the caller gave numbers.
    """

    values: Tensor
    views: tuple[View, ...] | None
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
        """``(height, width)`` of the images as the model sees them."""
        return int(self.values.shape[2]), int(self.values.shape[3])


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


def join(batches: Sequence[Batch]) -> Batch:
    """Batches as one; they must have one size."""
    sizes = {tuple(b.values.shape[1:]) for b in batches}
    if len(sizes) > 1:
        named = ", ".join(f"{b.names[0]} {b.size[0]}×{b.size[1]}" for b in batches[:3])
        raise ImageError(f"Images of one call must have one size, not {named}. Set one with size=")
    views = [view for b in batches if b.views is not None for view in b.views]
    seen = len(views) == sum(map(len, batches))  # numbers among them have no view
    return Batch(
        torch.cat([b.values for b in batches]),
        tuple(views) if seen else None,
        tuple(name for b in batches for name in b.names),
        single=False,
        preprocess=batches[0].preprocess if seen else None,
    )


def stacked(slices: Any, depth: int) -> Any:
    """``(…, d, h, w)`` as ``(…, depth·h, w)``: slices one below the other, to lie over a picture.

    A layer with fewer slices than the volume has shows each as often as it stands for one.
    """
    places = [k * slices.shape[-3] // depth for k in range(depth)]
    chosen = slices[..., places, :, :]
    return chosen.reshape(*chosen.shape[:-3], -1, chosen.shape[-1])


def what(value: Any) -> str:
    """A value in words, for messages: its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return f"A value of type {type(value).__name__}"
    return f"An array of {str(value.dtype).removeprefix('torch.')} of shape {shape_text(shape)}"


def shape_text(sides: Iterable[Any]) -> str:
    """``(3, 32, 32)``, names of sides among them."""
    return f"({', '.join(map(str, sides))})"


def stretched(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Numbers as gray or, with three channels, color; the first channel where there are others."""
    shown = values if len(values) in (1, 3) else values[:1]
    shown = np.nan_to_num(shown, posinf=0, neginf=0)
    low, high = float(shown.min()), float(shown.max())
    pixels = ((shown - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
