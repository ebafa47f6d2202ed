"""The feature maps of one layer, as pictures and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UnknownLayer, UsageError
from convscope._layers import Layer
from convscope._models import InputSummary, ReceptiveField, stacked
from convscope._plot import (
    Frame,
    Range,
    Section,
    Sheet,
    Theme,
    Tile,
    map_sheet,
    map_tiles,
    overlay_tile,
    picture_tile,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The feature maps of one layer.

    - ``values``: float32 ``(channels, height, width)``; a linear layer's are ``(features, 1, 1)``.
    - ``layer``: where they come from; ``specimen``: of what.
    """

    values: NDArray[np.float32]
    layer: Layer
    specimen: InputSummary

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
        """The maps as one titled picture.

        - ``first``: so many, from channel 0; ``channels``: these; by default all.
        - ``columns``: maps in a row; by default what suits a screen.
        - ``cmap``: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
        - ``range``: colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
        - ``theme``: ``"light"`` or ``"dark"``.
        """
        chosen = self._chosen(first, channels)
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
        """The maps laid over what the model sees; arguments as for ``grid``."""
        chosen = self._chosen(first, channels)
        chosen = list(np.arange(len(self.values))) if chosen is None else chosen
        if range == "layer":
            finite = self.values[np.isfinite(self.values)]
            range = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        tiles = [
            overlay_tile(self.specimen.preprocessed, self._over(k), str(k), cmap=cmap, range=range)
            for k in chosen
        ]
        lines = (*self._lines(chosen), "laid over what the model sees")
        section = Section("", tuple(tiles), columns)
        return Sheet(self.title, lines, (section,), cmap=cmap, theme=theme)

    def _over(self, channel: int) -> NDArray[np.float32]:
        """A map as it lies over the picture: of a volume, slice over slice."""
        values: NDArray[np.float32] = self.values[channel]
        shape = self.layer.shape
        if not self.specimen.depth or shape is None or len(shape) != 4:
            return values
        over: NDArray[np.float32] = stacked(values.reshape(shape[1:]), self.specimen.depth)
        return over

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
        """What position ``(y, x)`` of the layer looks at: framed, cut out, and on a map.

        ``field`` is the layer's, at the size the picture was seen at:
        ``model.receptive_fields((224, 224))["features.3"]``. ``channel`` is the map to show, by
        default the one that answers most strongly there. A broken frame is what reaches the
        position through global gates.
        """
        _, height, width = self.values.shape
        if not (0 <= y < height and 0 <= x < width):
            raise UnknownLayer(
                f"No position {y},{x} in {self.layer.path!r} of {self.specimen.model}: its maps "
                f"are {height}×{width}"
            )
        strongest = int(np.nan_to_num(self.values[:, y, x], nan=-np.inf).argmax())
        channel = strongest if channel is None else channel
        tiles = _framed(self.specimen.preprocessed, field, y, x)
        tiles.append(self._pointed(channel, y, x, signed=cmap == "signed"))
        lines = [
            *self._lines([channel]),
            f"position {y},{x} of channel {channel}: {self.values[channel, y, x]:.4g}",
            f"receptive field {field.describe()}",
        ]
        section = Section("", tuple(tiles), len(tiles))
        return Sheet(self.title, tuple(lines), (section,), cmap=cmap, theme=theme)

    def _pointed(self, channel: int, y: int, x: int, signed: bool) -> Tile:
        """The map of a channel, the position framed."""
        (tile,) = map_tiles(self.values, channels=[channel], signed=signed)
        return replace(tile, label=f"channel {channel}", frames=(Frame(y, x, y + 1, x + 1),))

    def strongest(self, count: int) -> list[int]:
        """The channels with the highest peaks, strongest first; NaN counts as lowest."""
        peaks = np.nan_to_num(self.values, nan=-np.inf).max((1, 2))
        return [int(channel) for channel in np.argsort(-peaks, kind="stable")[:count]]

    def plot(self, **options: Any) -> Figure:
        """``grid(**options)`` as a matplotlib ``Figure``."""
        return self.grid(**options).plot()

    def save(self, path: str | Path) -> Path:
        """Write the grid (.png, .webp, .jpg, .svg, .pdf) or its numbers (.npz).

        The ``.npz`` holds ``values``, and ``model``, ``layer`` and ``image`` as text.
        """
        path = Path(path)
        if path.suffix != ".npz":
            return self.grid().save(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                values=self.values,
                model=self.specimen.model,
                layer=self.layer.path,
                image=self.specimen.name,
            )
        return temporary.replace(path)

    def _repr_html_(self) -> str:
        return self.grid()._repr_html_()

    def __repr__(self) -> str:
        return f"LayerMaps({self.title}, of {self.specimen.name})"

    @property
    def title(self) -> str:
        """``conv1 · Conv2d 16×28×28``, for pictures."""
        shape = "×".join(map(str, self.values.shape))
        return f"{self.layer.path} · {self.layer.kind} {shape}"

    def _lines(self, chosen: Sequence[int] | None) -> list[str]:
        model = f"model {self.specimen.model}"
        if chosen is not None and len(chosen) < len(self.values):
            model += f" · {len(chosen)} of {len(self.values)} channels"
        return [model, *self.specimen.lines, *_layout_lines(self.layer)]

    def _chosen(self, first: int | None, channels: Sequence[int] | None) -> list[int] | None:
        if first is not None and channels is not None:
            raise UsageError("Give either first= or channels=, not both")
        if first is not None:
            if first < 1:
                raise UsageError(f"first={first} shows nothing. Nearest: 1")
            return list(range(min(first, len(self.values))))
        for channel in channels or ():
            if not 0 <= channel < len(self.values):
                raise UnknownLayer(
                    f"No channel {channel} in {self.layer.path!r} of {self.specimen.model}: it has "
                    f"{len(self.values)}, 0 to {len(self.values) - 1}"
                )
        return None if channels is None else list(channels)


def _framed(seen: NDArray[np.uint8], field: ReceptiveField, y: int, x: int) -> list[Tile]:
    """The input with what a position looks at framed, and cut out."""
    top, left, bottom, right = local = field.box(y, x)
    if bottom <= top or right <= left:  # a position in the padding
        return [picture_tile(seen, "what the model sees", "this position sees none of it")]
    exact = field.box(y, x, local=False)
    gates = (Frame(*exact, dashed=True),) if exact != local else ()
    where = f"rows {top}–{bottom - 1}, columns {left}–{right - 1}"
    whole = picture_tile(seen, "what the model sees", where)
    cut = picture_tile(seen[top:bottom, left:right], "what the position sees")
    return [replace(whole, frames=(*gates, Frame(*local))), cut]


def _layout_lines(layer: Layer) -> list[str]:
    """What has to be said of how a layer's results became maps."""
    lines = []
    if layer.shape is not None and len(layer.shape) > 3:
        *slices, height, width = layer.shape[1:]
        number = "×".join(map(str, slices))
        lines.append(f"each map is {number} slices of {height}×{width}, stacked top to bottom")
    if layer.apart:
        tokens = "1 token that has" if layer.apart == 1 else f"{layer.apart} tokens that have"
        lines.append(f"without {tokens} no place on the grid (class tokens, registers, padding)")
    return lines
