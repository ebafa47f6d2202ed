"""Feature maps: what the channels of a layer make of one picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convscope.errors import UnknownLayer, UsageError
from convscope.figures import (
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
from convscope.layers import Layer, file_name
from convscope.models import Batch, Model, ReceptiveField, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Specimen:
    """The picture under the microscope, and the network that looks at it.

    - ``model``: its name; ``name``: the picture's.
    - ``original``: the picture ``(H, W, 3)`` uint8, ``None`` where numbers were given.
    - ``seen``: what the model sees of it, ``(h, w, 3)`` uint8.
    - ``lines``: what was done to the picture, and what has to be said about the model.
    """

    model: str
    name: str
    original: NDArray[np.uint8] | None
    seen: NDArray[np.uint8]
    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The feature maps of one layer.

    - ``values``: float32 ``(channels, height, width)``; a linear layer's are ``(features, 1, 1)``.
    - ``layer``: where they come from; ``specimen``: of what.
    """

    values: NDArray[np.float32]
    layer: Layer
    specimen: Specimen

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
        - ``cmap``: ``viridis``, ``magma``, ``grey`` or ``signed`` (centred on zero).
        - ``range``: colours span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
        - ``theme``: ``"light"`` or ``"dark"``.
        """
        chosen = self._chosen(first, channels)
        return map_sheet(
            self.values,
            self._title(),
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
            overlay_tile(self.specimen.seen, self.values[k], str(k), cmap=cmap, range=range)
            for k in chosen
        ]
        lines = (*self._lines(chosen), "laid over what the model sees")
        section = Section("", tuple(tiles), columns)
        return Sheet(self._title(), lines, (section,), cmap=cmap, theme=theme)

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
        tiles = _framed(self.specimen.seen, field, y, x)
        tiles.append(self._pointed(channel, y, x, signed=cmap == "signed"))
        lines = [
            *self._lines([channel]),
            f"position {y},{x} of channel {channel}: {self.values[channel, y, x]:.4g}",
            f"receptive field {field.describe()}",
        ]
        section = Section("", tuple(tiles), len(tiles))
        return Sheet(self._title(), tuple(lines), (section,), cmap=cmap, theme=theme)

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
                stream, values=self.values, model=self.specimen.model, layer=self.layer.path,
                image=self.specimen.name,
            )  # fmt: skip
        return temporary.replace(path)

    def _repr_html_(self) -> str:
        return self.grid()._repr_html_()

    def __repr__(self) -> str:
        return f"LayerMaps({self._title()}, of {self.specimen.name})"

    def _title(self) -> str:
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


class FeatureMaps(Mapping[str, LayerMaps]):
    """The feature maps of several layers for one picture, by path, in execution order."""

    def __init__(self, maps: Iterable[LayerMaps], specimen: Specimen) -> None:
        self._maps = {one.layer.path: one for one in maps}
        self.specimen = specimen

    def __getitem__(self, path: str) -> LayerMaps:
        if path not in self._maps:
            raise UnknownLayer(
                f"Layer {path!r} was not recorded. Recorded: {', '.join(map(repr, self._maps))}"
            )
        return self._maps[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at which the network saw the picture."""
        return self.specimen.seen.shape[0], self.specimen.seen.shape[1]

    def overview(
        self,
        *,
        strongest: int = 8,
        cmap: str = "viridis",
        range: Range = "channel",
        theme: Theme = "light",
    ) -> Sheet:
        """One picture of all depths: a row for each layer with its ``strongest`` maps.

        Strongest are the channels with the highest peaks for this picture.
        """
        sections = [Section("input", (picture_tile(self.specimen.seen, "what the model sees"),))]
        for maps in self.values():
            channels = maps.strongest(strongest)
            tiles = map_tiles(maps.values, channels=channels, range=range, signed=cmap == "signed")
            sections.append(Section(maps._title(), tuple(tiles), strongest))
        lines = (
            *self.specimen.lines,
            f"the {strongest} channels of each layer with the highest peaks, strongest first",
        )
        title = f"{self.specimen.model} · {self.specimen.name} through {len(self)} layers"
        return Sheet(title, lines, tuple(sections), cmap=cmap, theme=theme, cell=112)

    def seen(self, *, theme: Theme = "light") -> Sheet:
        """The original picture beside what the model sees of it."""
        specimen = self.specimen
        height, width = specimen.seen.shape[:2]
        tiles = [picture_tile(specimen.seen, "what the model sees", f"{width}×{height}")]
        if specimen.original is not None:
            height, width = specimen.original.shape[:2]
            tiles.insert(0, picture_tile(specimen.original, "original", f"{width}×{height}"))
        section = Section("", tuple(tiles), len(tiles))
        title = f"{specimen.name} · as {specimen.model} sees it"
        return Sheet(title, specimen.lines, (section,), theme=theme)

    def save(self, folder: str | Path, *, suffix: str = ".png") -> list[Path]:
        """Write the picture of every layer into ``folder``: ``cat.block2_conv1.png``."""
        return [
            maps.save(Path(folder) / picture_name(self.specimen.name, path, suffix))
            for path, maps in self.items()
        ]

    def _repr_html_(self) -> str:
        return self.overview()._repr_html_()

    def __repr__(self) -> str:
        return f"FeatureMaps({self.specimen.name} in {self.specimen.model}: {', '.join(self)})"


