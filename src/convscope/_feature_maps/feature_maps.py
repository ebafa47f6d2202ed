"""``feature_maps``: the feature maps of several layers, for one image or several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import ConvscopeError, ModelError, UnknownLayer
from convscope._feature_maps.layer_maps import LayerMaps
from convscope._images import ImageLike
from convscope._layers import Layer, figure_name
from convscope._models import Batch, InputSummary, Model, ModelLike, load, summarize_input
from convscope._plot import Range, Section, Sheet, Theme, image_tile, map_tiles


class FeatureMaps(Mapping[str, LayerMaps]):
    """The feature maps of several layers for one image, by path, in execution order.

    Attributes:
        input: The image, original and preprocessed.
        not_drawable: Why, for layers that were selected and cannot be drawn, by path.
    """

    def __init__(
        self,
        maps: Iterable[LayerMaps],
        input: InputSummary,
        not_drawable: Mapping[str, str] | None = None,
    ) -> None:
        self._maps = {one.layer.path: one for one in maps}
        self.input = input
        self.not_drawable = dict(not_drawable or {})

    def __getitem__(self, path: str) -> LayerMaps:
        if path in self.not_drawable:
            raise UnknownLayer(f"Layer {path!r} is not drawable: {self.not_drawable[path]}")
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
        """Height and width of the preprocessed input."""
        return self.input.preprocessed.shape[0], self.input.preprocessed.shape[1]

    def overview(
        self,
        *,
        strongest: int = 8,
        cmap: str = "viridis",
        range: Range = "channel",
        theme: Theme = "light",
    ) -> Sheet:
        """Draw the strongest maps of every layer in one figure, a row per layer.

        Args:
            strongest: Number of maps per layer: the channels with the highest activations.
            cmap: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
            range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
            theme: ``"light"`` or ``"dark"``.
        """
        sections = [Section("input", (image_tile(self.input.preprocessed, "preprocessed input"),))]
        for maps in self.values():
            channels = maps.strongest(strongest)
            tiles = map_tiles(maps.values, channels=channels, range=range, signed=cmap == "signed")
            sections.append(Section(maps.title, tuple(tiles), strongest))
        lines = (
            *self.input.lines,
            f"the {strongest} channels of each layer with the highest activation, highest first",
            *self.notes(),
        )
        title = f"{self.input.model} · {self.input.name} through {len(self)} layers"
        return Sheet(title, lines, tuple(sections), cmap=cmap, theme=theme, cell=112)

    def notes(self, limit: int = 3) -> list[str]:
        """A line for each layer that is not drawable, of many the first."""
        lines = [f"not drawable: {path}: {why}" for path, why in self.not_drawable.items()]
        more = len(lines) - limit
        return [*lines[:limit], *([f"and {more} more layers"] if more > 0 else [])]

    def preprocessed(self, *, theme: Theme = "light") -> Sheet:
        """Draw the original image beside the preprocessed input.

        Args:
            theme: ``"light"`` or ``"dark"``.
        """
        height, width = self.size
        tiles = [image_tile(self.input.preprocessed, "preprocessed input", f"{height}×{width}")]
        if self.input.original is not None:
            height, width = self.input.original.shape[:2]
            tiles.insert(0, image_tile(self.input.original, "original", f"{height}×{width}"))
        section = Section("", tuple(tiles), len(tiles))
        title = f"{self.input.name} · preprocessed for {self.input.model}"
        return Sheet(title, self.input.lines, (section,), theme=theme)

    def save(self, folder: str | Path, *, suffix: str = ".png") -> list[Path]:
        """Write the grid of every layer: ``cat.block2_conv1.png``.

        Args:
            folder: Where to write; made where it does not exist.
            suffix: File ending, as for ``LayerMaps.save``.

        Returns:
            The paths, one per layer.
        """
        return self._save(Path(folder), self.input.name, suffix)

    def _save(self, folder: Path, name: str, suffix: str) -> list[Path]:
        return [maps.save(folder / figure_name(name, path, suffix)) for path, maps in self.items()]

    def _repr_html_(self) -> str:
        return self.overview()._repr_html_()

    def __repr__(self) -> str:
        return f"FeatureMaps({self.input.name} in {self.input.model}: {', '.join(self)})"


class FeatureMapsBatch(Sequence[FeatureMaps]):
    """The feature maps of several images, in their order: ``batch[0]["conv1"].values``."""

    def __init__(self, maps: Iterable[FeatureMaps]) -> None:
        self._maps = tuple(maps)

    @overload
    def __getitem__(self, index: int) -> FeatureMaps: ...
    @overload
    def __getitem__(self, index: slice) -> FeatureMapsBatch: ...
    def __getitem__(self, index: int | slice) -> FeatureMaps | FeatureMapsBatch:
        if isinstance(index, slice):
            return FeatureMapsBatch(self._maps[index])
        return self._maps[index]

    def __len__(self) -> int:
        return len(self._maps)

    def grid(
        self,
        layer: str,
        *,
        first: int | None = 8,
        channels: Sequence[int] | None = None,
        cmap: str = "viridis",
        range: Range = "channel",
        theme: Theme = "light",
    ) -> Sheet:
        """Draw the same channels of one layer for every image, a row per image.

        Args:
            layer: The layer's path.
            first: Number of channels to show, from channel 0.
            channels: Channels to show, in this order, instead of ``first``.
            cmap: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
            range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
            theme: ``"light"`` or ``"dark"``.

        Raises:
            UnknownLayer: Where the layer was not recorded, or has no such channel.
        """
        sections = [
            self._row(number, layer, first, channels, range, signed=cmap == "signed")
            for number, _ in enumerate(self._maps)
        ]
        model, title = self._maps[0].input.model, self._maps[0][layer].title
        lines = (f"model {model}", f"{len(self)} images, one per row; first the preprocessed input")
        return Sheet(title, lines, tuple(sections), cmap=cmap, theme=theme, group="image")

    def _row(
        self,
        number: int,
        layer: str,
        first: int | None,
        channels: Sequence[int] | None,
        range: Range,
        signed: bool,
    ) -> Section:
        maps = self._maps[number]
        values = maps[layer].values
        chosen = maps[layer].select_channels(None if channels is not None else first, channels)
        tiles = map_tiles(values, channels=chosen, range=range, signed=signed)
        image = image_tile(maps.input.preprocessed, "input")
        return Section(self._headings()[number], (image, *tiles), len(tiles) + 1)

    def save(self, folder: str | Path, *, suffix: str = ".png") -> list[Path]:
        """Write the grid of every layer of every image: ``cat.block2_conv1.png``.

        Images of the same name are numbered: ``cat.2.block2_conv1.png``.

        Args:
            folder: Where to write; made where it does not exist.
            suffix: File ending, as for ``LayerMaps.save``.

        Returns:
            The paths, image by image.
        """
        return [
            path
            for maps, name in zip(self._maps, self._names(), strict=True)
            for path in maps._save(Path(folder), name, suffix)
        ]

    def _headings(self) -> list[str]:
        """The images' names, numbered where they are not all different."""
        names = [maps.input.name for maps in self._maps]
        if len(set(names)) == len(names):
            return names
        return [f"{name} {number}" for number, name in enumerate(names)]

    def _names(self) -> list[str]:
        names: list[str] = []
        for maps in self._maps:
            name, count = Path(maps.input.name), 1
            while (unused := name.stem if count == 1 else f"{name.stem}.{count}") in names:
                count += 1
            names.append(unused)
        return [f"{name}.image" for name in names]

    def _repr_html_(self) -> str:
        return "".join(maps._repr_html_() for maps in self._maps)

    def __repr__(self) -> str:
        if not self._maps:
            return "FeatureMapsBatch(no images)"
        one = self._maps[0]
        return f"FeatureMapsBatch({len(self)} images in {one.input.model}: {', '.join(one)})"


