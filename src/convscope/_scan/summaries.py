"""Mergeable statistics of one layer's channels: ``update``, ``merge``, ``state``, ``from_state``.

Each is a commutative monoid over disjoint sets of images: from one pass or from many, in any order,
lists and counts are the same; sums agree to float64's rounding, and to the last bit where the same
shards are added in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from convscope._atlas.histogram_bins import BINS, bin_of
from convscope._scan.layer_batch_stats import LayerBatchStats, hash_indices
from convscope._scan.top_k import TopK

State = dict[str, NDArray[Any]]
LISTS = ("top.mean", "top.peak", "bottom.mean", "bottom.peak")
NO_LIMIT = 2**64 - 1


@dataclass(frozen=True)
class SummarySettings:
    """What is summarized, for every layer alike.

    Attributes:
        top: The number of images in each list.
        sample: The number of random images whose mean, peak and position are kept.
        seed: Which random images.
        pooled: Whether the mean of every image is kept.
        labeled: Whether means by class are kept.
        sample_limit: Images whose hash is not below this never enter the sample, so that a shard
            does not carry a full sample of its own.
    """

    top: int = 9
    sample: int = 512
    seed: int = 0
    pooled: bool = False
    labeled: bool = False
    sample_limit: int = NO_LIMIT


class LayerSummary:
    """All summaries of one layer, updated and merged together."""

    def __init__(self, settings: SummarySettings, channels: int) -> None:
        self._summaries: dict[str, Any] = {
            "extremes": ExtremeImages(settings.top, channels),
            "values": ValueStatistics(channels),
            "histogram": Histogram(channels),
            "sample": RandomSample(settings.sample, settings.seed, channels, settings.sample_limit),
        }
        if settings.pooled:
            self._summaries["pooled"] = ImageMeans(channels)
        if settings.labeled:
            self._summaries["classes"] = ClassMeans(channels)

    def update(self, stats: LayerBatchStats, labels: NDArray[np.int64] | None) -> None:
        """Add one batch; ``labels`` are those of its images."""
        for name, summary in self._summaries.items():
            if name == "classes":
                summary.update(stats, labels)
            else:
                summary.update(stats)

    def merge(self, other: Self) -> None:
        """Add what another one has gathered from other images."""
        for name, summary in self._summaries.items():
            summary.merge(other._summaries[name])

    def state(self) -> State:
        """Everything as arrays by name; ``convscope._atlas`` describes them."""
        return {
            key: value
            for summary in self._summaries.values()
            for key, value in summary.state().items()
        }

    @classmethod
    def from_state(cls, settings: SummarySettings, state: Mapping[str, NDArray[Any]]) -> Self:
        """The summaries that ``state`` returned."""
        made = cls(settings, 0)
        for name, summary in made._summaries.items():
            made._summaries[name] = (
                summary.from_state(state, settings.sample, settings.seed, settings.sample_limit)
                if name == "sample"
                else summary.from_state(state)
            )
        return made


class ExtremeImages:
    """The ``k`` highest and lowest images of each channel, by mean and by peak."""

    def __init__(self, k: int, channels: int) -> None:
        self.lists = TopK(k, len(LISTS) * channels)
        self.channels = channels

    def update(self, stats: LayerBatchStats) -> None:
        scores = np.concatenate([stats.mean, stats.peak, -stats.mean, -stats.peak], 1)

        def positions_of(rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.int32]:
            which, channel = np.divmod(columns, self.channels)
            of_lowest = which == LISTS.index("bottom.mean")
            positions = np.empty(len(rows), np.int32)
            for lowest in (False, True):
                chosen = of_lowest == lowest
                positions[chosen] = stats.extreme_positions(
                    rows[chosen], channel[chosen], lowest=lowest
                )
            return positions

        self.lists.update(stats.images, scores, positions_of)

    def merge(self, other: Self) -> None:
        self.lists.merge(other.lists)

    def state(self) -> State:
        state: State = {}
        for key, values in self.lists.state().items():
            for name, column in zip(LISTS, np.split(values, len(LISTS), axis=-1), strict=True):
                state[f"{name}.{key}"] = _signed(name, key, column)
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        k, channels = state["top.mean.score"].shape
        made = cls(k, channels)
        made.lists = TopK.from_state(
            {
                key: np.concatenate(
                    [_signed(name, key, state[f"{name}.{key}"]) for name in LISTS], -1
                )
                for key in ("score", "image", "position", "ties")
            }
        )
        return made


def _signed(name: str, key: str, values: NDArray[Any]) -> NDArray[Any]:
    """The lowest are ranked by their negated scores; negate them (back), without making −0."""
    if key != "score":
        return values
    return (-values if name.startswith("bottom") else values) + 0


class ValueStatistics:
    """Counts, sums and extremes over all positions of all images, and sums of the images' means.

    NaN values are left out and counted apart; ``mean.*`` leaves out images whose mean is not
    finite.
    """

    _ADDED = ("count", "nan", "active", "sum", "square", "mean.count", "mean.sum", "mean.square")

    def __init__(self, channels: int) -> None:
        counts = ("count", "nan", "active", "mean.count")
        self._sums: State = {
            name: np.zeros(channels, np.int64 if name in counts else np.float64)
            for name in self._ADDED
        }
        self._minimum = np.full(channels, np.inf, np.float32)
        self._maximum = np.full(channels, -np.inf, np.float32)

    def update(self, stats: LayerBatchStats) -> None:
        means = stats.sum / stats.positions
        finite = np.isfinite(stats.mean)
        means = np.where(finite, means, 0)
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            added = {
                "count": len(stats.images) * stats.positions - stats.nan,
                "nan": stats.nan,
                "active": stats.active,
                "sum": stats.sum.sum(0),
                "square": stats.square.sum(0),
                "mean.count": finite.sum(0),
                "mean.sum": means.sum(0),
                "mean.square": (means * means).sum(0),
            }
            for name, value in added.items():
                self._sums[name] += value
        np.fmin(self._minimum, stats.minimum.min(0), out=self._minimum)
        np.fmax(self._maximum, stats.maximum.max(0), out=self._maximum)

    def merge(self, other: Self) -> None:
        with np.errstate(invalid="ignore"):
            for name in self._ADDED:
                self._sums[name] = self._sums[name] + other._sums[name]
        self._minimum = np.minimum(self._minimum, other._minimum)
        self._maximum = np.maximum(self._maximum, other._maximum)

    def state(self) -> State:
        return {**self._sums, "minimum": self._minimum, "maximum": self._maximum}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(len(state["count"]))
        made._sums = {name: state[name].copy() for name in cls._ADDED}
        made._minimum, made._maximum = state["minimum"].copy(), state["maximum"].copy()
        return made


class Histogram:
    """Counts of values in the fixed bins of ``histogram_bins``, at some positions of every map."""

    def __init__(self, channels: int) -> None:
        self._counts = np.zeros((channels, BINS), np.uint32)

    def update(self, stats: LayerBatchStats) -> None:
        channels, width = self._counts.shape[0], BINS + 1  # one more for NaN
        bins = bin_of(stats.sampled_values())
        bins += np.arange(channels)[:, None] * width
        counts = np.bincount(bins.ravel(), minlength=channels * width)
        self._counts += counts.reshape(channels, width)[:, :BINS].astype(np.uint32)

    def merge(self, other: Self) -> None:
        self._counts = self._counts + other._counts

    def state(self) -> State:
        return {"histogram": self._counts}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(0)
        made._counts = state["histogram"].copy()
        return made


class ClassMeans:
    """For each class that occurs: Σ of the images' means, and the number of images."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._sums: dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}

    def update(self, stats: LayerBatchStats, labels: NDArray[np.int64]) -> None:
        finite = np.isfinite(stats.mean)
        means = np.where(finite, stats.sum / stats.positions, 0)
        for label in np.unique(labels):
            chosen = labels == label
            self._add(int(label), means[chosen].sum(0), finite[chosen].sum(0))

    def _add(self, label: int, total: NDArray[np.float64], count: NDArray[np.int64]) -> None:
        if label in self._sums:
            before = self._sums[label]
            total, count = before[0] + total, before[1] + count
        self._sums[label] = (total, count)

    def merge(self, other: Self) -> None:
        for label, (total, count) in other._sums.items():
            self._add(label, total, count)

    def state(self) -> State:
        """``class`` int64 ``(K,)``, ascending; the other two ``(K, C)``."""
        labels = sorted(self._sums)
        empty = (np.zeros((0, self._channels)), np.zeros((0, self._channels), np.int64))
        total, count = (
            np.stack([self._sums[label][k] for label in labels]) if labels else empty[k]
            for k in (0, 1)
        )
        return {
            "class": np.array(labels, np.int64),
            "class.sum": total,
            "class.count": count.astype(np.int32),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(state["class.sum"].shape[1])
        for label, total, count in zip(
            state["class"], state["class.sum"], state["class.count"], strict=True
        ):
            made._sums[int(label)] = (total, count.astype(np.int64))
        return made


class RandomSample:
    """Mean, peak and its position for ``size`` random images, the same in every layer.

    Which images these are depends on ``seed`` and their indices alone: those with the lowest hash.
    """

    _KEYS = ("mean", "peak", "position")

    def __init__(self, size: int, seed: int, channels: int, limit: int = NO_LIMIT) -> None:
        self.size, self.seed, self.limit = size, seed, np.uint64(limit)
        self._images = np.zeros(0, np.int64)
        dtypes = {"mean": np.float32, "peak": np.float32, "position": np.int32}
        self._rows: State = {key: np.zeros((0, channels), dtypes[key]) for key in self._KEYS}

    def update(self, stats: LayerBatchStats) -> None:
        chosen = np.flatnonzero(hash_indices(stats.images, self.seed) < self.limit)
        if not len(chosen):
            return
        rows, channels = np.divmod(np.arange(len(chosen) * stats.channels), stats.channels)
        positions = stats.extreme_positions(chosen[rows], channels).reshape(len(chosen), -1)
        added = {"mean": stats.mean[chosen], "peak": stats.peak[chosen], "position": positions}
        self._add(stats.images[chosen], added)

    def _add(self, images: NDArray[np.int64], rows: State) -> None:
        both = np.concatenate([self._images, images])
        drawn = np.argsort(hash_indices(both, self.seed), kind="stable")[: self.size]
        self._images = both[drawn]
        self._rows = {
            key: np.concatenate([self._rows[key], rows[key]])[drawn] for key in self._KEYS
        }

    def merge(self, other: Self) -> None:
        self._add(other._images, other._rows)

    def state(self) -> State:
        """``sample.image`` int64 ``(S,)`` in random order; the others ``(S, C)``."""
        return {
            "sample.image": self._images,
            **{f"sample.{key}": self._rows[key] for key in self._KEYS},
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, NDArray[Any]], size: int, seed: int, limit: int = NO_LIMIT
    ) -> Self:
        made = cls(size, seed, state["sample.mean"].shape[1], limit)
        made._add(state["sample.image"], {key: state[f"sample.{key}"] for key in cls._KEYS})
        return made


class ImageMeans:
    """The mean of every image: float32 ``(N, C)``, and the images' indices."""

    def __init__(self, channels: int) -> None:
        self._images = [np.zeros(0, np.int64)]
        self._means = [np.zeros((0, channels), np.float32)]

    def update(self, stats: LayerBatchStats) -> None:
        self._images.append(stats.images)
        self._means.append(stats.mean)

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
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls(state["pooled.mean"].shape[1])
        made._images, made._means = [state["pooled.image"]], [state["pooled.mean"]]
        return made
