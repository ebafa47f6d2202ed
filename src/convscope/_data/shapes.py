"""Drawn shapes: images whose every factor of variation is known."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from convscope._data.dataset import Dataset
from convscope._errors import UsageError

CLASSES = ("circle", "square", "triangle", "star")
TEXTURES = ("solid", "stripes", "dots")
_OVERSAMPLING = 4  # drawn larger and reduced, so that edges are anti-aliased


@dataclass(frozen=True)
class ShapeFactors:
    """The factors of variation of one image.

    Attributes:
        shape: One of ``CLASSES``.
        hue: The shape's color on the color circle, 0 to 1.
        texture: One of ``TEXTURES``.
        size: The radius of the circumscribed circle, as a fraction of the image's side.
        rotation: Counter-clockwise, in degrees.
        x: The center, as a fraction of the image's width.
        y: The center, as a fraction of the image's height, from the top.
        background: The gray level of the background, 0 (black) to 1 (white).
    """

    shape: str
    hue: float
    texture: str
    size: float
    rotation: float
    x: float
    y: float
    background: float


class Shapes(Dataset):
    """Random colored shapes, one in each image.

    Image ``i`` depends on ``seed`` and ``i`` alone, so a longer dataset begins with a shorter one.
    ``factors(i)`` gives the factors of variation.

    Args:
        count: The number of images.
        size: The side of the images, in pixels.
        seed: Which random shapes.

    Raises:
        UsageError: A number is out of range.
    """

    def __init__(self, count: int = 1000, size: int = 64, seed: int = 0) -> None:
        if count < 1 or size < 8 or seed < 0:
            raise UsageError(
                f"shapes needs count ≥ 1, size ≥ 8 and seed ≥ 0, not {count}, {size} and {seed}. "
                "For example: shapes,count=1000,size=64,seed=0"
            )
        self.name = f"shapes,count={count},size={size},seed={seed}"
        self._is_split = False
        self.size = size
        self.seed = seed
        self.ids = [str(i) for i in range(count)]
        self.classes = CLASSES
        self.labels = np.arange(count, dtype=np.int64) % len(CLASSES)

    def factors(self, index: int) -> ShapeFactors:
        """The factors of image ``index``: classes alternate, all else is random."""
        random = np.random.default_rng([self.seed, index])
        radius = random.uniform(0.15, 0.35)
        return ShapeFactors(
            shape=CLASSES[index % len(CLASSES)],
            hue=random.uniform(),
            texture=TEXTURES[random.integers(len(TEXTURES))],
            size=radius,
            rotation=random.uniform(0, 360),
            x=random.uniform(radius, 1 - radius),
            y=random.uniform(radius, 1 - radius),
            background=random.uniform(0.0, 0.45),
        )

    def split(self, name: str) -> Dataset | None:
        """``"train"`` is this dataset; ``"test"`` has as many new shapes, from another seed."""
        if self._is_split:
            return None
        split = Shapes(len(self), self.size, self.seed + 1_000_003 * (name == "test"))
        split.name += f" ({name})"
        split._is_split = True
        return split

    def image(self, index: int) -> Image.Image:
        return draw(self.factors(index), self.size)

    def content_summary(self) -> bytes:
        return f"{self.size} {self.seed}".encode()


def draw(factors: ShapeFactors, size: int) -> Image.Image:
    """Draw the image with these factors: RGB, ``size`` × ``size`` pixels."""
    side = size * _OVERSAMPLING
    image = Image.new("RGB", (side, side), (round(255 * factors.background),) * 3)
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    center, radius = (factors.x * side, factors.y * side), factors.size * side
    if factors.shape == "circle":
        pen.ellipse([c + reach for reach in (-radius, radius) for c in center], fill=255)
    else:
        pen.polygon(_outline(factors.shape, center, radius, factors.rotation), fill=255)
    image.paste(_paint(factors, side), mask=mask)
    return image.resize((size, size), Image.Resampling.BOX)


def _outline(
    shape: str, center: tuple[float, float], radius: float, rotation: float
) -> list[tuple[float, float]]:
    """The corners of ``shape``; image rows grow downwards, so the sine is subtracted."""
    corners = {"square": 4, "triangle": 3, "star": 10}[shape]
    points = []
    for corner in range(corners):
        angle = math.radians(rotation + 90 + 360 * corner / corners)
        reach = radius * (0.4 if shape == "star" and corner % 2 else 1.0)
        points.append((center[0] + reach * math.cos(angle), center[1] - reach * math.sin(angle)))
    return points


def _paint(factors: ShapeFactors, side: int) -> Image.Image:
    """An image of the shape's color, with its texture in a darker tone of the same hue."""
    bright, dark = (
        np.array([round(255 * c) for c in colorsys.hsv_to_rgb(factors.hue, 0.85, value)], np.uint8)
        for value in (1.0, 0.45)
    )
    y, x = np.ogrid[:side, :side]
    period = max(2.0, factors.size * side / 3)
    if factors.texture == "stripes":
        angle = math.radians(factors.rotation)
        marked = ((x * math.cos(angle) - y * math.sin(angle)) / period) % 1 < 0.5
    elif factors.texture == "dots":
        marked = ((x / period) % 1 - 0.5) ** 2 + ((y / period) % 1 - 0.5) ** 2 < 0.09
    else:
        marked = np.zeros((side, side), bool)
    return Image.fromarray(np.where(marked[..., None], dark, bright))
