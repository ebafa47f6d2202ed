"""Controlled changes of images: perturbations at several strengths, and redrawn shape factors.

Images are float32 ``(N, C, H, W)``, 0…1, resized and cropped but not yet normalized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convscope._data import Dataset, Shapes, Subset
from convscope._data.shapes import CLASSES, TEXTURES, ShapeFactors, draw
from convscope._images.ops import affine, gaussian_blur, jpeg


@dataclass(frozen=True)
class Perturbation:
    """One kind of change.

    Attributes:
        name: What users type.
        levels: Its strengths.
        unit: What the levels are, for a title.
        apply: From images and a level to changed images.
        identity: The level that changes nothing.
        channels: Numbers of input channels that it is defined for; all where empty.
    """

    name: str
    levels: tuple[float, ...]
    unit: str
    apply: Callable[[Tensor, float], Tensor]
    identity: float = 0.0
    channels: tuple[int, ...] = ()


def _brightness(images: Tensor, level: float) -> Tensor:
    return images + level


def _contrast(images: Tensor, factor: float) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * factor + mean


def _hue(images: Tensor, degrees: float) -> Tensor:
    """Rotation around the gray axis of the RGB cube: the mean of the three stays."""
    angle = math.radians(degrees)
    diagonal, rest = math.cos(angle), (1 - math.cos(angle)) / 3
    side = math.sqrt(1 / 3) * math.sin(angle)
    rotation = torch.tensor(
        [
            [diagonal + rest, rest - side, rest + side],
            [rest + side, diagonal + rest, rest - side],
            [rest - side, rest + side, diagonal + rest],
        ],
        dtype=images.dtype,
    )
    return torch.einsum("oc,nchw->nohw", rotation, images)


def _blur(images: Tensor, percent: float) -> Tensor:
    sigma = percent / 100 * max(images.shape[2:])
    return gaussian_blur(images, sigma, padding="reflect")


def _noise(images: Tensor, sigma: float) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return images + sigma * torch.randn(images.shape, generator=random)


def _jpeg(images: Tensor, quality: float) -> Tensor:
    return jpeg(images, int(quality))


def _rotation(images: Tensor, degrees: float) -> Tensor:
    return _transform(images, angle=math.radians(degrees))


def _scale(images: Tensor, factor: float) -> Tensor:
    return _transform(images, scale=factor)


def _translation(images: Tensor, percent: float) -> Tensor:
    return _transform(images, right=percent / 100)


def _transform(images: Tensor, angle: float = 0, scale: float = 1, right: float = 0) -> Tensor:
    """All images alike, mirrored at the border; ``right`` is a fraction of the width."""
    one = torch.ones(len(images))
    shift = torch.tensor([0.0, -2 * right]).expand(len(images), 2)
    return affine(images, angle * one, scale * one, shift)


def _occlusion(images: Tensor, percent: float) -> Tensor:
    """A gray square over a share of the image, at positions drawn with a fixed seed."""
    height, width = images.shape[2:]
    h, w = (max(1, round(side * math.sqrt(percent / 100))) for side in (height, width))
    random, occluded = np.random.default_rng(0), images.clone()
    for image in occluded:
        top, left = random.integers(height - h + 1), random.integers(width - w + 1)
        image[:, top : top + h, left : left + w] = 0.5
    return occluded


def _flip(images: Tensor, _: float) -> Tensor:
    return images.flip(3)


_ALL = (
    Perturbation("brightness", (-0.4, -0.2, 0.2, 0.4), "added, of 0…1", _brightness),
    Perturbation("contrast", (0.25, 0.5, 1.5, 2.0), "×", _contrast, identity=1),
    Perturbation("hue", (45, 90, 135, 180), "° around the color circle", _hue, channels=(3,)),
    Perturbation("blur", (0.5, 1, 2, 4), "σ, % of the longer side", _blur),
    Perturbation("noise", (0.02, 0.05, 0.1, 0.2), "σ, of 0…1", _noise),
    Perturbation("JPEG", (75, 50, 25, 10), "quality", _jpeg, identity=100, channels=(1, 3)),
    Perturbation("rotation", (15, 45, 90, 180), "°", _rotation),
    Perturbation("scale", (0.5, 0.75, 1.33, 2.0), "×", _scale, identity=1),
    Perturbation("translation", (3, 6, 12, 25), "% of the width", _translation),
    Perturbation("occlusion", (5, 10, 25, 50), "% of the image, a gray square", _occlusion),
    Perturbation("flip", (1,), "mirrored, left to right", _flip),
)
PERTURBATIONS: Mapping[str, Perturbation] = {one.name: one for one in _ALL}


# Factors of the procedural shapes

FACTORS: Mapping[str, tuple[str, ...]] = {
    "shape": ("shape",),
    "color": ("hue",),
    "texture": ("texture",),
    "size": ("size",),
    "rotation": ("rotation",),
    "position": ("x", "y"),
    "background": ("background",),
}
"""By name, the fields of ``ShapeFactors`` that are drawn anew together."""


def shapes_of(dataset: Dataset) -> Shapes | None:
    """The procedural shapes that a dataset is, or is a subset of."""
    while isinstance(dataset, Subset):
        dataset = dataset.parent
    return dataset if isinstance(dataset, Shapes) else None


def redraw_factor(shapes: Shapes, index: int, factor: str) -> Image.Image:
    """Image ``index`` with one factor drawn anew and all others as they are."""
    original = shapes.factors(index)
    random = np.random.default_rng([shapes.seed, index, sorted(FACTORS).index(factor), 77])
    margin = original.size
    drawn = replace(
        original,
        shape=CLASSES[random.integers(len(CLASSES))],
        hue=random.uniform(),
        texture=TEXTURES[random.integers(len(TEXTURES))],
        size=random.uniform(0.15, 0.35),
        rotation=random.uniform(0, 360),
        background=random.uniform(0.0, 0.45),
        x=random.uniform(margin, 1 - margin),
        y=random.uniform(margin, 1 - margin),
    )
    changed = replace(original, **{name: getattr(drawn, name) for name in FACTORS[factor]})
    return draw(_inside(changed), shapes.size)


def _inside(factors: ShapeFactors) -> ShapeFactors:
    """A shape that has grown stays inside the image."""
    low, high = factors.size, 1 - factors.size
    return replace(factors, x=min(max(factors.x, low), high), y=min(max(factors.y, low), high))
