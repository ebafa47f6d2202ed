"""Mergeable statistics of one layer's channels: ``update``, ``merge``, ``state``.

Each is a commutative monoid over disjoint sets of images: seen in one pass or in many, in any
order, the lists and counts are the same; sums agree to float64's rounding, and to the last bit
where the same parts are added in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from convscope._atlas.bins import BINS, bin_of
from convscope._scan.ranking import Ranking
from convscope._scan.readings import Reading, mixed

State = dict[str, NDArray[Any]]
LISTS = ("top.mean", "top.peak", "bottom.mean", "bottom.peak")


class Extremes:
    """The ``k`` highest and lowest images of each channel, by mean and by peak."""

    def __init__(self, k: int, channels: int) -> None:
        self.ranking = Ranking(k, len(LISTS) * channels)
        self.channels = channels

    def update(self, reading: Reading) -> None:
        scores = np.concatenate([reading.mean, reading.peak, -reading.mean, -reading.peak], 1)

        def where(rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.int32]:
            which, channel = np.divmod(columns, self.channels)
            lowest = which == LISTS.index("bottom.mean")
            found = np.empty(len(rows), np.int32)
            for down in (False, True):
                chosen = lowest == down
                found[chosen] = reading.where(rows[chosen], channel[chosen], lowest=down)
            return found

        self.ranking.update(reading.images, scores, where)

    def merge(self, other: Self) -> None:
        self.ranking.merge(other.ranking)

    def state(self) -> State:
        found: State = {}
        for name, values in self.ranking.state().items():
            for which, part in zip(LISTS, np.split(values, len(LISTS), axis=-1), strict=True):
                turned = -part if name == "score" and which.startswith("bottom") else part
                found[f"{which}.{name}"] = turned + 0 if name == "score" else turned
        return found

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        k, channels = state["top.mean.score"].shape
        made = cls(k, channels)
        joined = {}
        for name in ("score", "image", "position", "ties"):
            parts = [state[f"{which}.{name}"] for which in LISTS]
            if name == "score":
                parts = [
                    -p if which.startswith("bottom") else p
                    for which, p in zip(LISTS, parts, strict=True)
                ]
            joined[name] = np.concatenate(parts, -1)
        made.ranking = Ranking.of(joined)
        return made


class Moments:
    """Counts, sums and extremes over all positions of all images, and sums of the images' means.

    Values that are NaN are counted apart and left out; so are, in ``mean.*``, images whose mean is
    not finite.
    """

    _ADDED = ("count", "nan", "active", "sum", "square", "mean.count", "mean.sum", "mean.square")

    def __init__(self, channels: int) -> None:
        whole = ("count", "nan", "active", "mean.count")
        self._sums: State = {
            name: np.zeros(channels, np.int64 if name in whole else np.float64)
            for name in self._ADDED
        }
        self._low = np.full(channels, np.inf, np.float32)
        self._high = np.full(channels, -np.inf, np.float32)

    def update(self, reading: Reading) -> None:
        means = reading.total / reading.positions
        known = np.isfinite(reading.mean)
        means = np.where(known, means, 0)
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            added = {
                "count": len(reading.images) * reading.positions - reading.nan,
                "nan": reading.nan,
                "active": reading.active,
                "sum": reading.total.sum(0),
                "square": reading.square.sum(0),
                "mean.count": known.sum(0),
                "mean.sum": means.sum(0),
                "mean.square": (means * means).sum(0),
            }
            for name, value in added.items():
                self._sums[name] += value
        np.fmin(self._low, reading.low.min(0), out=self._low)
        np.fmax(self._high, reading.high.max(0), out=self._high)

    def merge(self, other: Self) -> None:
        with np.errstate(invalid="ignore"):
            for name in self._ADDED:
                self._sums[name] = self._sums[name] + other._sums[name]
        self._low = np.minimum(self._low, other._low)
        self._high = np.maximum(self._high, other._high)

    def state(self) -> State:
        return {**self._sums, "minimum": self._low, "maximum": self._high}

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(len(state["count"]))
        made._sums = {name: state[name].copy() for name in cls._ADDED}
        made._low, made._high = state["minimum"].copy(), state["maximum"].copy()
        return made


class Histogram:
    """Counts of values in the fixed bins of ``atlas.bins``, at some positions of every map."""

    def __init__(self, channels: int) -> None:
        self._counts = np.zeros((channels, BINS), np.uint32)

    def update(self, reading: Reading) -> None:
        channels, width = self._counts.shape[0], BINS + 1  # one more for NaN
        place = bin_of(reading.probed())
        place += np.arange(channels)[:, None] * width
        found = np.bincount(place.ravel(), minlength=channels * width)
        self._counts += found.reshape(channels, width)[:, :BINS].astype(np.uint32)

    def merge(self, other: Self) -> None:
        self._counts = self._counts + other._counts

    def state(self) -> State:
        return {"histogram": self._counts}

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(0)
        made._counts = state["histogram"].copy()
        return made


class Classes:
    """Σ of the images' means and how many images there were, for each class that was seen."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._found: dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}

    def update(self, reading: Reading, labels: NDArray[np.int64]) -> None:
        known = np.isfinite(reading.mean)
        means = np.where(known, reading.total / reading.positions, 0)
        for label in np.unique(labels):
            of = labels == label
            self._add(int(label), means[of].sum(0), known[of].sum(0))

    def _add(self, label: int, total: NDArray[np.float64], count: NDArray[np.int64]) -> None:
        if label in self._found:
            before = self._found[label]
            total, count = before[0] + total, before[1] + count
        self._found[label] = (total, count)

    def merge(self, other: Self) -> None:
        for label, (total, count) in other._found.items():
            self._add(label, total, count)

    def state(self) -> State:
        """``class`` int64 ``(K,)``, ascending; the other two ``(K, C)``."""
        labels = sorted(self._found)
        empty = (np.zeros((0, self._channels)), np.zeros((0, self._channels), np.int64))
        total, count = (
            np.stack([self._found[label][k] for label in labels]) if labels else empty[k]
            for k in (0, 1)
        )
        return {
            "class": np.array(labels, np.int64),
            "class.sum": total,
            "class.count": count.astype(np.int32),
        }

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(state["class.sum"].shape[1])
        for label, total, count in zip(
            state["class"], state["class.sum"], state["class.count"], strict=True
        ):
            made._found[int(label)] = (total, count.astype(np.int64))
        return made


