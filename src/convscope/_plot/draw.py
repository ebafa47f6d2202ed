"""A layout → pixels: one canvas of palette indices, written tile by tile."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._plot.colors import (
    BACKGROUND,
    FLAT,
    LEVELS,
    NAN,
    NEG_INF,
    POS_INF,
    TEXT,
    contrast,
    palette,
)
from convscope._plot.grid import shown_side
from convscope._plot.layout import Box, Layout, PlacedTile, Swatch
from convscope._plot.text import mask

FRAME = BACKGROUND + 3
_SWATCHES = {"nan": NAN, "+inf": POS_INF, "-inf": NEG_INF, "zero": FLAT, "constant": FLAT}


def draw(layout: Layout, cmap: str, theme: str, *, texts: bool = True) -> Image.Image:
    """The sheet as a palette image; as RGB where it holds RGB tiles. ``texts=False`` omits text."""
    colors = palette(cmap, theme)
    canvas = np.full((layout.height, layout.width), BACKGROUND, np.uint8)
    for placed in layout.tiles:
        _frame(canvas, placed)
        if placed.tile.pixels.ndim == 2:
            _write(canvas, placed.box, resized(placed.tile.drawn, placed.scale))
            _mark(canvas, placed, colors)
            _outline(canvas, placed, colors)
    for swatch in layout.swatches:
        _swatch(canvas, swatch, colors)
    if texts:
        _texts(canvas, layout)
    colored = [placed for placed in layout.tiles if placed.tile.pixels.ndim == 3]
    if not colored:
        image = Image.fromarray(canvas)
        image.putpalette(colors.tobytes())
        return image
    rgb = colors[canvas]
    for placed in colored:
        _write(rgb, placed.box, resized(placed.tile.drawn, placed.scale))
        _mark(rgb, placed, colors)
        _outline(rgb, placed, colors)
    return Image.fromarray(rgb)


def resized(pixels: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Enlarge by nearest neighbor, or reduce by the mean of whole blocks.

    Indices stand in a line with the values, so their mean is the mean's index; a reserved index
    (NaN, ±inf) wins its whole block: it must not vanish.
    """
    if scale > 0:
        return pixels if scale == 1 else np.repeat(np.repeat(pixels, scale, 0), scale, 1)
    rows, columns = (np.arange(0, side, -scale) for side in pixels.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, 0, np.int64), columns, 1)
    counts = np.outer(
        np.diff(rows, append=pixels.shape[0]), np.diff(columns, append=pixels.shape[1])
    )
    if pixels.ndim == 3:
        return np.asarray(np.rint(sums / counts[..., None]), np.uint8)
    peaks = np.maximum.reduceat(np.maximum.reduceat(pixels, rows, 0), columns, 1)
    return np.asarray(np.where(peaks >= LEVELS, peaks, np.rint(sums / counts)), np.uint8)


def _write(canvas: NDArray[np.uint8], box: Box, pixels: NDArray[np.uint8]) -> None:
    canvas[box.y : box.y + box.h, box.x : box.x + box.w] = pixels


def _frame(canvas: NDArray[np.uint8], placed: PlacedTile) -> None:
    """A hairline around the tile, so that white on white has an edge; bold if not finite."""
    x, y, w, h = placed.box
    if placed.tile.marks:
        canvas[y - 2 : y + h + 2, x - 2 : x + w + 2] = placed.tile.marks[0]
    else:
        canvas[y - 1 : y + h + 1, x - 1 : x + w + 1] = FRAME


def _mark(canvas: NDArray[np.uint8], placed: PlacedTile, colors: NDArray[np.uint8]) -> None:
    """Hatch an all-zero tile both ways, a constant one in one direction."""
    x, y, w, h = placed.box
    if placed.tile.state not in ("zero", "constant") or min(w, h) < 10:
        return
    area = canvas[y : y + h, x : x + w]
    fill = area[0, 0]
    ink = _ink(fill if canvas.ndim == 3 else colors[fill], colors)
    hatch = _hatch(h, w, placed.tile.state == "zero")
    area[hatch] = colors[ink] if canvas.ndim == 3 else ink


def _outline(canvas: NDArray[np.uint8], placed: PlacedTile, colors: NDArray[np.uint8]) -> None:
    """Draw a tile's frames along their insides: paper between ink, which shows on any image."""
    paper, ink = (colors[i] if canvas.ndim == 3 else i for i in (BACKGROUND, TEXT))
    x, y, w, h = placed.box
    repeats = placed.tile.repeats
    for top, left, bottom, right, dashed in placed.tile.frames:
        corners = (top * repeats, left, bottom * repeats, right)
        top, left, bottom, right = (shown_side(side, placed.scale) for side in corners)
        bottom, right = min(max(bottom, top + 1), h), min(max(right, left + 1), w)
        area = canvas[y + top : y + bottom, x + left : x + right]
        rows, columns = np.mgrid[: area.shape[0], : area.shape[1]]
        from_edge = np.minimum.reduce([rows, columns, rows[::-1], columns[:, ::-1]])
        drawn = from_edge < min(3, (min(area.shape[:2]) + 1) // 2)
        if dashed:
            drawn &= (rows + columns) // 6 % 2 == 0
        area[drawn & (from_edge != 1)] = ink
        area[drawn & (from_edge == 1)] = paper


def _ink(fill: NDArray[np.uint8], colors: NDArray[np.uint8]) -> int:
    """The gentlest ink that is still visible on ``fill``."""
    steps = (BACKGROUND + 4, BACKGROUND + 6, BACKGROUND + 8, BACKGROUND, TEXT)
    strength = {step: contrast(colors[step].tolist(), fill.tolist()) for step in steps}
    clear = [step for step in steps if strength[step] >= 2]
    return clear[0] if clear else max(steps, key=lambda step: strength[step])


@lru_cache(maxsize=64)
def _hatch(height: int, width: int, crossed: bool) -> NDArray[np.bool_]:
    step = 8 if min(height, width) >= 24 else 5
    y, x = np.ogrid[:height, :width]
    lines = (x + y) % step == 0
    return np.asarray(lines | ((x - y) % step == 0) if crossed else lines, np.bool_)


def _swatch(canvas: NDArray[np.uint8], swatch: Swatch, colors: NDArray[np.uint8]) -> None:
    x, y, w, h = swatch.box
    canvas[y - 1 : y + h + 1, x - 1 : x + w + 1] = FRAME
    area = canvas[y : y + h, x : x + w]
    if swatch.kind == "bar":
        area[:] = np.rint(np.linspace(0, LEVELS - 1, w)).astype(np.uint8)
        return
    area[:] = _SWATCHES[swatch.kind]
    if swatch.kind in ("zero", "constant"):
        area[_hatch(h, w, swatch.kind == "zero")] = _ink(colors[FLAT], colors)


def _texts(canvas: NDArray[np.uint8], layout: Layout) -> None:
    for (x, y, w, h), text, style in layout.texts:
        area = canvas[y : y + h, x : x + w]
        # the ten ink steps follow the background in the palette
        np.maximum(area, mask(text, style) + np.uint8(BACKGROUND), out=area)
