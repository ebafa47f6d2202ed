"""The sheet: the figure that everything is drawn as, from a grid of maps to a contact sheet."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from PIL import Image

from convscope._errors import UsageError
from convscope._io import write_bytes
from convscope._plot import output
from convscope._plot.colors import TABLES, THEMES, Theme, known
from convscope._plot.draw import draw
from convscope._plot.layout import Layout, lay_out
from convscope._plot.legend import legend
from convscope._plot.quantize import Range
from convscope._plot.tiles import Section, map_tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Sheet:
    """A titled figure of tiles with a legend of its colors.

    The legend is read off the tiles, so that it cannot disagree with them.

    Args:
        title: What is shown: layer, shape.
        lines: Model, input, and notes, one statement each.
        sections: Blocks of tiles, one below the other.
        cmap: Color map of all tiles that are maps: viridis, magma, gray, signed.
        theme: ``"light"`` or ``"dark"``.
        cell: Longest side of a tile in pixels to aim at (whole factors only); by default maps are
            never reduced, and enlarged so that the sheet fills a screen.
        noun: What a tile is, for the legend's sentences.
        group: What a section is, likewise.

    Raises:
        UsageError: Where there is nothing to draw, or ranges do not suit the color map.
    """

    title: str
    lines: tuple[str, ...]
    sections: tuple[Section, ...]
    cmap: str = "viridis"
    theme: Theme = "light"
    cell: int | None = None
    noun: str = "channel"
    group: str = "layer"

    def __post_init__(self) -> None:
        known("color map", self.cmap, TABLES)
        known("theme", self.theme, THEMES)
        if not self.title.strip() or isinstance(self.lines, str):
            raise UsageError("A sheet needs a title, and its lines as a tuple. Name the layer.")
        if not self.sections:
            raise UsageError(f"Sheet {self.title!r} has no sections. Give at least one.")
        if self.cell is not None and self.cell < 1:
            raise UsageError(f"A cell has 1 pixel or more, not {self.cell}. Nearest: 1.")
        for tile in (tile for section in self.sections for tile in section.tiles):
            if self.cmap == "signed" and tile.colored and tile.low != -tile.high:
                raise UsageError(
                    f"Color map 'signed' needs ranges centered on zero, not {tile.low:g} to "
                    f"{tile.high:g}. Make the tiles with signed=True."
                )

    @cached_property
    def layout(self) -> Layout:
        """Where every tile and text is, in pixels."""
        return lay_out(
            self.title,
            self.lines,
            self.sections,
            cmap=self.cmap,
            cell=self.cell,
            noun=self.noun,
            group=self.group,
        )

    @cached_property
    def image(self) -> Image.Image:
        """The pixels: mode P (indices and a palette) where all tiles are maps, else RGB."""
        return draw(self.layout, self.cmap, self.theme)

    @property
    def description(self) -> str:
        """All of its words but the title, one statement a line: the subtitle and the legend."""
        entries = legend(self.sections, self.cmap, self.noun, self.group)
        colors = [
            " ".join(filter(None, (e.low, "…" * bool(e.low), e.high, e.text))) for e in entries
        ]
        return "\n".join([*self.lines, *colors])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure; missing folders are made.

        Args:
            path: A .png, .webp, .jpg, .svg or .pdf file; the ending decides the format.

        Returns:
            The path.

        Raises:
            UsageError: Where the ending is unknown.
        """
        target = Path(path)
        ending = output.ending_of(target)
        if ending == ".png":
            return write_bytes(target, self._repr_png_())
        if ending in output.VECTOR:
            data = output.vector(self.layout, self.cmap, self.theme, self.title, ending)
            return write_bytes(target, data)
        return write_bytes(target, output.encoded(self.image, ending))

    def plot(self) -> Figure:
        """Draw the sheet as a matplotlib ``Figure`` (no pyplot state is touched)."""
        return output.figure(self.layout, self.cmap, self.theme)

    def _repr_png_(self) -> bytes:
        enlarged = any(placed.scale > 1 for placed in self.layout.tiles)
        return output.png(self.image, self.title, self.description, enlarged=enlarged)

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._repr_png_()).decode()
        alt = html.escape(" · ".join([self.title, *self.description.splitlines()]), quote=True)
        size = f"width:{self.layout.width}px;max-width:100%"
        return f'<img style="{size}" alt="{alt}" src="data:image/png;base64,{data}">'


def map_sheet(
    values: NDArray[Any],
    title: str,
    lines: Sequence[str] = (),
    *,
    channels: Sequence[int] | None = None,
    columns: int | None = None,
    range: Range = "channel",
    cmap: str = "viridis",
    theme: Theme = "light",
    labels: Sequence[str] | None = None,
) -> Sheet:
    """Draw the feature maps of one layer as a grid.

    Args:
        values: ``(C, H, W)``.
        title: What is shown.
        lines: Model, input, and notes, one statement each.
        channels: Channels to show, in this order; all by default.
        columns: Maps per row; by default what fills a screen.
        range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
        cmap: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
        theme: ``"light"`` or ``"dark"``.
        labels: One label per map instead of the channel numbers.

    Raises:
        UsageError: Where the shape, the range, a channel or a name does not suit.
    """
    known("color map", cmap, TABLES)
    tiles = map_tiles(
        values, channels=channels, range=range, signed=cmap == "signed", labels=labels
    )
    section = Section("", tuple(tiles), columns)
    return Sheet(title, tuple(lines), (section,), cmap=cmap, theme=theme)
