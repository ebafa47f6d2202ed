"""The feature maps of one layer at one step of a training, and how they are drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._io import write_bytes
from convscope._plot import TABLES, THEMES, Range, Section, Sheet, Theme, Tile, map_tiles
from convscope._plot.colors import known
from convscope._plot.quantize import NOISE
from convscope._plot.text import span as format_range


@dataclass(frozen=True)
class FrameStyle:
    """How every frame of a watch is drawn, as for ``LayerMaps.grid``.

    Attributes:
        range: What the colors span: ``"channel"``, ``"layer"``, or a lowest and a highest value.
        cmap: The name of the color map; ``"signed"`` is centered on zero.
        columns: Number of maps in a row.
        theme: ``"light"`` or ``"dark"``.
    """

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

    def describe(self, scope: str) -> str:
        """Return what the colors span; ``scope`` names the frames."""
        if isinstance(self.range, tuple):
            return "all channels: a given range, the same in every frame"
        channels = "each channel" if self.range == "channel" else "all channels shown"
        extent = (
            "± the largest magnitude" if self.signed else "from the lowest to the highest value"
        )
        return f"{channels}: {extent} {scope}"

    def limits(self, values: ValueRange) -> list[tuple[float, float] | None]:
        """Return each channel's values at the ends of the colors; ``None`` for a constant one."""
        low, high = values.low, values.high
        if isinstance(self.range, tuple):
            return [self.range] * len(low)
        if self.range == "layer":
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        magnitude = np.maximum(np.abs(low), np.abs(high))
        varying = high - low > NOISE * magnitude  # less is rounding, not to be stretched
        if self.signed:
            low, high = -magnitude, magnitude
        pairs = zip(low.tolist(), high.tolist(), varying, strict=True)
        return [(a, b) if varies else None for a, b, varies in pairs]


@dataclass(frozen=True, eq=False)
class ValueRange:
    """The lowest and the highest value of each channel over some frames.

    Attributes:
        low: Lowest values, ``(C,)``.
        high: Highest values, ``(C,)``.
        frames: Number of frames.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    frames: int = 1

    def __or__(self, other: ValueRange) -> ValueRange:
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return ValueRange(low, high, self.frames + other.frames)


@dataclass(frozen=True, eq=False)
class WatchFrame:
    """The feature maps of one layer at one step.

    Attributes:
        step: Number of steps or epochs so far.
        label: The step in words.
        layer: The layer's path.
        image: The name of the input image.
        lines: Further lines for the figure: the layer, the model, the preprocessing.
        channels: The channels watched.
        values: Their maps, float32 ``(channels, height, width)``.
    """

    step: int
    label: str
    layer: str
    image: str
    lines: tuple[str, ...]
    channels: tuple[int, ...]
    values: NDArray[np.float32]

    @property
    def value_range(self) -> ValueRange:
        """The range of this frame's finite values."""
        finite = np.isfinite(self.values)
        low = np.where(finite, self.values, np.inf).min((1, 2)).astype(np.float64)
        high = np.where(finite, self.values, -np.inf).max((1, 2)).astype(np.float64)
        return ValueRange(low, high)

    def sheet(
        self,
        style: FrameStyle,
        value_range: ValueRange | None = None,
        scope: str = "in this frame",
    ) -> Sheet:
        """Return the maps as a figure.

        Args:
            style: How they are drawn.
            value_range: The values that colors span, so that frames can be compared; by default
                those of this frame.
            scope: The frames that ``value_range`` is of, for the legend.

        Returns:
            The figure.
        """
        limits = style.limits(value_range or self.value_range)
        noted = style.range == "channel"
        tiles = [self._tile(k, style, ends, noted) for k, ends in enumerate(limits)]
        lines = (*self.lines, f"colors of {style.describe(scope)}")
        title = f"{self.layer} · {self.label or f'step {self.step}'}"
        section = Section("", tuple(tiles), style.columns)
        return Sheet(title, lines, (section,), cmap=style.cmap, theme=style.theme)

    def _tile(
        self, index: int, style: FrameStyle, limits: tuple[float, float] | None, noted: bool
    ) -> Tile:
        """One channel; where channels have ranges of their own, with its range beside it."""
        (tile,) = map_tiles(
            self.values[index : index + 1],
            range=limits or "channel",
            signed=style.signed,
            labels=[str(self.channels[index])],
        )
        return replace(tile, note=format_range(*limits)) if limits and noted else tile

    def save(self, path: Path) -> Path:
        """Write values, channels, step and texts as ``.npz``.

        Args:
            path: The file to write.

        Returns:
            The path.
        """
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
        return write_bytes(path, file.getvalue())

    @staticmethod
    def load(path: Path) -> WatchFrame:
        """Read what ``save`` wrote.

        Args:
            path: The file to read.

        Returns:
            The frame.
        """
        with np.load(path, allow_pickle=False) as arrays:
            return WatchFrame(
                int(arrays["step"]),
                str(arrays["label"]),
                str(arrays["layer"]),
                str(arrays["image"]),
                tuple(map(str, arrays["lines"])),
                tuple(map(int, arrays["channels"])),
                arrays["values"],
            )
