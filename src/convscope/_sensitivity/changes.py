"""Controlled changes of a picture, each at several strengths.

Pictures are float32 ``(N, C, H, W)``, 0…1, as the model sees them before normalization.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Apply = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Change:
    """One kind of change.

    - ``levels``: its strengths; ``unit``: what they are, for a title
    - ``apply``: pictures and a strength to changed pictures
    - ``channels``: the numbers of channels it means something for; all where empty
    """

    name: str
    levels: tuple[float, ...]
    unit: str
    apply: Apply
    channels: tuple[int, ...] = ()


def _brightness(pictures: Tensor, level: float) -> Tensor:
    return pictures + level


def _contrast(pictures: Tensor, level: float) -> Tensor:
    middle = pictures.mean((1, 2, 3), keepdim=True)
    return (pictures - middle) * level + middle


def _hue(pictures: Tensor, degrees: float) -> Tensor:
    """Turned around the gray axis of the color cube: the mean of the three stays."""
    angle = math.radians(degrees)
    one, rest = math.cos(angle), (1 - math.cos(angle)) / 3
    side = math.sqrt(1 / 3) * math.sin(angle)
    turn = torch.tensor(
        [
            [one + rest, rest - side, rest + side],
            [rest + side, one + rest, rest - side],
            [rest - side, rest + side, one + rest],
        ],
        dtype=pictures.dtype,
    )
    return torch.einsum("oc,nchw->nohw", turn, pictures)


def _blur(pictures: Tensor, percent: float) -> Tensor:
    sigma = percent / 100 * max(pictures.shape[2:])
    reach = min(math.ceil(3 * sigma), min(pictures.shape[2:]) - 1)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel, channels = kernel / kernel.sum(), pictures.shape[1]
    for shape, pad in (
        ((1, 1, -1, 1), (0, 0, reach, reach)),
        ((1, 1, 1, -1), (reach, reach, 0, 0)),
    ):
        weight = kernel.view(shape).expand(channels, 1, *kernel.view(shape).shape[2:])
        pictures = F.conv2d(F.pad(pictures, pad, mode="reflect"), weight, groups=channels)
    return pictures


def _noise(pictures: Tensor, level: float) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return pictures + level * torch.randn(pictures.shape, generator=draw)


def _jpeg(pictures: Tensor, quality: float) -> Tensor:
    return torch.stack([_one_jpeg(picture, int(quality)) for picture in pictures])


def _one_jpeg(picture: Tensor, quality: int) -> Tensor:
    pixels = (picture.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        stream, "jpeg", quality=quality
    )
    values = np.asarray(Image.open(stream), np.float32).reshape(pixels.shape) / 255
    return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)


def _rotation(pictures: Tensor, degrees: float) -> Tensor:
    angle = math.radians(degrees)
    return moved(pictures, angle=angle)


def _scale(pictures: Tensor, factor: float) -> Tensor:
    return moved(pictures, zoom=factor)


def _translation(pictures: Tensor, percent: float) -> Tensor:
    return moved(pictures, right=percent / 100)


def moved(pictures: Tensor, angle: float = 0, zoom: float = 1, right: float = 0) -> Tensor:
    """Turned counter-clockwise, enlarged, shifted to the right by a share of the width.

    What comes in from outside is the picture mirrored at its border.
    """
    height, width = pictures.shape[2:]
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    # from a place in the result to one in the picture, both -1…1; rows grow downwards
    theta = torch.tensor(
        [[cos, -sin * height / width, -2 * right], [sin * width / height, cos, 0.0]]
    )
    grid = F.affine_grid(
        theta.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False
    )
    return F.grid_sample(
        pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _occlusion(pictures: Tensor, percent: float) -> Tensor:
    """A gray square over so much of the picture, at places that a fixed draw chooses."""
    height, width = pictures.shape[2:]
    high, wide = (max(1, round(side * math.sqrt(percent / 100))) for side in (height, width))
    random, covered = np.random.default_rng(0), pictures.clone()
    for picture in covered:
        top, left = random.integers(height - high + 1), random.integers(width - wide + 1)
        picture[:, top : top + high, left : left + wide] = 0.5
    return covered


def _flip(pictures: Tensor, level: float) -> Tensor:
    return pictures.flip(3)


_ALL = (
    Change("brightness", (-0.4, -0.2, 0.2, 0.4), "added, of 0…1", _brightness),
    Change("contrast", (0.25, 0.5, 1.5, 2.0), "×", _contrast),
    Change("hue", (45, 90, 135, 180), "° around the color circle", _hue, channels=(3,)),
    Change("blur", (0.5, 1, 2, 4), "σ, % of the longer side", _blur),
    Change("noise", (0.02, 0.05, 0.1, 0.2), "σ, of 0…1", _noise),
    Change("JPEG", (75, 50, 25, 10), "quality", _jpeg, channels=(1, 3)),
    Change("rotation", (15, 45, 90, 180), "°", _rotation),
    Change("scale", (0.5, 0.75, 1.33, 2.0), "×", _scale),
    Change("translation", (3, 6, 12, 25), "% of the width", _translation),
    Change("occlusion", (5, 10, 25, 50), "% of the picture, a gray square", _occlusion),
    Change("flip", (1,), "mirrored, left to right", _flip),
)
CHANGES: Mapping[str, Change] = {change.name: change for change in _ALL}
