"""Small curves as tiles, for small multiples: no axes, one scale for all, in the theme's ink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convscope._plot.colors import BACKGROUND, FLAT, INK_STEPS
from convscope._plot.tiles import Tile, map_tiles

_FINE = 4  # drawn larger and reduced
_GROUND, _AREA, _RULE = 1, 3, 4  # steps of ink


def curve_tile(
    values: Sequence[float],
    *,
    low: float = 0.0,
    high: float = 1.0,
    zero: float | None = 0.0,
    size: tuple[int, int] = (34, 64),
    label: str = "",
    note: str = "",
) -> Tile:
    """Draw a curve at equal steps, the area between it and ``zero`` shaded.

    Args:
        values: The curve; where none is finite the tile is marked constant.
        low: Value at the lower edge; what lies outside is cut.
        high: Value at the upper edge.
        zero: Where the shaded area ends; ``None`` for the upper edge.
        size: ``(height, width)`` in pixels.
        label: What it is.
        note: Small print beside the label.
    """
    numbers = np.asarray(values, float)
    if not np.isfinite(numbers).any():
        return Tile(np.full(size, FLAT, np.uint8), label, note, state="constant")
    ink = np.full(size, _GROUND, np.uint8)
    level = high if zero is None else zero
    points = _points(np.nan_to_num(numbers, nan=level), low, high, size)
    ground = _at(level, low, high, size[0])
    area = [(points[0][0], ground), *points, (points[-1][0], ground)]
    _put(ink, _AREA, lambda pen: pen.polygon(area, fill=255))
    _put(ink, _RULE, lambda pen: pen.line([(0, ground), (size[1] * _FINE, ground)], 255, _FINE))
    _put(ink, INK_STEPS, lambda pen: pen.line(points, 255, int(1.5 * _FINE), "curve"))
    return Tile(ink + np.uint8(BACKGROUND), label, note)


def cell_tiles(
    values: NDArray[np.floating[Any]],
    *,
    low: float,
    high: float,
    signed: bool = False,
    wide: int = 4,
) -> list[Tile]:
    """Draw a table of numbers as cells of one color each, on one range.

    Args:
        values: ``(rows, columns)``; NaN is marked constant.
        low: Value at the lower end of the color map.
        high: Value at the upper end.
        signed: For the color map ``signed``: the range is centered on zero.
        wide: Width of a cell per height, which leaves room for the names of columns.

    Returns:
        One tile per cell, row by row.
    """
    flat = np.asarray(values, np.float32).reshape(-1, 1, 1)
    cells = np.repeat(np.nan_to_num(flat), wide, axis=2)
    tiles = map_tiles(cells, range=(low, high), signed=signed, labels=[""] * len(cells))
    ground = np.full((1, wide), FLAT, np.uint8)
    return [
        replace(tile, state="live") if known else Tile(ground, state="constant")
        for tile, known in zip(tiles, np.isfinite(flat).ravel(), strict=True)
    ]


def bar_tile(
    values: Sequence[float],
    colors: NDArray[np.uint8],
    *,
    low: float,
    high: float,
    size: tuple[int, int] = (40, 90),
    label: str = "",
    note: str = "",
) -> Tile:
    """Draw bars on mid-gray.

    Args:
        values: Heights of the bars; one that is not finite is left out.
        colors: Their colors, uint8 ``(n, 3)``, RGB.
        low: Value at the lower edge.
        high: Value at the upper edge.
        size: ``(height, width)`` in pixels.
        label: What it is.
        note: Small print beside the label.
    """
    height, width = size
    pixels = np.full((height, width, 3), 128, np.uint8)
    step = width / len(values)
    for place, (value, color) in enumerate(zip(values, colors, strict=True)):
        if not np.isfinite(value) or high <= low:
            continue
        tall = round(height * float(np.clip((value - low) / (high - low), 0, 1)))
        left, right = round(place * step), round((place + 1) * step)
        pixels[height - tall :, left : max(left + 1, right - 1)] = color
    return Tile(pixels, label, note)


def _at(value: float, low: float, high: float, height: int) -> float:
    return float((1 - np.clip((value - low) / (high - low), 0, 1)) * (height * _FINE - 1))


def _points(
    values: NDArray[np.float64], low: float, high: float, size: tuple[int, int]
) -> list[tuple[float, float]]:
    across = np.linspace(0, size[1] * _FINE - 1, max(2, len(values)))
    heights = values if len(values) > 1 else np.repeat(values, 2)
    return [
        (float(x), _at(float(v), low, high, size[0])) for x, v in zip(across, heights, strict=True)
    ]


def _put(ink: NDArray[np.uint8], step: int, drawn: object) -> None:
    """Lay a shape in ``step`` of ink over what is there, edges smoothed."""
    fine = Image.new("L", (ink.shape[1] * _FINE, ink.shape[0] * _FINE), 0)
    assert callable(drawn)
    drawn(ImageDraw.Draw(fine))
    small = fine.resize((ink.shape[1], ink.shape[0]), Image.Resampling.BOX)
    cover = np.asarray(small, np.float32) / 255
    ink[:] = np.rint(ink * (1 - cover) + step * cover).astype(np.uint8)
