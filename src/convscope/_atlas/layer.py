"""One layer of an atlas: arrays over all its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas.bins import percentiles
from convscope._atlas.geometry import Box
from convscope._errors import AtlasError

if TYPE_CHECKING:
    from convscope._atlas.reading import Atlas

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerAtlas:
    """What a scan found of one layer; arrays are over its channels.

    - ``path``, ``kind``, ``families``; ``shape``: ``(channels, height, width)`` or ``(features,)``.
    - ``receptive_field``: in words, empty where it is not known.

    ``layer.array(NAME)`` is any array of ``summary.safetensors``; see ``convscope._atlas``.
    """

    atlas: Atlas
    path: str
    kind: str
    shape: tuple[int, ...]
    families: tuple[str, ...] = ()
    receptive_field: str = ""
    about_field: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"LayerAtlas({self.path!r}, {self.kind} {'×'.join(map(str, self.shape))})"

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of its maps: (1, 1) for features; slices of volumes stack up."""
        if len(self.shape) < 3:
            return 1, int(np.prod(self.shape[1:], dtype=int))
        return int(np.prod(self.shape[1:-1])), self.shape[-1]

    def array(self, name: str) -> NDArray[Any]:
        """An array of ``summary.safetensors``."""
        return self.atlas.array(name, self.path)

    @property
    def count(self) -> NDArray[np.int64]:
        """How many values were seen, NaN apart."""
        return self.array("count")

    @property
    def nan(self) -> NDArray[np.int64]:
        """How many were NaN."""
        return self.array("nan")

    @cached_property
    def mean(self) -> Doubles:
        """The mean of all values; NaN where there were none."""
        return _ratio(self.array("sum"), self.count)

    @cached_property
    def variance(self) -> Doubles:
        """The variance of all values, as Σx²/n − mean², with the rounding that brings: about a
        millionth of mean²."""
        return np.maximum(_ratio(self.array("square"), self.count) - self.mean**2, 0)

    @property
    def minimum(self) -> NDArray[np.float32]:
        return self.array("minimum")

    @property
    def maximum(self) -> NDArray[np.float32]:
        return self.array("maximum")

    @cached_property
    def active(self) -> Doubles:
        """The fraction of values above zero."""
        return _ratio(self.array("active"), self.count)

    @cached_property
    def image_mean(self) -> Doubles:
        """The mean of the images' means."""
        return _ratio(self.array("mean.sum"), self.array("mean.count"))

    @cached_property
    def image_variance(self) -> Doubles:
        """The variance of the images' means."""
        square = _ratio(self.array("mean.square"), self.array("mean.count"))
        return np.maximum(square - self.image_mean**2, 0)

    @property
    def histogram(self) -> NDArray[np.uint32]:
        """``(C, BINS)``; see ``convscope._atlas.bins``."""
        return self.array("histogram")

    def percentiles(self, wanted: Sequence[float]) -> Doubles:
        """Percentiles of the values, ``(len(wanted), C)``, to a fifth of a value: a bin's width."""
        return percentiles(self.histogram, wanted, self.minimum, self.maximum)

    @cached_property
    def class_means(self) -> Doubles:
        """``(classes, C)``: the mean of each class's images' means; NaN where it has none."""
        total, count = self._by_class("class.sum"), self._by_class("class.count")
        return _ratio(total, count)

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """``(classes, C)``: how many images that is."""
        return self._by_class("class.count").astype(np.int64)

    def _by_class(self, name: str) -> NDArray[Any]:
        if not self.atlas.labeled:
            raise AtlasError(f"{self.atlas.dataset!r} has no labels, so there are no class means")
        known = self.array(name)
        whole = np.zeros((len(self.atlas.classes), known.shape[1]), known.dtype)
        whole[self.array("class")] = known
        return whole

    @property
    def sample(self) -> NDArray[np.float32]:
        """``(S, C)``: means of random images, the same in every layer: ``atlas.sample``."""
        return self.array("sample.mean")

    @cached_property
    def pooled(self) -> NDArray[np.float16] | None:
        """``(C, N)`` float16, memory-mapped: the mean of every image, NaN for those skipped; times
        ``pooled_scale``. ``None`` without ``--pooled``."""
        return self.atlas.pooled(self.path)

    @property
    def pooled_scale(self) -> float:
        return float(self.array("pooled.scale"))

    @property
    def kernel_cosine(self) -> NDArray[np.float16] | None:
        """``(C, C)``: cosines between the channels' kernels; ``None`` where it has none."""
        return self.atlas.of_network("kernel.cosine", self.path)  # type: ignore[no-any-return]

    @property
    def kernel_norm(self) -> NDArray[np.float32] | None:
        """``(C,)``: their lengths."""
        return self.atlas.of_network("kernel.norm", self.path)  # type: ignore[no-any-return]

    def seen_box(self, position: tuple[int, int]) -> Box | None:
        """``(top, left, bottom, right)`` in the seen image of what a position looks at."""
        rows = self.atlas.of_network("field.rows", self.path)
        columns = self.atlas.of_network("field.columns", self.path)
        if rows is None or columns is None:
            return None
        (top, bottom), (left, right) = rows[position[0]], columns[position[1]]
        if bottom <= top or right <= left:  # a position in the padding
            return None
        return float(top), float(left), float(bottom), float(right)


def _ratio(total: NDArray[Any], count: NDArray[Any]) -> Doubles:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / np.where(count > 0, count, np.nan))
