"""How large tiles are shown, and how many stand in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from convscope._plot.legend import Scope, tile_note
from convscope._plot.text import height, width
from convscope._plot.tiles import Section, Tile

Scale = int  # 4 is ×4 (nearest neighbor), −2 is 1:2 (mean), 1 is pixel for pixel; never 0 or −1

LEAST_WIDTH = 400  # of the content: a title must be readable over a 28-pixel tile as well
_ASPECT = 1.45  # between 4:3 and 16:10
_AREA = 1200 * 850
_SMALLEST, _LARGEST = 28, 224  # longest side of an enlarged tile
_PHOTO = 512  # images larger than this are reduced; maps never are, unless the sheet is too large
_MOST_ENLARGED = 32
_ROW = 1200  # pixels across, where several sections share a sheet
_MATRIX = 1000
_LABEL_ROOM = 150  # no label widens its cell beyond this


class GridLayout(NamedTuple):
    """The measures of one section, in pixels."""

    across: Sequence[int]  # width of each column
    down: Sequence[int]  # height of each row's tiles
    gap: int
    strip: int  # above each tile, for its caption
    below: bool  # notes stand below the labels, not beside them
    notes: Sequence[str]
    scales: Sequence[Scale]
    sizes: Sequence[tuple[int, int]]  # height, width of each tile as shown
    left: int = 0  # room for row names
    top: int = 0  # room for column names
    matrix: bool = False

    @property
    def columns(self) -> int:
        return len(self.across)

    @property
    def width(self) -> int:
        return self.left + sum(self.across) + self.gap * (self.columns - 1)

    @property
    def height(self) -> int:
        rows = len(self.down)
        return self.top + sum(self.down) + self.strip * rows + self.gap * (rows - 1)

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """Where columns and rows begin, from the grid's own corner."""
        steps = [width + self.gap for width in self.across]
        drops = [self.strip + height + self.gap for height in self.down]
        return list(accumulate(steps, initial=0)), list(accumulate(drops, initial=0))


def target(count: int) -> int:
    """The side to aim at for each of ``count`` tiles, so that all of them make one screen."""
    return int(min(max(math.sqrt(_AREA / max(1, count)), _SMALLEST), _LARGEST))


def scale_text(scale: Scale) -> str:
    """How a scale is stated on the sheet; pixel for pixel needs no words."""
    if scale == 1:
        return ""
    if scale > 1:
        return f"shown ×{scale}, nearest neighbor"
    return f"shown at 1:{-scale}, mean of {-scale}×{-scale}"


