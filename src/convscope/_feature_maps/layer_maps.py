"""The feature maps of one layer: numbers, and the figures made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UnknownLayer, UsageError
from convscope._io import atomic_file
from convscope._layers import Layer
from convscope._models import InputSummary, ReceptiveField, stack_slices
from convscope._plot import (
    Frame,
    Range,
    Section,
    Sheet,
    Theme,
    Tile,
    image_tile,
    map_sheet,
    map_tiles,
    overlay_tile,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The feature maps of one layer for one image.

    Attributes:
        values: float32 ``(C, H, W)``; ``(features, 1, 1)`` for a linear layer.
        layer: The layer that computed them.
        input: The image, original and preprocessed.
    """

    values: NDArray[np.float32]
    layer: Layer
    input: InputSummary

    def grid(
        self,
        *,
        first: int | None = None,
        channels: Sequence[int] | None = None,
        columns: int | None = None,
        cmap: str = "viridis",
        range: Range = "channel",
        theme: Theme = "light",
    ) -> Sheet:
        """Draw the maps as one titled grid.

        Args:
            first: Number of channels to show, from channel 0. All by default.
            channels: Channels to show, in this order, instead of ``first``.
            columns: Maps per row; by default what fills a screen.
            cmap: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
            range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
            theme: ``"light"`` or ``"dark"``.

        Raises:
            UnknownLayer: Where there is no such channel.
        """
        chosen = self.select_channels(first, channels)
        return map_sheet(
            self.values,
            self.title,
            self._lines(chosen),
            channels=chosen,
            columns=columns,
            range=range,
            cmap=cmap,
            theme=theme,
        )

    def overlay(
        self,
        *,
        first: int | None = None,
        channels: Sequence[int] | None = None,
        columns: int | None = None,
        cmap: str = "magma",
        range: Range = "channel",
        theme: Theme = "light",
    ) -> Sheet:
        """Draw the maps over the preprocessed input.

        Args:
            first: Number of channels to show, from channel 0. All by default.
            channels: Channels to show, in this order, instead of ``first``.
            columns: Maps per row; by default what fills a screen.
            cmap: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
            range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
            theme: ``"light"`` or ``"dark"``.

        Raises:
            UnknownLayer: Where there is no such channel.
        """
        chosen = self.select_channels(first, channels)
        chosen = list(np.arange(len(self.values))) if chosen is None else chosen
        if range == "layer":
            finite = self.values[np.isfinite(self.values)]
            range = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        tiles = [
            overlay_tile(
                self.input.preprocessed, self._over_input(k), str(k), cmap=cmap, range=range
            )
            for k in chosen
        ]
        lines = (*self._lines(chosen), "laid over the preprocessed input")
        section = Section("", tuple(tiles), columns)
        return Sheet(self.title, lines, (section,), cmap=cmap, theme=theme)

    def _over_input(self, channel: int) -> NDArray[np.float32]:
        """A map as it lies over the input; of a volume, slice over slice."""
        values: NDArray[np.float32] = self.values[channel]
        shape = self.layer.shape
        if not self.input.depth or shape is None or len(shape) != 4:
            return values
        slices: NDArray[np.float32] = stack_slices(values.reshape(shape[1:]), self.input.depth)
        return slices

    def receptive_field(
        self,
        y: int,
        x: int,
        field: ReceptiveField,
        *,
        channel: int | None = None,
        cmap: str = "viridis",
        theme: Theme = "light",
    ) -> Sheet:
        """Draw the receptive field of a position: outlined in the input, cropped, and on a map.

        A dashed outline is what reaches the position through global gates.

        Args:
            y: Row of the position in the map.
            x: Column of the position.
            field: The layer's receptive field at the size of the preprocessed input:
                ``model.receptive_fields((224, 224))["features.3"]``.
            channel: The map to show; by default the one with the highest activation there.
            cmap: As for ``grid``.
            theme: As for ``grid``.

        Raises:
            UnknownLayer: Where the map has no such position.
        """
        _, height, width = self.values.shape
        if not (0 <= y < height and 0 <= x < width):
            raise UnknownLayer(
                f"No position {y},{x} in {self.layer.path!r} of {self.input.model}: its maps "
                f"are {height}×{width}"
            )
        strongest = int(np.nan_to_num(self.values[:, y, x], nan=-np.inf).argmax())
        channel = strongest if channel is None else channel
        tiles = _input_with_field(self.input.preprocessed, field, y, x)
        tiles.append(self._map_with_position(channel, y, x, signed=cmap == "signed"))
        lines = [
            *self._lines([channel]),
            f"position {y},{x} of channel {channel}: {self.values[channel, y, x]:.4g}",
            f"receptive field {field.describe()}",
        ]
        section = Section("", tuple(tiles), len(tiles))
        return Sheet(self.title, tuple(lines), (section,), cmap=cmap, theme=theme)

    def _map_with_position(self, channel: int, y: int, x: int, signed: bool) -> Tile:
        """The map of a channel with the position outlined."""
        (tile,) = map_tiles(self.values, channels=[channel], signed=signed)
        return replace(tile, label=f"channel {channel}", frames=(Frame(y, x, y + 1, x + 1),))

    def strongest(self, count: int) -> list[int]:
        """Rank the channels by their highest activation.

        Args:
            count: Number of channels.

        Returns:
            Channel numbers, the highest first; NaN counts as lowest.
        """
        peaks = np.nan_to_num(self.values, nan=-np.inf).max((1, 2))
        return [int(channel) for channel in np.argsort(-peaks, kind="stable")[:count]]

    def plot(self, **options: Any) -> Figure:
        """Draw the grid as a matplotlib ``Figure``.

        Args:
            options: Arguments of ``grid``.
        """
        return self.grid(**options).plot()

    def save(self, path: str | Path) -> Path:
        """Write the grid (.png, .webp, .jpg, .svg, .pdf) or the numbers (.npz).

        The ``.npz`` holds ``values``, and ``model``, ``layer`` and ``image`` as text.

        Args:
            path: The file; its ending decides the format.

        Returns:
            The path.
        """
        path = Path(path)
        if path.suffix != ".npz":
            return self.grid().save(path)
        texts: dict[str, Any] = {
            "model": self.input.model,
            "layer": self.layer.path,
            "image": self.input.name,
        }
        with atomic_file(path) as file:
            np.savez_compressed(file, values=self.values, **texts)
        return path

    def _repr_html_(self) -> str:
        return self.grid()._repr_html_()

    def __repr__(self) -> str:
        return f"LayerMaps({self.title}, of {self.input.name})"

    @property
    def title(self) -> str:
        """``conv1 · Conv2d 16×28×28``, for figures."""
        shape = "×".join(map(str, self.values.shape))
        return f"{self.layer.path} · {self.layer.kind} {shape}"

    def _lines(self, chosen: Sequence[int] | None) -> list[str]:
        model = f"model {self.input.model}"
        if chosen is not None and len(chosen) < len(self.values):
            model += f" · {len(chosen)} of {len(self.values)} channels"
        return [model, *self.input.lines, *_layout_lines(self.layer)]

    def select_channels(
        self, first: int | None, channels: Sequence[int] | None
    ) -> list[int] | None:
        """Check which channels to draw.

        Args:
            first: Number of channels, from channel 0.
            channels: Channels in this order, instead of ``first``.

        Returns:
            Channel numbers; ``None`` for all.

        Raises:
            UsageError: Where both are given, or ``first`` is below 1.
            UnknownLayer: Where there is no such channel.
        """
        if first is not None and channels is not None:
            raise UsageError("Give either first= or channels=, not both")
        if first is not None:
            if first < 1:
                raise UsageError(f"first={first} shows no map. Nearest: 1")
            return list(range(min(first, len(self.values))))
        for channel in channels or ():
            if not 0 <= channel < len(self.values):
                raise UnknownLayer(
                    f"No channel {channel} in {self.layer.path!r} of {self.input.model}: it has "
                    f"{len(self.values)}, 0 to {len(self.values) - 1}"
                )
        return None if channels is None else list(channels)


