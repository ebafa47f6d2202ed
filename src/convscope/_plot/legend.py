"""What the colors mean, in words: read off the tiles, so that it cannot disagree with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from convscope._plot.colors import NAN, NEG_INF, POS_INF
from convscope._plot.text import number, span
from convscope._plot.tiles import Section, Tile

Kind = Literal["bar", "zero", "constant", "nan", "+inf", "-inf", "none"]
Scope = Literal["sheet", "section", "tile", "none"]
_LISTED = 8  # more labels than this are only counted


class Entry(NamedTuple):
    """One line of the legend: a swatch (a bar has texts at both ends), and what it means."""

    kind: Kind
    text: str
    low: str = ""
    high: str = ""


def scope(sections: Sequence[Section]) -> Scope:
    """How far one range of colors reaches: the sheet, a section, or a tile."""
    spans = [_spans(section.tiles) for section in sections]
    if not any(spans):
        return "none"
    if len(set().union(*spans)) == 1:
        return "sheet"
    several = any(len(_ranged(section.tiles)) > 1 for section in sections)
    return "section" if several and all(len(s) <= 1 for s in spans) else "tile"


def _ranged(tiles: Sequence[Tile]) -> list[Tile]:
    return [tile for tile in tiles if tile.low < tile.high and not _flat_on_its_own(tile)]


def _flat_on_its_own(tile: Tile) -> bool:
    """An all-zero or constant map whose range is its own: drawn without a color."""
    return tile.state in ("zero", "constant") and _own(tile)


def _own(tile: Tile) -> bool:
    symmetric = max(abs(tile.minimum), abs(tile.maximum))
    return (tile.low, tile.high) in ((tile.minimum, tile.maximum), (-symmetric, symmetric))


def _spans(tiles: Sequence[Tile]) -> set[tuple[float, float]]:
    return {(tile.low, tile.high) for tile in _ranged(tiles)}


def section_range(section: Section, reach: Scope) -> str:
    """The range to write into a section's heading, if that is where it belongs."""
    spans = _spans(section.tiles) if reach == "section" else set()
    return f"colors {span(*spans.pop())}" if spans else ""


def tile_note(tile: Tile, reach: Scope) -> str:
    """The small print of a tile: its own note, else its state, else its range."""
    if tile.note:
        return tile.note
    if tile.state == "zero":
        return "zero"
    if tile.state == "constant":
        return f"= {number(tile.minimum)}"
    if tile.marks:
        return {NAN: "NaN", POS_INF: "∞", NEG_INF: "−∞"}[tile.marks[0]]
    return span(tile.low, tile.high) if reach == "tile" and tile.colored else ""


def legend(sections: Sequence[Section], cmap: str, noun: str, group: str) -> list[Entry]:
    """All lines of the legend."""
    tiles = [tile for section in sections for tile in section.tiles]
    reach = scope(sections)
    entries = [_bar(tiles, reach, cmap, noun, group)] if reach != "none" else []
    single = next((tile for tile in tiles if tile.colored and tile.state == "live"), None)
    if reach == "none" and single:
        entries.append(Entry("none", f"every value is {number(single.minimum)}"))
    named = len(sections) == 1 and not sections[0].matrix
    for kind, text, test in _MARKS:
        marked = [tile for tile in tiles if test(tile)]
        if marked:
            which = _which(marked, len(tiles), noun, named)
            entries.append(Entry(kind, f"{text}: {which}"))
    return entries


def _bar(tiles: Sequence[Tile], reach: Scope, cmap: str, noun: str, group: str) -> Entry:
    ranged = _ranged(tiles)
    own, signed = all(map(_own, ranged)), cmap == "signed"
    low, high = "min", "max"
    if reach == "sheet":
        low, high = number(ranged[0].low), number(ranged[0].high)
        extent = "± its largest magnitude" if signed else "its minimum to its maximum"
        one = f"the {noun}’s own range: {extent}" if own else "a given range"
        text = f"one range for every {noun}" if len(ranged) > 1 else one
    elif reach == "section":
        text = f"each {group} has one range, written in its heading"
    elif own and signed:
        low, high = "−max", "max"
        text = f"each {noun} from minus to plus its own largest magnitude"
    elif own:
        text = f"each {noun} from its own minimum to its own maximum"
    else:
        text = f"each {noun} on a range of its own, written beside it"
    if any(tile.clipped for tile in ranged):
        text += "; values outside have the end colors"
    if any(tile.pixels.ndim == 3 for tile in ranged):
        text += "; laid over the image in gray, one block per position"
    sign = "blue below 0, white = 0, red above · " if signed else ""
    return Entry("bar", f"{cmap} · {sign}{text}", low, high)


def _has(index: int) -> Callable[[Tile], bool]:
    return lambda tile: index in tile.marks


_MARKS: tuple[tuple[Kind, str, Callable[[Tile], bool]], ...] = (
    ("zero", "inactive: every value is exactly 0", lambda tile: tile.state == "zero"),
    ("constant", "constant: one value at every position", lambda tile: tile.state == "constant"),
    ("nan", "NaN, not a number", _has(NAN)),
    ("+inf", "+∞", _has(POS_INF)),
    ("-inf", "−∞", _has(NEG_INF)),
)


def _which(marked: Sequence[Tile], total: int, noun: str, named: bool) -> str:
    if named and len(marked) <= _LISTED and all(tile.label for tile in marked):
        plural = "s" if len(marked) > 1 else ""
        return f"{noun}{plural} {', '.join(tile.label for tile in marked)}"
    return f"{len(marked)} of {total}"
