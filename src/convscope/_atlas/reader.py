"""What the files of an atlas hold: manifest, image ids, and arrays over the channels of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from convscope._atlas.files import NETWORK, SUMMARY, THUMBNAILS, read_listing, read_manifest
from convscope._atlas.histogram_bins import percentiles
from convscope._atlas.thumbnails import Box, Thumbnails
from convscope._errors import AtlasError, one_line
from convscope._layers import file_name

Doubles = NDArray[np.float64]


class AtlasReader:
    """Reads the files of a finished atlas: the part of ``Atlas`` that layers and units rest on.

    Attributes:
        folder: Where the atlas is.
        manifest: The contents of ``manifest.json``.
        thumbnails: Thumbnails, crops and feature maps of the exemplars.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        if not self.manifest["state"]["complete"]:
            state = self.manifest["state"]
            raise AtlasError(
                f"The scan into {str(folder)!r} is unfinished: {state.get('done', 0)} of "
                f"{state['shards']} shards are done. Run the same command again: convscope scan "
                f"{self.manifest['dataset']['name']} -m {self.manifest['model']['name']} "
                f"-o {folder}"
            )
        self._cache: dict[tuple[str, str], Any] = {}
        self._files: dict[str, Any] = {}
        self.thumbnails = Thumbnails(folder / THUMBNAILS)

    @property
    def model(self) -> str:
        """The title of the network: its name and its file of weights."""
        return str(self.manifest["model"]["title"])

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return str(self.manifest["dataset"]["name"])

    @property
    def images(self) -> int:
        """The number of images that were scanned."""
        return int(self.manifest["state"]["images"])

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """Images that could not be read: ``index``, ``id``, ``reason``; the first 10,000."""
        return list(self.manifest["skipped"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The dataset's class names; empty for unlabeled data."""
        return tuple(self.manifest["dataset"]["classes"])

    @property
    def labeled(self) -> bool:
        """Whether the dataset has labels."""
        return bool(self.manifest["dataset"]["labelled"])

    @cached_property
    def _listing(self) -> tuple[Sequence[str], NDArray[np.int64] | None]:
        return read_listing(self.folder)

    @property
    def ids(self) -> Sequence[str]:
        """One id for each image of the dataset, skipped images included."""
        return self._listing[0]

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Indices into ``classes``, ``(N,)``: one for each image; ``None`` without labels."""
        return self._listing[1]

    def label(self, image: int) -> str:
        """The class name of an image; empty for unlabeled data."""
        return "" if self.labels is None else self.classes[int(self.labels[image])]

    def array(self, name: str, path: str) -> NDArray[Any]:
        """An array of ``summary.safetensors``, cached; ``convscope._atlas`` lists their names.

        Args:
            name: For example ``"top.mean.score"``.
            path: The layer's path.

        Returns:
            Its shape is ``(C,)``, ``(k, C)`` or as listed there, for C channels.

        Raises:
            AtlasError: There is no such array, or the file is damaged.
        """
        values = self._array(SUMMARY, name, path)
        if values is None:
            raise AtlasError(f"{str(self.folder)!r} has no {name!r} for {path!r}")
        return np.asarray(values)

    def network_array(self, name: str, path: str) -> NDArray[Any] | None:
        """An array of ``network.safetensors``, with the shape that ``convscope._atlas`` lists.

        Args:
            name: For example ``"kernel.norm"``.
            path: The layer's path.

        Returns:
            The array; ``None`` where there is none.
        """
        values = self._array(NETWORK, name, path)
        return None if values is None else np.asarray(values)

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


@dataclass(frozen=True, eq=False)
class LayerAtlas:
    """Statistics of one layer over the dataset, as arrays over its channels.

    Attributes:
        atlas: The atlas that the layer belongs to.
        path: The layer's path.
        kind: The class or function that computed it, such as ``Conv2d``.
        shape: Of its output: ``(channels, height, width)`` or ``(features,)``.
        families: Wider names of the kind, such as ``conv``.
        receptive_field: In words, such as ``5×5, stride 1``; empty where it is not known.
    """

    atlas: AtlasReader
    path: str
    kind: str
    shape: tuple[int, ...]
    families: tuple[str, ...] = ()
    receptive_field: str = ""

    def __repr__(self) -> str:
        return f"LayerAtlas({self.path!r}, {self.kind} {'×'.join(map(str, self.shape))})"

    @property
    def channels(self) -> int:
        """The number of channels or features."""
        return self.shape[0]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the feature maps.

        ``(1, 1)`` for features; the slices of a volume count as stacked on top of each other.
        """
        if len(self.shape) < 3:
            return 1, int(np.prod(self.shape[1:], dtype=int))
        return int(np.prod(self.shape[1:-1])), self.shape[-1]

    def array(self, name: str) -> NDArray[Any]:
        """An array of ``summary.safetensors``; ``convscope._atlas`` lists their names.

        Args:
            name: For example ``"top.mean.score"``.

        Returns:
            Its shape is ``(C,)``, ``(k, C)`` or as listed there, for C channels.

        Raises:
            AtlasError: There is no such array.
        """
        return self.atlas.array(name, self.path)

    @property
    def count(self) -> NDArray[np.int64]:
        """The number of values, NaN excluded: ``(C,)``."""
        return self.array("count")

    @property
    def nan(self) -> NDArray[np.int64]:
        """The number of NaN values: ``(C,)``."""
        return self.array("nan")

    @cached_property
    def mean(self) -> Doubles:
        """The mean of all values: ``(C,)``; NaN where there are none."""
        return _ratio(self.array("sum"), self.count)

    @cached_property
    def variance(self) -> Doubles:
        """The variance of all values: ``(C,)``.

        Computed as Σx²/n − mean², so with a rounding error of about a millionth of mean².
        """
        return np.maximum(_ratio(self.array("square"), self.count) - self.mean**2, 0)

    @property
    def minimum(self) -> NDArray[np.float32]:
        """The lowest value: ``(C,)``."""
        return self.array("minimum")

    @property
    def maximum(self) -> NDArray[np.float32]:
        """The highest value: ``(C,)``."""
        return self.array("maximum")

    @cached_property
    def active(self) -> Doubles:
        """The fraction of values above zero: ``(C,)``."""
        return _ratio(self.array("active"), self.count)

    @cached_property
    def image_mean(self) -> Doubles:
        """The mean of the images' means: ``(C,)``."""
        return _ratio(self.array("mean.sum"), self.array("mean.count"))

    @cached_property
    def image_variance(self) -> Doubles:
        """The variance of the images' means: ``(C,)``."""
        square = _ratio(self.array("mean.square"), self.array("mean.count"))
        return np.maximum(square - self.image_mean**2, 0)

    @property
    def histogram(self) -> NDArray[np.uint32]:
        """Counts of sampled values, ``(C, BINS)``; ``_atlas.histogram_bins`` has the edges."""
        return self.array("histogram")

    def percentiles(self, percents: Sequence[float]) -> Doubles:
        """Percentiles of the values, estimated from the histogram to a fifth of a value.

        Args:
            percents: Which percentiles, 0 to 100.

        Returns:
            Values ``(len(percents), C)``.
        """
        return percentiles(self.histogram, percents, self.minimum, self.maximum)

    @cached_property
    def class_means(self) -> Doubles:
        """The mean over the images of each class: ``(classes, C)``; NaN for a class without images.

        Raises:
            AtlasError: The dataset has no labels.
        """
        return _ratio(self._by_class("class.sum"), self._by_class("class.count"))

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """The number of images of each class whose mean is finite: ``(classes, C)``.

        Raises:
            AtlasError: The dataset has no labels.
        """
        return self._by_class("class.count").astype(np.int64)

    def _by_class(self, name: str) -> NDArray[Any]:
        if not self.atlas.labeled:
            raise AtlasError(f"{self.atlas.dataset!r} has no labels, so there are no class means")
        present = self.array(name)
        every = np.zeros((len(self.atlas.classes), present.shape[1]), present.dtype)
        every[self.array("class")] = present
        return every

    @property
    def sample(self) -> NDArray[np.float32]:
        """Means of random images: ``(S, C)``; the same images in every layer, ``atlas.sample``."""
        return self.array("sample.mean")

    @cached_property
    def pooled(self) -> NDArray[np.float16] | None:
        """The mean of every image: ``(C, N)`` float16, memory-mapped; NaN for skipped images.

        To be multiplied by ``pooled_scale``. ``None`` unless scanned with ``pooled=True``.
        """
        return self.atlas.pooled(self.path)

    @property
    def pooled_scale(self) -> float:
        """What the values of ``pooled`` are to be multiplied by."""
        return float(self.array("pooled.scale"))

    @property
    def kernel_cosine(self) -> NDArray[np.float16] | None:
        """Cosine similarity of the channels' kernels: ``(C, C)``; ``None`` where it has none."""
        return self.atlas.network_array("kernel.cosine", self.path)

    @property
    def kernel_norm(self) -> NDArray[np.float32] | None:
        """The L2 norms of the channels' kernels: ``(C,)``; ``None`` where it has none."""
        return self.atlas.network_array("kernel.norm", self.path)

    def input_box(self, position: tuple[int, int]) -> Box | None:
        """The receptive field of a position, in pixels of the preprocessed input.

        Args:
            position: ``(y, x)`` in the feature map.

        Returns:
            ``(top, left, bottom, right)``; ``None`` where the receptive field is not known.
        """
        rows = self.atlas.network_array("field.rows", self.path)
        columns = self.atlas.network_array("field.columns", self.path)
        if rows is None or columns is None:
            return None
        (top, bottom), (left, right) = rows[position[0]], columns[position[1]]
        if bottom <= top or right <= left:  # a position in the padding
            return None
        return float(top), float(left), float(bottom), float(right)


def _ratio(total: NDArray[Any], count: NDArray[Any]) -> Doubles:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / np.where(count > 0, count, np.nan))
