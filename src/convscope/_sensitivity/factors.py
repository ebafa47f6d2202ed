"""On the procedural shapes every factor is known: redraw one, and see which channels notice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image

from convscope._data import Dataset, Shapes, Subset
from convscope._data.shapes import CLASSES, TEXTURES, ShapeFactors, draw

FACTORS: Mapping[str, tuple[str, ...]] = {
    "shape": ("shape",),
    "color": ("hue",),
    "texture": ("texture",),
    "size": ("size",),
    "rotation": ("rotation",),
    "position": ("x", "y"),
    "background": ("background",),
}


def shapes_of(dataset: Dataset) -> Shapes | None:
    """The procedural shapes that a dataset is, or is a part of."""
    while isinstance(dataset, Subset):
        dataset = dataset.parent
    return dataset if isinstance(dataset, Shapes) else None


def redrawn(shapes: Shapes, index: int, factor: str) -> Image.Image:
    """Picture ``index`` with one factor drawn anew, all others as they are."""
    was = shapes.factors(index)
    random = np.random.default_rng([shapes.seed, index, sorted(FACTORS).index(factor), 77])
    fresh = replace(
        was,
        shape=CLASSES[random.integers(len(CLASSES))],
        hue=random.uniform(),
        texture=TEXTURES[random.integers(len(TEXTURES))],
        size=random.uniform(0.15, 0.35),
        rotation=random.uniform(0, 360),
        background=random.uniform(0.0, 0.45),
    )
    fresh = replace(
        fresh, x=random.uniform(was.size, 1 - was.size), y=random.uniform(was.size, 1 - was.size)
    )
    changed = replace(was, **{name: getattr(fresh, name) for name in FACTORS[factor]})
    return draw(_inside(changed), shapes.size)


def _inside(factors: ShapeFactors) -> ShapeFactors:
    """A shape that has grown stays in the picture."""
    low, high = factors.size, 1 - factors.size
    return replace(factors, x=min(max(factors.x, low), high), y=min(max(factors.y, low), high))
