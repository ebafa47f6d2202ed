"""Where everything goes: boxes in pixels, before anything is drawn.

Both renderers (the raster one and matplotlib's) read the same ``Layout``, and so do the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from convscope._plot.grid import (
    LEAST_WIDTH,
    GridLayout,
    Scale,
    grid_layout,
    matrix_layout,
    scale_text,
    target,
)
from convscope._plot.legend import Entry, Kind, Scope, legend, scope, section_range
from convscope._plot.text import fit, height, width, wrap
from convscope._plot.tiles import Section, Tile

MARGIN = 20
MOST_SIDE = 12_000
MOST_PIXELS = 64_000_000
BAR = (120, 10)
SWATCH = 11


class Box(NamedTuple):
    """Left, top, width, height in pixels."""

    x: int
    y: int
    w: int
    h: int


class Text(NamedTuple):
    """A line of text that fits its box."""

    box: Box
    text: str
    style: str


class PlacedTile(NamedTuple):
    """A tile on the sheet; ``scale`` 4 is ×4, −2 is 1:2."""

    box: Box
    tile: Tile
    scale: Scale


class Swatch(NamedTuple):
    """A sample in the legend."""

    box: Box
    kind: Kind


class Layout(NamedTuple):
    """A whole sheet."""

    width: int
    height: int
    tiles: list[PlacedTile]
    texts: list[Text]
    swatches: list[Swatch]


def lay_out(
    title: str,
    lines: Sequence[str],
    sections: Sequence[Section],
    *,
    cmap: str,
    cell: int | None,
    noun: str,
    group: str,
) -> Layout:
    """Place everything; where the sheet would be too large for a file, reduce its tiles."""
    reach = scope(sections)
    entries = legend(sections, cmap, noun, group)
    shrink = 1
    while True:
        grids = _grids(sections, reach, cell, shrink)
        layout = _place(title, lines, sections, grids, entries, reach)
        small = max(layout.width, layout.height) <= MOST_SIDE
        if (small and layout.width * layout.height <= MOST_PIXELS) or shrink >= 64:
            return layout
        shrink += 1


def _grids(
    sections: Sequence[Section], reach: Scope, cell: int | None, shrink: int
) -> list[GridLayout]:
    total = sum(len(section.tiles) for section in sections if not section.matrix)
    aim = cell or target(total)
    alone = len(sections) == 1
    grids = [
        matrix_layout(section, shrink)
        if section.matrix
        else grid_layout(section, reach, aim, shrink, exact=cell is not None, alone=alone)
        for section in sections
    ]
    return _aligned(grids)


def _aligned(grids: list[GridLayout]) -> list[GridLayout]:
    """Give grids of nearly equal cells the same columns, so that depths stand below each other."""
    cells = [across for grid in grids if not grid.matrix for across in grid.across]
    if sum(not grid.matrix for grid in grids) < 2 or max(cells) > 1.5 * min(cells):
        return grids
    common = max(cells)
    return [
        grid if grid.matrix else grid._replace(across=[common] * grid.columns, gap=8)
        for grid in grids
    ]


def _place(
    title: str,
    lines: Sequence[str],
    sections: Sequence[Section],
    grids: Sequence[GridLayout],
    entries: Sequence[Entry],
    reach: Scope,
) -> Layout:
    room = max(LEAST_WIDTH, *(grid.width for grid in grids))
    page = _Page(room)
    page.paragraph(title, "title", max_lines=2)
    page.space(2)
    scales = {scale for grid in grids for scale in grid.scales}
    strips = any(tile.repeats > 1 for section in sections for tile in section.tiles)
    drawn = ["each line of values is drawn as a strip"] if strips else []
    for line in [*lines, *drawn, *([scale_text(*scales)] if len(scales) == 1 else [])]:
        page.paragraph(line, "line")
    page.space(6 if entries else 0)
    page.legend(entries)
    for section, grid in zip(sections, grids, strict=True):
        page.space(14)
        own = len(set(grid.scales)) == 1 and len(scales) > 1
        details = [scale_text(grid.scales[0])] if own else []
        details.append(section_range(section, reach))
        page.heading(section.heading, " · ".join(filter(None, details)))
        page.grid(section, grid)
    return Layout(room + 2 * MARGIN, page.y + MARGIN, page.tiles, page.texts, page.swatches)


class _Page:
    """A pen that moves down the sheet."""

    def __init__(self, room: int) -> None:
        self.room, self.y = room, MARGIN - 4
        self.tiles: list[PlacedTile] = []
        self.texts: list[Text] = []
        self.swatches: list[Swatch] = []

    def space(self, pixels: int) -> None:
        self.y += pixels

    def write(self, text: str, style: str, x: int, y: int) -> int:
        """One line at ``x``; the x after it."""
        across = width(text, style)
        if text:
            self.texts.append(Text(Box(x, y, across, height(style)), text, style))
        return x + across

    def paragraph(self, text: str, style: str, max_lines: int = 4, indent: int = 0) -> None:
        for line in wrap(text, style, self.room - indent, max_lines):
            self.write(line, style, MARGIN + indent, self.y)
            self.y += height(style) + 2

    def legend(self, entries: Sequence[Entry]) -> None:
        """The bar on a line of its own; the marks behind one another as far as there is room."""
        x, end, step = MARGIN, MARGIN + self.room, height("legend") + 4
        for entry in entries:
            if entry.kind == "bar":
                self._bar(entry)
                continue
            taken = SWATCH + 7 if entry.kind != "none" else 0
            if x > MARGIN and x + taken + width(entry.text, "legend") > end:
                x, self.y = MARGIN, self.y + step
            if taken:
                top = self.y + (height("legend") - SWATCH) // 2
                self.swatches.append(Swatch(Box(x, top, SWATCH, SWATCH), entry.kind))
            text = fit(entry.text, "legend", end - x - taken)
            x = self.write(text, "legend", x + taken, self.y) + 22
        self.y += step if x > MARGIN else 0

    def _bar(self, entry: Entry) -> None:
        style, line = "legend", height("legend")
        x = self.write(entry.low, style, MARGIN, self.y) + 6
        self.swatches.append(Swatch(Box(x, self.y + (line - BAR[1]) // 2, *BAR), "bar"))
        x = self.write(entry.high, style, x + BAR[0] + 6, self.y) + 14
        if x + width(entry.text, style) > MARGIN + self.room:
            self.y, x = self.y + line + 3, MARGIN
        self.paragraph(entry.text, style, indent=x - MARGIN)
        self.y += 2

    def heading(self, text: str, detail: str) -> None:
        """The heading in bold, and its details behind it, or below if too long."""
        if not (text or detail):
            return
        name = fit(text, "heading", self.room)
        x = self.write(name, "heading", MARGIN, self.y) + (12 if name else 0)
        drop = height("heading") - height("detail") - 1
        if name and detail and x + width(detail, "detail") <= MARGIN + self.room:
            self.write(detail, "detail", x, self.y + drop)
            detail = ""
        self.y += height("heading") + 3 if name else 0
        self.paragraph(detail, "detail")
        self.y += 3

    def grid(self, section: Section, grid: GridLayout) -> None:
        left, top = MARGIN + grid.left, self.y + grid.top
        self._names(section, grid, left, top)
        lefts, tops = grid.starts
        for number, tile in enumerate(section.tiles):
            row, column = divmod(number, grid.columns)
            x, y = left + lefts[column], top + tops[row]
            h, w = grid.sizes[number]
            self.tiles.append(PlacedTile(Box(x, y + grid.strip, w, h), tile, grid.scales[number]))
            if grid.strip:
                self._caption(tile.label, grid.notes[number], grid, Box(x, y, w, h), column)
        self.y += grid.height

    def _caption(self, label: str, note: str, grid: GridLayout, tile: Box, column: int) -> None:
        x, y, room = tile.x, tile.y, grid.across[column]
        end = self.write(fit(label, "label", room), "label", x, y)
        needed = end + (6 if label else 0) + width(note, "note")
        if grid.below:
            self.write(fit(note, "note", room), "note", x, y + height("label"))
        elif needed <= x + room:  # right-aligned with its tile where that is wide enough
            drop = height("label") - height("note") - 1
            self.write(note, "note", max(needed, x + tile.w) - width(note, "note"), y + drop)

    def _names(self, section: Section, grid: GridLayout, left: int, top: int) -> None:
        """Row names at the left, column names on top; every n-th where they would collide."""
        lefts, tops = grid.starts
        step, line = grid.across[0] + grid.gap, height("note")
        widest = max((width(name, "note") for name in section.heads), default=0)
        every = 1 if step >= 40 else -(-(widest + 4) // step)
        for column in range(0, min(grid.columns, len(section.heads)), max(1, every)):
            name = fit(section.heads[column], "note", max(step - 4, widest if every > 1 else 0))
            if grid.left + lefts[column] + width(name, "note") <= grid.width + MARGIN // 2:
                self.write(name, "note", left + lefts[column], top - line - 1)
        every = -(-line // (grid.down[0] + grid.gap))
        for row in range(0, min(len(grid.down), len(section.rows)), every):
            name = fit(section.rows[row], "note", grid.left - 5)
            y = top + tops[row] + (grid.down[0] - line) // 2
            self.write(name, "note", left - 5 - width(name, "note"), y)