class Sample:
    """Mean, peak and its position for ``size`` images drawn by ``seed``, the same in every layer.

    Which images these are depends on their index alone: those whose mixed-up index is smallest.
    """

    _PARTS = ("mean", "peak", "position")

    def __init__(self, size: int, seed: int, channels: int, limit: int = 2**64 - 1) -> None:
        self.size, self.seed, self.limit = size, seed, np.uint64(limit)
        self._images = np.zeros(0, np.int64)
        kinds = {"mean": np.float32, "peak": np.float32, "position": np.int32}
        self._rows: State = {name: np.zeros((0, channels), kinds[name]) for name in self._PARTS}

    def update(self, reading: Reading) -> None:
        images = reading.images
        chosen = np.flatnonzero(mixed(images, self.seed) < self.limit)
        if not len(chosen):
            return
        rows, channels = np.divmod(np.arange(len(chosen) * reading.channels), reading.channels)
        places = reading.where(chosen[rows], channels).reshape(len(chosen), -1)
        values = {"mean": reading.mean, "peak": reading.peak}
        rows_of = {name: value[chosen] for name, value in values.items()} | {"position": places}
        self._take(images[chosen], rows_of)

    def _take(self, images: NDArray[np.int64], rows: State) -> None:
        both = np.concatenate([self._images, images])
        kept = np.argsort(mixed(both, self.seed), kind="stable")[: self.size]
        self._images = both[kept]
        self._rows = {
            name: np.concatenate([self._rows[name], rows[name]])[kept] for name in self._PARTS
        }

    def merge(self, other: Self) -> None:
        self._take(other._images, other._rows)

    def state(self) -> State:
        """``sample.image`` int64 ``(S,)`` in the order drawn; the others ``(S, C)``."""
        return {
            "sample.image": self._images,
            **{f"sample.{name}": self._rows[name] for name in self._PARTS},
        }

    @classmethod
    def of(
        cls, state: Mapping[str, NDArray[Any]], size: int, seed: int, limit: int = 2**64 - 1
    ) -> Self:
        made = cls(size, seed, state["sample.mean"].shape[1], limit)
        made._take(state["sample.image"], {n: state[f"sample.{n}"] for n in cls._PARTS})
        return made


class Pooled:
    """The mean of every image: float32 ``(N, C)``, and which images these are."""

    def __init__(self, channels: int) -> None:
        self._images = [np.zeros(0, np.int64)]
        self._means = [np.zeros((0, channels), np.float32)]

    def update(self, reading: Reading) -> None:
        self._images.append(reading.images)
        self._means.append(reading.mean)

    def merge(self, other: Self) -> None:
        self._images += other._images
        self._means += other._means

    def state(self) -> State:
        """``pooled.image`` int64 ``(N,)``, ascending; ``pooled.mean`` float32 ``(N, C)``."""
        images = np.concatenate(self._images)
        order = np.argsort(images, kind="stable")
        means = np.concatenate(self._means)[order]
        return {"pooled.image": images[order], "pooled.mean": means}

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(state["pooled.mean"].shape[1])
        made._images, made._means = [state["pooled.image"]], [state["pooled.mean"]]
        return made
