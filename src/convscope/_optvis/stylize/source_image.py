"""Images to stylize: at their own size, 0…1, before any normalization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convscope._errors import ImageError, UsageError
from convscope._images import is_image
from convscope._optvis.params import Size
from convscope._optvis.transforms import Normalizer

_TOLERANCE = 0.02  # beyond 0…1: rounding, not another scale


@dataclass(frozen=True)
class SourceImage:
    """An image ``(1, C, H, W)``, 0…1; ``note`` tells whether it was resized."""

    values: Tensor
    name: str
    note: str = ""

    @property
    def size(self) -> Size:
        return int(self.values.shape[2]), int(self.values.shape[3])


def load_source_image(
    normalizer: Normalizer, source: Any, size: int | Size | None, max_side: int | None = None
) -> SourceImage:
    """Load an image at its own size, or with its longer side at ``size``.

    Without ``size`` its longer side is at most ``max_side``. A model-ready float array is brought
    back to 0…1 by undoing the model's normalization.
    """
    if not is_image(source):
        return _from_array(normalizer, source, size)
    preprocess = replace(normalizer.model.input.preprocess, size=None, resize=None)
    view = preprocess.view(source, normalizer.model.input.channels)
    own = (view.pixels.height, view.pixels.width)
    if size is None and max_side and max(own) > max_side:
        size = max_side
    target = own if size is None else _target(own, size)
    pixels = view.pixels
    if target != own:
        pixels = pixels.resize(target[::-1], Image.Resampling.LANCZOS)
    values = np.asarray(pixels, np.float32).reshape(*target, -1) / 255
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


def _from_array(normalizer: Normalizer, source: Any, size: int | Size | None) -> SourceImage:
    batch = normalizer.model.prepare(source)
    if size is not None and batch.size != ((size, size) if isinstance(size, int) else size):
        raise UsageError("size= resizes images, and an array of floats was given. Resize it first")
    values = batch.values[:1].detach().cpu()
    image = normalizer.to_images(values)
    again = normalizer.to_batch(image).values
    spread = float(
        (
            normalizer.to_batch(torch.ones_like(image)).values
            - normalizer.to_batch(torch.zeros_like(image)).values
        )
        .abs()
        .max()
    )
    if not bool(((again - values).abs() <= _TOLERANCE * spread).all()):
        raise ImageError(
            f"Values from {values.min():.3g} to {values.max():.3g} are no image once the "
            "normalization of the model is undone. Specify the preprocessing: "
            "cs.load(model, preprocess=cs.Preprocess(mean=…, std=…))"
        )
    return SourceImage(image, batch.names[0])


def resize_to_cover(values: Tensor, size: Size) -> Tensor:
    """The center of an image, resized so that it fills ``size``."""
    own = (values.shape[-2], values.shape[-1])
    factor = max(size[0] / own[0], size[1] / own[1])
    large = (max(size[0], round(own[0] * factor)), max(size[1], round(own[1] * factor)))
    top, left = (large[0] - size[0]) // 2, (large[1] - size[1]) // 2
    return resized(values, large)[..., top : top + size[0], left : left + size[1]]


def luminance(image: Tensor) -> Tensor:
    """Luminance (Rec. 601), ``(N, 1, H, W)``."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def resized(values: Tensor, size: Size) -> Tensor:
    """Resize bicubically, without aliasing."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, size, mode="bicubic", antialias=True, align_corners=False)


def octave_sizes(size: Size, count: int, scale: float, min_side: int) -> list[Size]:
    """Sizes from small to large, each ``scale`` times the one before; none below ``min_side``."""
    sizes = [size]
    for k in range(1, count):
        smaller = (round(size[0] / scale**k), round(size[1] / scale**k))
        if min(smaller) < min_side or smaller == sizes[0]:
            break
        sizes.insert(0, smaller)
    return sizes