def picture_name(image: str, what: str, suffix: str) -> str:
    """``cat.jpg`` and ``layer1.0/add`` make ``cat.layer1.0%2Fadd.png``."""
    return f"{file_name(Path(image).stem)}.{file_name(what)}{suffix}"


def feature_maps(
    model: Any,
    images: Any,
    layers: str | Iterable[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> Any:
    """Record the feature maps of some layers, in one forward pass a picture.

    - ``model``: a loaded model, or anything ``load`` takes.
    - ``images``: one picture or float array gives ``FeatureMaps``; a list gives a list.
    - ``layers``: paths, globs or ``kind=conv``; by default the last convolution of each size.
    - ``size``: show pictures to the network at another size than its own (a side, or
      ``(height, width)``); for networks that take any size.

    Raises ``UnknownLayer`` and ``ImageError``.
    """
    loaded = load(model)
    chosen = loaded.layers.spread() if layers is None else loaded.layers.select(layers)
    if isinstance(images, (list, tuple)):
        return [_one(loaded, loaded.prepare(image, size=size), chosen) for image in images]
    batch = loaded.prepare(images, size=size)
    if batch.single:
        return _one(loaded, batch, chosen)
    return [_one(loaded, batch.one(k), chosen) for k in range(len(batch))]


def _one(model: Model, batch: Batch, layers: Sequence[Layer]) -> FeatureMaps:
    recorded = model.activations(batch, [layer.path for layer in layers])
    specimen = look_at(model, batch)
    return FeatureMaps(
        (LayerMaps(_as_maps(recorded[la.path].cpu().numpy()[0]), la, specimen) for la in layers),
        specimen,
    )


def _as_maps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(C, H, W)``: features become 1×1 maps, lines 1×L ones, slices of volumes are stacked."""
    if values.ndim == 1:
        return values[:, None, None]
    if values.ndim == 2:
        return values[:, None, :]
    return values.reshape(len(values), -1, values.shape[-1])


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


def look_at(model: Model, batch: Batch) -> Specimen:
    """What has to be said of the one picture in ``batch`` before any layer is shown."""
    seen, drawn = model.seen(batch)
    height, width = batch.size
    lines = []
    original = None
    if batch.views is not None and batch.preprocess is not None:
        view = batch.views[0]
        original = np.asarray(view.original.image.convert("RGB"))
        lines.append(
            f"input {view.name} {view.original.image.width}×{view.original.image.height}, "
            f"seen at {width}×{height}"
        )
        lines.append(f"preprocessing {batch.preprocess.describe()}")
        lines += view.original.notes
    else:
        lines.append(f"input {batch.names[0]} {width}×{height}, {drawn}")
    untrained = model.looks_untrained()
    if untrained:
        lines.append(f"this network looks untrained: {untrained}")
    return Specimen(model.title, batch.names[0], original, seen, tuple(lines))