@overload
def feature_maps(
    model: ModelLike,
    images: str | Path | Image.Image,
    layers: str | Iterable[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> FeatureMaps: ...
@overload
def feature_maps(
    model: ModelLike,
    images: list[Any] | tuple[Any, ...],
    layers: str | Iterable[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> FeatureMapsBatch: ...
@overload
def feature_maps(
    model: ModelLike,
    images: ImageLike | Batch,
    layers: str | Iterable[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> FeatureMaps | FeatureMapsBatch: ...
def feature_maps(
    model: ModelLike,
    images: ImageLike | Batch | Sequence[ImageLike],
    layers: str | Iterable[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> FeatureMaps | FeatureMapsBatch:
    """Record the feature maps of some layers, in one forward pass per image.

    Args:
        model: A loaded model, or anything ``load`` takes.
        images: One image (a path, a PIL image, or a float array ``(C, H, W)`` ready for the model),
            a list of them, or a batch of floats ``(N, C, H, W)``.
        layers: Paths, globs or ``kind=conv``; by default the last convolution of each size.
        size: Size to which images are resized, one side or ``(height, width)``, for networks that
            take any size; by default the model's own.

    Returns:
        ``FeatureMaps`` for one image; ``FeatureMapsBatch``, a sequence of them, for several. Each
        layer's ``values`` are float32 ``(C, H, W)``.

    Raises:
        UnknownLayer: Where ``layers`` selects nothing.
        ModelError: Where none of the layers can be drawn; else these are ``not_drawable``.
        ImageError: Where an image cannot be read, or does not suit the model.
    """
    loaded = load(model)
    if isinstance(images, (list, tuple)):  # prepared first: arrays may show what the network takes
        batches = [loaded.prepare(image, size=size) for image in images]
        chosen = _select(loaded, layers)
        return FeatureMapsBatch(record_maps(loaded, batch, chosen) for batch in batches)
    batch = loaded.prepare(images, size=size)
    chosen = _select(loaded, layers)
    if batch.single:
        return record_maps(loaded, batch, chosen)
    return FeatureMapsBatch(record_maps(loaded, batch.one(k), chosen) for k in range(len(batch)))


def _select(model: Model, layers: str | Iterable[str] | None) -> list[Layer]:
    return model.layers.representative() if layers is None else model.layers.select(layers)


def record_maps(model: Model, batch: Batch, layers: Sequence[Layer]) -> FeatureMaps:
    """Record the feature maps of ``layers`` for the one image in ``batch``.

    One layer that fails takes nothing else down.
    """
    failed = {layer.path: layer.refusal for layer in layers if layer.refusal and layer.shape != ()}
    drawn = [layer for layer in layers if layer.path not in failed]
    alone = len(layers) == len(drawn) == 1  # then its own error says it
    record = _maps_of if alone else partial(_recorded, failed=failed)
    recorded = record(model, batch, drawn)
    if layers and not recorded:
        path, why = next(iter(failed.items()))
        raise ModelError(f"{path!r} of {model.name} is not drawable: {why}")
    summary = summarize_input(model, batch)
    maps = (LayerMaps(recorded[la.path], la, summary) for la in drawn if la.path in recorded)
    return FeatureMaps(maps, summary, failed)


def _maps_of(model: Model, batch: Batch, layers: Sequence[Layer]) -> dict[str, NDArray[np.float32]]:
    recorded = model.activations(batch, [layer.path for layer in layers])
    return {path: _as_maps(values.cpu().numpy()[0]) for path, values in recorded.items()}


def _recorded(
    model: Model, batch: Batch, layers: Sequence[Layer], failed: dict[str, str]
) -> dict[str, NDArray[np.float32]]:
    """The maps by path, in one pass; where that fails, layer by layer, and why in ``failed``."""
    if not layers:
        return {}
    try:
        return _maps_of(model, batch, layers)
    except ConvscopeError as error:
        if len(layers) == 1:
            failed[layers[0].path] = str(error)
            return {}
    half = len(layers) // 2
    first = _recorded(model, batch, layers[:half], failed)
    return first | _recorded(model, batch, layers[half:], failed)


def _as_maps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(C, H, W)``: features become 1×1 maps, lines 1×L ones, slices of volumes are stacked."""
    if values.ndim == 0:
        return values[None, None, None]
    if values.ndim == 1:
        return values[:, None, None]
    if values.ndim == 2:
        return values[:, None, :]
    return values.reshape(len(values), -1, values.shape[-1])
