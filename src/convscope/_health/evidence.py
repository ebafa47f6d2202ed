"""What the findings rest on: the numbers of one layer, as an atlas keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, LayerAtlas
from convscope._atlas.bins import HIGH, LOW

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

LEAST_COSINE = 0.9
"""Filters less alike than this are not even looked at as duplicates."""

# Kinds with an upper and a lower end to their values.
BOUNDED: dict[str, tuple[float, float]] = {
    "relu6": (-np.inf, 6.0),
    "hardtanh": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
}


@dataclass(frozen=True, eq=False)
class ByClass:
    """Means by class: ``names`` ``(K,)``, ``counts`` ``(K, C)`` images, ``sums`` ``(K, C)``."""

    names: tuple[str, ...]
    counts: Counts
    sums: Floats
    squares: Floats  # (C,): Σx² over all images


@dataclass(frozen=True, eq=False)
class Evidence:
    """One layer's channels on a dataset; arrays are ``(C,)`` but where it says otherwise.

    - ``path``, ``kind``, ``size``: of its maps, height and width (``()`` for a vector)
    - ``gate``: the path of the ReLU its values go through next; ``None`` where there is none
    - ``twins``: ``{(i, j): cosine}`` of its filters; ``None`` where it has none of its own
    - ``count``: values seen; ``nan``: values that are none; ``active``: values above zero
    - ``mean``, ``deviation``, ``minimum``, ``maximum``: over all positions of all images
    - ``low``, ``high`` ``(B,)``, ``histogram`` ``(C, B)``: the ends of the bins, and counts
    - ``pooled`` ``(C, n)``: means over the map, of all images or of a sample of them
    - ``peaks`` ``(C, m)``: the highest values of the maps, of a sample of the images
    - ``by_class``: ``None`` where images have no class
    """

    path: str
    kind: str
    size: tuple[int, ...]
    count: Counts
    nan: Counts
    active: Counts
    mean: Floats
    deviation: Floats
    minimum: Floats
    maximum: Floats
    low: Floats
    high: Floats
    histogram: Counts
    pooled: Floats
    peaks: Floats
    gate: str | None = None
    twins: dict[tuple[int, int], float] | None = None
    by_class: ByClass | None = None
    families: tuple[str, ...] = field(default=())

    @property
    def channels(self) -> int:
        return len(self.count)

    @property
    def is_relu(self) -> bool:
        return "relu" in (self.kind.lower(), *self.families) and self.kind.lower() not in _LEAKY

    @property
    def switches(self) -> bool:
        """Whether zero decides: a ReLU made these values, or one takes them next."""
        return self.gate is not None or self.is_relu or self.rectified

    @property
    def rectified(self) -> bool:
        """Whether the values look as a ReLU leaves them, in a layer whose name does not say so.

        Keras's ``Conv2D(…, activation="relu")`` and ``Activation("relu")`` give no value below
        zero, and most of their channels are zero somewhere.
        """
        hiding = {"conv", "linear", "dense", "activation"} & {*self.families, self.kind.lower()}
        if not hiding or self.channels < 2:
            return False
        return bool((self.minimum >= 0).all() and (self.minimum == 0).mean() > 0.5)

    @property
    def heights(self) -> Floats:
        """The peaks as the network goes on with them: those below zero stop at the ReLU."""
        return np.maximum(self.peaks, 0) if self.gate is not None else self.peaks

    @property
    def bounds(self) -> tuple[float, float] | None:
        return BOUNDED.get(self.kind.lower())


_LEAKY = frozenset({"leakyrelu", "leaky_relu", "prelu", "rrelu"})


def gather(atlas: Atlas) -> list[Evidence]:
    """The evidence on every layer of an atlas."""
    return [
        _of(layer, entry)
        for layer, entry in zip(atlas.layers, atlas.manifest["layers"], strict=True)
    ]


def _of(layer: LayerAtlas, entry: dict[str, Any]) -> Evidence:
    with np.errstate(invalid="ignore"):  # ∞ − ∞, in a channel that is not finite
        mean, deviation = layer.mean, np.nan_to_num(np.sqrt(layer.variance))
    return Evidence(
        path=layer.path,
        kind=layer.kind,
        families=tuple(layer.families),
        size=tuple(layer.shape[1:]),
        count=layer.count,
        nan=layer.nan,
        active=layer.array("active"),
        mean=mean,
        deviation=deviation,
        minimum=layer.minimum.astype(np.float64),
        maximum=layer.maximum.astype(np.float64),
        low=LOW,
        high=HIGH,
        histogram=layer.histogram.astype(np.int64),
        pooled=_pooled(layer),
        peaks=_known(layer, layer.array("sample.peak").T),
        gate=entry.get("gate"),
        twins=_twins(layer),
        by_class=_by_class(layer),
    )


def _pooled(layer: LayerAtlas) -> Floats:
    """Means over the map, ``(C, images)``, of all images where they were kept, else of some."""
    kept = layer.pooled
    return _known(layer, layer.sample.T if kept is None else np.asarray(kept))


def _known(layer: LayerAtlas, values: NDArray[Any]) -> Floats:
    """A channel that is not finite as 0 throughout, and without images that are not."""
    whole = (layer.nan == 0) & np.isfinite(layer.minimum) & np.isfinite(layer.maximum)
    values = np.where(whole[:, None], values, 0)
    return np.asarray(values[:, np.isfinite(values).all(0)])


def _twins(layer: LayerAtlas) -> dict[tuple[int, int], float] | None:
    cosines = layer.kernel_cosine
    if cosines is None or len(cosines) != layer.channels:
        return None
    pairs = np.argwhere(np.triu(cosines >= LEAST_COSINE, 1)).tolist()
    return {(i, j): float(cosines[i, j]) for i, j in pairs}


def _by_class(layer: LayerAtlas) -> ByClass | None:
    atlas = layer.atlas
    if not atlas.labeled:
        return None
    names = tuple(atlas.classes[k] for k in layer.array("class").tolist())
    counts, sums = layer.array("class.count").astype(np.int64), layer.array("class.sum")
    return ByClass(names, counts, sums, layer.array("mean.square"))