def shown(size: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """Height and width on the sheet; a rest block at the edge counts as a whole one."""
    if scale > 0:
        return size[0] * scale, size[1] * scale
    return -(size[0] // scale), -(size[1] // scale)


def shown_side(side: int, scale: Scale) -> int:
    """Where a pixel edge of a tile falls on the sheet, from the tile's own corner."""
    return side * scale if scale > 0 else side // -scale


def grid_layout(
    section: Section, reach: Scope, aim: int, shrink: int, *, exact: bool, alone: bool
) -> GridLayout:
    """Measure a section of captioned tiles; ``exact``: never longer than ``aim``."""
    tiles = section.tiles
    scales = [_shrunk(_scale(tile, aim, exact), shrink) for tile in tiles]
    sizes = [shown(tile.size, scale) for tile, scale in zip(tiles, scales, strict=True)]
    notes = _notes(tiles, scales, reach)
    cells = [
        max(w, min(width(tile.label, "label"), _LABEL_ROOM))
        for tile, (_, w) in zip(tiles, sizes, strict=True)
    ]
    below, strip = _strip(tiles, notes, cells)
    gap = 8 if max(cells) >= 40 else 5
    pitch = (max(cells) + gap, max(h for h, _ in sizes) + strip + gap)
    fitting = max(1, (_ROW + gap) // pitch[0])
    columns = section.columns or (balanced(len(tiles), *pitch) if alone else fitting)
    columns = min(columns, len(tiles))
    same = len(set(sizes)) == 1
    across = [max(cells if same else cells[column::columns]) for column in range(columns)]
    rows = (sizes[start : start + columns] for start in range(0, len(sizes), columns))
    down = [max(h for h, _ in row) for row in rows]
    return GridLayout(across, down, gap, strip, below, notes, scales, sizes)


def matrix_layout(section: Section, shrink: int) -> GridLayout:
    """Measure a dense section whose rows and columns are named."""
    columns = section.columns or len(section.heads) or len(section.tiles)
    rows = -(-len(section.tiles) // columns)
    longest = max(max(tile.size) for tile in section.tiles)
    fits = (_MATRIX // max(columns, rows) - 2) // longest
    scale = _shrunk(max(1, min(fits, _MOST_ENLARGED // 2)), shrink)
    sizes = [shown(tile.size, scale) for tile in section.tiles]
    across, down = [max(w for _, w in sizes)] * columns, [max(h for h, _ in sizes)] * rows
    count = len(sizes)
    names = max((width(name, "note") for name in section.rows), default=-5)
    left = min(names, _LABEL_ROOM) + 5
    # row names are centered on rows that may be lower than they are
    top = height("note") + 1 if section.heads else height("note") // 2 * bool(section.rows)
    notes, scales = [""] * count, [scale] * count
    return GridLayout(across, down, 2, 0, False, notes, scales, sizes, left, top, True)


def balanced(count: int, across: int, down: int) -> int:
    """Columns for ``count`` cells: near 1.45 wide to high, and few places left empty."""

    def ugliness(columns: int) -> float:
        rows = -(-count // columns)
        empty = rows * columns - count
        shape = abs(math.log(columns * across / (rows * down * _ASPECT)))
        return shape + 1.5 * empty / (rows * columns) + (0.1 if empty else 0)

    fill = min(count, LEAST_WIDTH // across)  # the words take that much width anyway
    ideal = math.sqrt(count * _ASPECT * down / across)
    fewest, largest = max(1, fill, int(ideal / 2)), min(count, int(ideal * 2) + 1)
    return min(range(min(fewest, largest), largest + 1), key=ugliness)


def _scale(tile: Tile, aim: int, exact: bool) -> Scale:
    longest = max(tile.size)
    if longest <= aim:
        return min(aim // longest, _MOST_ENLARGED)
    limit = aim if exact else max(aim, _PHOTO)
    is_map = tile.pixels.ndim == 2
    if longest <= limit or (is_map and not exact):
        return 1
    return -math.ceil(longest / limit)


def _shrunk(scale: Scale, shrink: int) -> Scale:
    """The scale, ``shrink`` times smaller."""
    if scale < 0:
        return scale * shrink
    if scale >= shrink:
        return scale // shrink
    return -math.ceil(shrink / scale)


def _notes(tiles: Sequence[Tile], scales: Sequence[Scale], reach: Scope) -> list[str]:
    notes = [tile_note(tile, reach) for tile in tiles]
    if len(set(scales)) == 1:
        return notes
    return [
        " · ".join(filter(None, (note, _short(scale))))
        for note, scale in zip(notes, scales, strict=True)
    ]


def _short(scale: Scale) -> str:
    return f"×{scale}" if scale > 1 else (f"1:{-scale}" if scale < 0 else "1:1")


def _strip(tiles: Sequence[Tile], notes: Sequence[str], cells: Sequence[int]) -> tuple[bool, int]:
    """Whether notes stand below labels, and the height of the caption."""
    beside = all(
        width(tile.label, "label") + 6 + width(note, "note") <= across
        for tile, note, across in zip(tiles, notes, cells, strict=True)
        if note
    )
    one = height("label") + 1 if any(notes) or any(tile.label for tile in tiles) else 0
    if beside or not any(notes):
        return False, one
    fits = all(width(note, "note") <= across for note, across in zip(notes, cells, strict=True))
    named = any(tile.note for tile in tiles)  # what the caller wrote is never dropped
    return (True, one + height("note")) if fits or named else (False, one)
