"""Photographs to paint on: at their own size, 0…1, before any normalization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convscope._errors import ImageError, UsageError
from convscope._images import is_picture
from convscope._optvis.params import Size
from convscope._optvis.transforms import Normalizer

_NEAR = 0.02  # how far beyond 0…1 numbers may lie: rounding, not another scale


@dataclass(frozen=True)
class SourceImage:
    """A picture ``(1, C, H, W)``, 0…1; ``note`` says whether it was resized."""

    values: Tensor
    name: str
    note: str = ""

    @property
    def size(self) -> Size:
        return int(self.values.shape[2]), int(self.values.shape[3])


def load_source_image(
    lens: Normalizer, source: Any, size: int | Size | None, most: int | None = None
) -> SourceImage:
    """A picture at its own size, or with its longer side at ``size``; numbers as they are.

    Without ``size`` its longer side is at ``most`` at the most.

    Model-ready numbers are brought back to 0…1 by undoing the model's normalization.
    """
    if not is_picture(source):
        return _of_numbers(lens, source, size)
    preprocess = replace(lens.model.input.preprocess, size=None, resize=None)
    view = preprocess.view(source, lens.model.input.channels)
    own = (view.seen.height, view.seen.width)
    if size is None and most and max(own) > most:
        size = most
    target = own if size is None else _target(own, size)
    seen = view.seen.resize(target[::-1], Image.Resampling.LANCZOS) if target != own else view.seen
    values = np.asarray(seen, np.float32).reshape(*target, -1) / 255
    note = "" if target == own else f"resized from {own[1]}×{own[0]}"
    return SourceImage(
        torch.from_numpy(values).permute(2, 0, 1)[None].contiguous(), view.name, note
    )


def _target(own: Size, size: int | Size) -> Size:
    if isinstance(size, tuple):
        target = size
    else:
        target = (max(1, round(own[0] * size / max(own))), max(1, round(own[1] * size / max(own))))
    if min(target) < 2:
        raise UsageError(
            f"size={size} leaves {target[0]}×{target[1]} of {own[0]}×{own[1]}: too "
            "small. Usual: size=512"
        )
    return target


def _of_numbers(lens: Normalizer, source: Any, size: int | Size | None) -> SourceImage:
    batch = lens.model.prepare(source)
    if size is not None and batch.size != ((size, size) if isinstance(size, int) else size):
        raise UsageError("size= resizes pictures, and numbers were given. Resize them before")
    values = batch.values[:1].detach().cpu()
    picture = lens.image(values)
    again = lens.batch(picture).values
    spread = float(
        (lens.batch(torch.ones_like(picture)).values - lens.batch(torch.zeros_like(picture)).values)
        .abs()
        .max()
    )
    if not bool(((again - values).abs() <= _NEAR * spread).all()):
        raise ImageError(
            f"Numbers from {values.min():.3g} to {values.max():.3g} are no picture once the "
            "normalization of the model is undone. Tell it how pictures become numbers: "
            "cs.load(model, preprocess=cs.Preprocess(mean=…, std=…))"
        )
    return SourceImage(picture, batch.names[0])


def resize_to_cover(values: Tensor, size: Size) -> Tensor:
    """The middle of a picture, resized so that it fills ``size``."""
    own = (values.shape[-2], values.shape[-1])
    factor = max(size[0] / own[0], size[1] / own[1])
    large = (max(size[0], round(own[0] * factor)), max(size[1], round(own[1] * factor)))
    top, left = (large[0] - size[0]) // 2, (large[1] - size[1]) // 2
    return resized(values, large)[..., top : top + size[0], left : left + size[1]]


def luminance(picture: Tensor) -> Tensor:
    """Brightness as the eye weighs colors (Rec. 601), ``(N, 1, H, W)``."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=picture.device).view(1, 3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def resized(values: Tensor, size: Size) -> Tensor:
    """Bicubic, and where it shrinks without aliasing."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, size, mode="bicubic", antialias=True, align_corners=False)


def octave_sizes(size: Size, count: int, scale: float, least: int) -> list[Size]:
    """Sizes from small to large, each ``scale`` times the one before; none below ``least``."""
    sizes = [size]
    for k in range(1, count):
        smaller = (round(size[0] / scale**k), round(size[1] / scale**k))
        if min(smaller) < least or smaller == sizes[0]:
            break
        sizes.insert(0, smaller)
    return sizes