def _input_with_field(
    pixels: NDArray[np.uint8], field: ReceptiveField, y: int, x: int
) -> list[Tile]:
    """The input with a receptive field outlined, and its crop."""
    top, left, bottom, right = local = field.box(y, x)
    if bottom <= top or right <= left:  # a position in the padding
        return [image_tile(pixels, "preprocessed input", "the receptive field is all padding")]
    exact = field.box(y, x, local=False)
    gates = (Frame(*exact, dashed=True),) if exact != local else ()
    where = f"rows {top}–{bottom - 1}, columns {left}–{right - 1}"
    whole = image_tile(pixels, "preprocessed input", where)
    cut = image_tile(pixels[top:bottom, left:right], "receptive field")
    return [replace(whole, frames=(*gates, Frame(*local))), cut]


def _layout_lines(layer: Layer) -> list[str]:
    """Notes on how a layer's output became maps."""
    lines = []
    if layer.shape is not None and len(layer.shape) > 3:
        *slices, height, width = layer.shape[1:]
        number = "×".join(map(str, slices))
        lines.append(f"each map is {number} slices of {height}×{width}, stacked top to bottom")
    if layer.apart:
        tokens = "1 token that has" if layer.apart == 1 else f"{layer.apart} tokens that have"
        lines.append(f"without {tokens} no place on the grid (class tokens, registers, padding)")
    return lines
