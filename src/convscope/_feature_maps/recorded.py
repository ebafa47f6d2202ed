"""The feature maps of several layers for one picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UnknownLayer
from convscope._feature_maps.layer import LayerMaps
from convscope._layers import Layer, figure_name
from convscope._models import Batch, InputSummary, Model, load, summarize_input
from convscope._plot import Range, Section, Sheet, Theme, map_tiles, picture_tile


class FeatureMaps(Mapping[str, LayerMaps]):
    """The feature maps of several layers for one picture, by path, in execution order."""

    def __init__(self, maps: Iterable[LayerMaps], specimen: InputSummary) -> None:
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
        return self.specimen.preprocessed.shape[0], self.specimen.preprocessed.shape[1]

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
        sections = [
            Section("input", (picture_tile(self.specimen.preprocessed, "what the model sees"),))
        ]
        for maps in self.values():
            channels = maps.strongest(strongest)
            tiles = map_tiles(maps.values, channels=channels, range=range, signed=cmap == "signed")
            sections.append(Section(maps.title, tuple(tiles), strongest))
        lines = (
            *self.specimen.lines,
            f"the {strongest} channels of each layer with the highest peaks, strongest first",
        )
        title = f"{self.specimen.model} · {self.specimen.name} through {len(self)} layers"
        return Sheet(title, lines, tuple(sections), cmap=cmap, theme=theme, cell=112)

    def preprocessed(self, *, theme: Theme = "light") -> Sheet:
        """The original picture beside what the model sees of it."""
        specimen = self.specimen
        height, width = specimen.preprocessed.shape[:2]
        tiles = [picture_tile(specimen.preprocessed, "what the model sees", f"{height}×{width}")]
        if specimen.original is not None:
            height, width = specimen.original.shape[:2]
            tiles.insert(0, picture_tile(specimen.original, "original", f"{height}×{width}"))
        section = Section("", tuple(tiles), len(tiles))
        title = f"{specimen.name} · as {specimen.model} sees it"
        return Sheet(title, specimen.lines, (section,), theme=theme)

    def save(self, folder: str | Path, *, suffix: str = ".png") -> list[Path]:
        """Write the picture of every layer into ``folder``: ``cat.block2_conv1.png``."""
        return [
            maps.save(Path(folder) / figure_name(self.specimen.name, path, suffix))
            for path, maps in self.items()
        ]

    def _repr_html_(self) -> str:
        return self.overview()._repr_html_()

    def __repr__(self) -> str:
        return f"FeatureMaps({self.specimen.name} in {self.specimen.model}: {', '.join(self)})"


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
    chosen = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    if isinstance(images, (list, tuple)):
        return [_one(loaded, loaded.prepare(image, size=size), chosen) for image in images]
    batch = loaded.prepare(images, size=size)
    if batch.single:
        return _one(loaded, batch, chosen)
    return [_one(loaded, batch.one(k), chosen) for k in range(len(batch))]


def _one(model: Model, batch: Batch, layers: Sequence[Layer]) -> FeatureMaps:
    recorded = model.activations(batch, [layer.path for layer in layers])
    specimen = summarize_input(model, batch)
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
