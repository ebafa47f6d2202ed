"""Opening an atlas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from convscope._atlas.folder import NETWORK, SUMMARY, THUMBNAILS, read_manifest
from convscope._atlas.layer import LayerAtlas
from convscope._atlas.listing import read_listing
from convscope._atlas.thumbnails import Thumbnails
from convscope._atlas.unit import Unit
from convscope._errors import AtlasError, one_line
from convscope._layers import Address, Layer, Layers, file_name

if TYPE_CHECKING:
    import pandas


def open_atlas(path: str | Path) -> Atlas:
    """The atlas in a folder that ``convscope scan`` wrote.

    Raises ``AtlasError`` where there is none, where it is unfinished, and where it was written by a
    later convscope than this.
    """
    return Atlas(Path(path).expanduser())


class Layered(Sequence[LayerAtlas]):
    """The layers of an atlas, in order; also by path."""

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


class Atlas:
    """What a network's channels respond to in a dataset.

    ``atlas["features.5:12"]`` is a ``Unit``; ``atlas["features.5"]`` and
    ``atlas.layer("features.5")`` a ``LayerAtlas``, with arrays over all channels; ``atlas.layers``
    all of these, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        if not self.manifest["state"]["complete"]:
            state = self.manifest["state"]
            raise AtlasError(
                f"The scan that writes {str(folder)!r} is unfinished: {state.get('done', 0)} of "
                f"{state['shards']} shards are done. Run the same command again: convscope scan "
                f"{self.manifest['dataset']['name']} -m {self.manifest['model']['name']} "
                f"-o {folder}"
            )
        self._cache: dict[tuple[str, str], Any] = {}
        self._files: dict[str, Any] = {}
        self.thumbnails = Thumbnails(folder / THUMBNAILS)
        self.layers = Layered([self._layer(entry) for entry in self.manifest["layers"]])
        self._known = Layers(
            [Layer(la.path, la.kind, la.shape, families=la.families) for la in self.layers],
            str(folder),
        )

    def _layer(self, entry: dict[str, Any]) -> LayerAtlas:
        field = entry.get("field") or {}
        return LayerAtlas(
            self,
            entry["path"],
            entry["kind"],
            tuple(entry["shape"]),
            tuple(entry.get("families", ())),
            field.get("text", ""),
            field,
        )

    def __repr__(self) -> str:
        units = sum(layer.channels for layer in self.layers)
        return (
            f"Atlas({str(self.folder)!r}: {self.model} on {self.images:,} images of "
            f"{self.dataset}, {units:,} units in {len(self.layers)} layers)"
        )

    @overload
    def __getitem__(self, address: Address) -> Unit | LayerAtlas: ...
    @overload
    def __getitem__(self, address: str) -> Any: ...
    def __getitem__(self, address: str | Address) -> Any:
        layer, where = self._known.at(address)
        found = self.layers[layer.path]
        return found if where.channel is None else Unit(found, where.channel)

    def layer(self, path: str) -> LayerAtlas:
        """The layer at a path."""
        return self.layers[self._known[path].path]

    @property
    def model(self) -> str:
        """The network's name, with its file of weights."""
        return str(self.manifest["model"]["title"])

    @property
    def dataset(self) -> str:
        return str(self.manifest["dataset"]["name"])

    @property
    def images(self) -> int:
        """How many images were scanned."""
        return int(self.manifest["state"]["images"])

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """Images that could not be read: ``index``, ``id``, ``reason``."""
        return list(self.manifest["skipped"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the dataset's classes; empty where it has none."""
        return tuple(self.manifest["dataset"]["classes"])

    @property
    def labeled(self) -> bool:
        return bool(self.manifest["dataset"]["labelled"])

    @cached_property
    def _listing(self) -> Any:
        return read_listing(self.folder)

    @property
    def ids(self) -> Sequence[str]:
        """One for each image of the listing, those skipped among them."""
        return self._listing[0]  # type: ignore[no-any-return]

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Indices into ``classes``, one for each image of the listing."""
        return self._listing[1]  # type: ignore[no-any-return]

    def label(self, image: int) -> str:
        """The name of an image's class, empty where it has none."""
        return "" if self.labels is None else self.classes[int(self.labels[image])]

    @property
    def sample(self) -> NDArray[np.int64]:
        """Indices of the images in every layer's ``sample``."""
        return self.array("sample.image", self.layers[0].path)

    def array(self, name: str, path: str) -> NDArray[Any]:
        """An array of ``summary.safetensors``; kept once read."""
        found = self._array(SUMMARY, name, path)
        if found is None:
            raise AtlasError(f"{str(self.folder)!r} has no {name!r} for {path!r}")
        return np.asarray(found)

    def of_network(self, name: str, path: str) -> Any:
        """An array of ``network.safetensors``, ``None`` where there is none."""
        return self._array(NETWORK, name, path)

    def _array(self, file: str, name: str, path: str) -> Any:
        if (name, path) not in self._cache:
            try:
                if file not in self._files:
                    opened: Any = safe_open(self.folder / file, "np")
                    self._files[file] = (opened, set(opened.keys()))
                opened, names = self._files[file]
                key = f"{name}/{path}"
                self._cache[name, path] = opened.get_tensor(key) if key in names else None
            except (OSError, SafetensorError) as error:
                raise AtlasError(
                    f"{str(self.folder / file)!r} cannot be read: {one_line(error, 80)}. Scan again"
                ) from None
        return self._cache[name, path]

    def pooled(self, path: str) -> NDArray[np.float16] | None:
        """``(C, N)`` float16, memory-mapped; see ``LayerAtlas.pooled``."""
        file = self.folder / "pooled" / f"{file_name(path)}.npy"
        return np.load(file, mmap_mode="r") if file.exists() else None

    def table(self) -> pandas.DataFrame:
        """One row for each unit, as a pandas ``DataFrame``."""
        from convscope._atlas.table import table

        return table(self)
