"""Opening an atlas: its layers and units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from convscope._atlas.reader import AtlasReader, LayerAtlas
from convscope._atlas.unit import Unit
from convscope._errors import MissingDependency, UsageError
from convscope._layers import Address, Layer, Layers

if TYPE_CHECKING:
    import pandas

_STATISTICS = ("count", "nan", "mean", "variance", "minimum", "maximum", "active")


def open_atlas(path: str | Path) -> Atlas:
    """Open the atlas in a folder that ``scan`` wrote. Loads no framework and no model.

    Args:
        path: The folder.

    Returns:
        The atlas.

    Raises:
        AtlasError: There is none, it is unfinished, or its format is newer than this version reads.
    """
    return Atlas(Path(path).expanduser())


class LayerAtlases(Sequence[LayerAtlas]):
    """The layers of an atlas, in the order of the network; also by path."""

    def __init__(self, layers: Sequence[LayerAtlas]) -> None:
        self._layers = tuple(layers)

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, key: int | str) -> LayerAtlas: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[LayerAtlas]: ...
    def __getitem__(self, key: int | str | slice) -> LayerAtlas | Sequence[LayerAtlas]:
        if isinstance(key, str):
            return next(layer for layer in self._layers if layer.path == key)
        return self._layers[key]

    def __iter__(self) -> Iterator[LayerAtlas]:
        return iter(self._layers)


class Atlas(AtlasReader):
    """What each channel of a network responds to in a dataset, as a scan found it.

    ``atlas["features.5:12"]`` is a ``Unit``; ``atlas["features.5"]`` is a ``LayerAtlas``, with
    statistics as arrays over all channels.

    Attributes:
        folder: Where the atlas is.
        manifest: The contents of ``manifest.json``: model, dataset, settings, layers.
        layers: All scanned layers, in the order of the network; also by path.
        thumbnails: Thumbnails, crops and feature maps of the exemplars.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.layers = LayerAtlases([self._layer(entry) for entry in self.manifest["layers"]])
        self._addresses = Layers(
            [Layer(la.path, la.kind, la.shape, families=la.families) for la in self.layers],
            str(folder),
        )

    def _layer(self, entry: dict[str, Any]) -> LayerAtlas:
        return LayerAtlas(
            self,
            entry["path"],
            entry["kind"],
            tuple(entry["shape"]),
            tuple(entry.get("families", ())),
            (entry.get("field") or {}).get("text", ""),
        )

    def __repr__(self) -> str:
        units = sum(layer.channels for layer in self.layers)
        return (
            f"Atlas({str(self.folder)!r}: {self.model} on {self.images:,} images of "
            f"{self.dataset}, {units:,} units in {len(self.layers)} layers)"
        )

    def __getitem__(self, address: str | Address) -> Unit | LayerAtlas:
        layer, checked = self._addresses.at(address)
        if checked.channel is None:
            return self.layers[layer.path]
        return Unit(self.layers[layer.path], checked.channel)

    def unit(self, address: str | Address) -> Unit:
        """The unit at an address, as ``atlas[address]`` for a type checker.

        Args:
            address: Layer and channel, such as ``"features.5:12"``.

        Returns:
            The unit.

        Raises:
            UnknownLayer: The layer was not scanned, or has no such channel; names the nearest.
            UsageError: The address is that of a layer.
        """
        found = self[address]
        if not isinstance(found, Unit):
            raise UsageError(f"{address!r} is a layer. Give a channel of it: '{address}:0'")
        return found

    def layer(self, path: str) -> LayerAtlas:
        """The layer at a path.

        Args:
            path: The layer's path.

        Returns:
            Its statistics, as arrays over all channels.

        Raises:
            UnknownLayer: It was not scanned; names the nearest.
        """
        return self.layers[self._addresses[path].path]

    @property
    def sample(self) -> NDArray[np.int64]:
        """Indices of the random images in every layer's ``sample``: ``(S,)``."""
        return self.array("sample.image", self.layers[0].path)

    def table(self) -> pandas.DataFrame:
        """All units as a pandas ``DataFrame``, one row each.

        The columns are address, layer, channel, statistics, percentiles, and the image with the
        highest mean and peak.

        Raises:
            MissingDependency: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise MissingDependency("pandas", "atlas.table()") from None
        return pandas.DataFrame(self._columns())

    def _columns(self) -> dict[str, NDArray[Any]]:
        columns: dict[str, list[Any]] = {}
        for layer in self.layers:
            for name, values in self._layer_columns(layer).items():
                columns.setdefault(name, []).append(np.asarray(values))
        return {name: np.concatenate(pieces) for name, pieces in columns.items()}

    def _layer_columns(self, layer: LayerAtlas) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "unit": [f"{layer.path}:{k}" for k in range(layer.channels)],
            "layer": [layer.path] * layer.channels,
            "channel": np.arange(layer.channels),
            **{name: getattr(layer, name) for name in _STATISTICS},
        }
        for percent, values in zip((1, 50, 99), layer.percentiles((1, 50, 99)), strict=True):
            columns[f"p{percent}"] = values
        for by in ("mean", "peak"):
            images = layer.array(f"top.{by}.image")[0]
            columns[f"top_{by}"] = layer.array(f"top.{by}.score")[0]
            columns[f"top_{by}_image"] = [self.ids[k] if k >= 0 else "" for k in images]
        return columns
