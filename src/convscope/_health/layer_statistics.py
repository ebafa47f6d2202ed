"""The statistics of one layer that the checks read, as an atlas holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, LayerAtlas
from convscope._atlas.histogram_bins import HIGH, LOW

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MIN_COSINE = 0.9
"""Filters with a smaller cosine are not considered as duplicates at all."""

# Layer kinds whose outputs are bounded, with the bounds.
BOUNDED: dict[str, tuple[float, float]] = {
    "relu6": (-np.inf, 6.0),
    "hardtanh": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
}
_LEAKY = frozenset({"leakyrelu", "leaky_relu", "prelu", "rrelu"})
_MAY_INCLUDE_RELU = frozenset({"conv", "linear", "dense", "activation"})


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Statistics of a layer's channels per class, of means over the map.

    Attributes:
        names: The classes ``(K,)``.
        counts: Number of images, ``(K, C)``.
        sums: Sum of the images' means, ``(K, C)``.
        squares: Sum of their squares over all images, ``(C,)``.
    """

    names: tuple[str, ...]
    counts: Counts
    sums: Floats
    squares: Floats


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """Statistics of one layer's channels on a dataset; arrays are ``(C,)`` unless stated.

    Attributes:
        path: The layer's path.
        kind: Its kind, such as ``Conv2d``.
        size: Height and width of its maps, ``()`` for a vector.
        count: Number of values that are not NaN.
        nan: Number of values that are NaN.
        active: Number of values above zero.
        mean: Mean over all positions of all images.
        std: Standard deviation over all positions of all images.
        minimum: Smallest value.
        maximum: Largest value.
        bin_low: Lower ends of the histogram's bins, ``(B,)``.
        bin_high: Upper ends of the histogram's bins, ``(B,)``.
        histogram: Number of values in each bin, ``(C, B)``.
        pooled: Means over the map, ``(C, n)``, of all images or of a sample of them.
        peaks: Largest values of the map, ``(C, m)``, of a sample of the images.
        next_relu: Path of the ReLU that the values go through next, if one follows directly.
        filter_cosines: Cosines ``{(i, j): cosine}`` of similar filters; ``None`` for a layer
            without filters.
        classes: Statistics per class; ``None`` where the images have no labels.
        families: The groups that its kind belongs to, such as ``conv``.
    """

    path: str
    kind: str
    size: tuple[int, ...]
    count: Counts
    nan: Counts
    active: Counts
    mean: Floats
    std: Floats
    minimum: Floats
    maximum: Floats
    bin_low: Floats
    bin_high: Floats
    histogram: Counts
    pooled: Floats
    peaks: Floats
    next_relu: str | None = None
    filter_cosines: dict[tuple[int, int], float] | None = None
    classes: ClassStatistics | None = None
    families: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.count)

    @property
    def is_relu(self) -> bool:
        """Whether the layer itself is a ReLU (one that maps negative values to zero)."""
        return "relu" in (self.kind.lower(), *self.families) and self.kind.lower() not in _LEAKY

    @property
    def has_relu(self) -> bool:
        """Whether a value of zero means inactive: a ReLU made the values, or one follows."""
        return self.next_relu is not None or self.is_relu or self.looks_rectified

    @property
    def looks_rectified(self) -> bool:
        """Whether the values look like a ReLU's in a layer whose kind does not say so.

        Keras's ``Conv2D(…, activation="relu")`` and ``Activation("relu")`` have no value below
        zero, and most of their channels are zero somewhere.
        """
        candidate = _MAY_INCLUDE_RELU & {*self.families, self.kind.lower()}
        if not candidate or self.channels < 2:
            return False
        return bool((self.minimum >= 0).all() and (self.minimum == 0).mean() > 0.5)

    @property
    def rectified_peaks(self) -> Floats:
        """The peaks ``(C, m)`` after the ReLU that follows, if one does."""
        return np.maximum(self.peaks, 0) if self.next_relu is not None else self.peaks

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lower and upper bound of the layer's outputs; ``None`` for an unbounded layer."""
        return BOUNDED.get(self.kind.lower())


def read_statistics(atlas: Atlas) -> list[LayerStatistics]:
    """Read the statistics of every layer of an atlas."""
    return [
        _read_layer(layer, entry)
        for layer, entry in zip(atlas.layers, atlas.manifest["layers"], strict=True)
    ]


def _read_layer(layer: LayerAtlas, entry: dict[str, Any]) -> LayerStatistics:
    with np.errstate(invalid="ignore"):  # ∞ − ∞, in a channel that is not finite
        mean, std = layer.mean, np.nan_to_num(np.sqrt(layer.variance))
    return LayerStatistics(
        path=layer.path,
        kind=layer.kind,
        families=tuple(layer.families),
        size=tuple(layer.shape[1:]),
        count=layer.count,
        nan=layer.nan,
        active=layer.array("active"),
        mean=mean,
        std=std,
        minimum=layer.minimum.astype(np.float64),
        maximum=layer.maximum.astype(np.float64),
        bin_low=LOW,
        bin_high=HIGH,
        histogram=layer.histogram.astype(np.int64),
        pooled=_pooled(layer),
        peaks=_finite(layer, layer.array("sample.peak").T),
        next_relu=entry.get("gate"),
        filter_cosines=_filter_cosines(layer),
        classes=_class_statistics(layer),
    )


def _pooled(layer: LayerAtlas) -> Floats:
    """Means over the map ``(C, images)``: of all images where the atlas has them, else a sample."""
    pooled = layer.pooled
    return _finite(layer, layer.sample.T if pooled is None else np.asarray(pooled))


def _finite(layer: LayerAtlas, values: NDArray[Any]) -> Floats:
    """Set channels that are not finite to 0, and drop images whose values are not finite."""
    finite = (layer.nan == 0) & np.isfinite(layer.minimum) & np.isfinite(layer.maximum)
    values = np.where(finite[:, None], values, 0)
    return np.asarray(values[:, np.isfinite(values).all(0)])


def _filter_cosines(layer: LayerAtlas) -> dict[tuple[int, int], float] | None:
    cosines = layer.kernel_cosine
    if cosines is None or len(cosines) != layer.channels:
        return None
    pairs = np.argwhere(np.triu(cosines >= MIN_COSINE, 1)).tolist()
    return {(i, j): float(cosines[i, j]) for i, j in pairs}


def _class_statistics(layer: LayerAtlas) -> ClassStatistics | None:
    atlas = layer.atlas
    if not atlas.labeled:
        return None
    names = tuple(atlas.classes[k] for k in layer.array("class").tolist())
    counts, sums = layer.array("class.count").astype(np.int64), layer.array("class.sum")
    return ClassStatistics(names, counts, sums, layer.array("mean.square"))
