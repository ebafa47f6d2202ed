"""One moment: the feature maps of a layer after so many steps, and how they are drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._plot import TABLES, THEMES, Range, Section, Sheet, Theme, Tile, map_tiles
from convscope._plot.colors import known
from convscope._plot.output import write
from convscope._plot.quantize import NOISE
from convscope._plot.text import span as span_text


@dataclass(frozen=True)
class Style:
    """How every frame of a watch is drawn; as for ``LayerMaps.grid``."""

    range: Range = "channel"
    cmap: str = "viridis"
    columns: int | None = None
    theme: Theme = "light"

    def __post_init__(self) -> None:
        known("color map", self.cmap, TABLES)
        known("theme", self.theme, THEMES)
        map_tiles(np.zeros((1, 1, 1)), range=self.range, signed=self.signed)  # for its errors

    @property
    def signed(self) -> bool:
        """Whether colors are centered on zero."""
        return self.cmap == "signed"

    def meaning(self, when: str) -> str:
        """What colors span, in words; ``when`` says in which frames."""
        if isinstance(self.range, tuple):
            return "all channels: a given range, the same in every frame"
        whose = "each channel" if self.range == "channel" else "all channels shown"
        extent = (
            "± the largest magnitude" if self.signed else "from the lowest to the highest value"
        )
        return f"{whose}: {extent} {when}"

    def ends(self, span: Span) -> list[tuple[float, float] | None]:
        """The values at the ends of each channel's colors; ``None`` where nothing varies."""
        low, high = span.low, span.high
        if isinstance(self.range, tuple):
            return [self.range] * len(low)
        if self.range == "layer":
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        largest = np.maximum(np.abs(low), np.abs(high))
        varies = high - low > NOISE * largest  # else it would be noise that is stretched
        if self.signed:
            low, high = -largest, largest
        pairs = zip(low.tolist(), high.tolist(), varies, strict=True)
        return [(a, b) if varied else None for a, b, varied in pairs]


@dataclass(frozen=True, eq=False)
class Span:
    """The lowest and the highest value of each channel over ``frames`` frames."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    frames: int = 1

    def __or__(self, other: Span) -> Span:
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Span(low, high, self.frames + other.frames)


@dataclass(frozen=True, eq=False)
class Frame:
    """The feature maps of one layer at one moment.

    - ``step``: how many steps or epochs had been; ``label``: in words.
    - ``layer``: its path; ``image``: the picture's name; ``lines``: what else has to be said.
    - ``values``: float32 ``(channels, height, width)`` of ``channels``, the ones watched.
    """

    step: int
    label: str
    layer: str
    image: str
    lines: tuple[str, ...]
    channels: tuple[int, ...]
    values: NDArray[np.float32]

    @property
    def span(self) -> Span:
        """Of this frame alone; NaN and infinity count for nothing."""
        finite = np.isfinite(self.values)
        low = np.where(finite, self.values, np.inf).min((1, 2)).astype(np.float64)
        return Span(low, np.where(finite, self.values, -np.inf).max((1, 2)).astype(np.float64))

    def sheet(self, style: Style, span: Span | None = None, when: str = "here") -> Sheet:
        """The picture; colors span what ``span`` says, the same in every frame drawn with it.

        ``when`` says which frames these are.
        """
        ends = style.ends(span or self.span)
        own = style.range == "channel"
        tiles = [self._tile(k, style, end, noted=own) for k, end in enumerate(ends)]
        lines = (*self.lines, f"colors of {style.meaning(when)}")
        title = f"{self.layer} · {self.label or f'step {self.step}'}"
        section = Section("", tuple(tiles), style.columns)
        return Sheet(title, lines, (section,), cmap=style.cmap, theme=style.theme)

    def _tile(
        self, index: int, style: Style, ends: tuple[float, float] | None, noted: bool
    ) -> Tile:
        """One channel, by default on a range of its own, which is written beside it."""
        (tile,) = map_tiles(
            self.values[index : index + 1],
            range=ends or "channel",
            signed=style.signed,
            labels=[str(self.channels[index])],
        )
        return replace(tile, note=span_text(*ends)) if ends and noted else tile

    def save(self, path: Path) -> Path:
        """Write the numbers as ``.npz``: ``values``, ``channels``, ``step``, and texts."""

        def content() -> bytes:
            file = io.BytesIO()
            np.savez_compressed(
                file,
                values=self.values,
                channels=np.array(self.channels),
                step=self.step,
                label=self.label,
                layer=self.layer,
                image=self.image,
                lines=np.array(self.lines),
            )
            return file.getvalue()

        return write(path, content)

    @staticmethod
    def load(path: Path) -> Frame:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as held:
            return Frame(
                int(held["step"]),
                str(held["label"]),
                str(held["layer"]),
                str(held["image"]),
                tuple(map(str, held["lines"])),
                tuple(map(int, held["channels"])),
                held["values"],
            )
