"""All that is kept of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from convscope._scan.readings import Reading
from convscope._scan.summaries import (
    Classes,
    Extremes,
    Histogram,
    Moments,
    Pooled,
    Sample,
    State,
)


@dataclass(frozen=True)
class Kept:
    """What is kept, of every layer alike.

    - ``top``: images in each list.
    - ``sample``: images of which mean, peak and position are kept whatever they are; drawn by
      ``seed``.
    - ``pooled``: also the mean of every image.
    - ``labeled``: also means by class.
    - ``limit``: images whose mixed-up index is not below this are never in the sample, so that no
      shard keeps a sample of its own size.
    """

    top: int = 9
    sample: int = 512
    seed: int = 0
    pooled: bool = False
    labeled: bool = False
    limit: int = 2**64 - 1


class LayerSummary:
    """The summaries of one layer, fed and merged together."""

    def __init__(self, kept: Kept, channels: int) -> None:
        self._kept = kept
        self._parts: dict[str, Any] = {
            "extremes": Extremes(kept.top, channels),
            "moments": Moments(channels),
            "histogram": Histogram(channels),
            "sample": Sample(kept.sample, kept.seed, channels, kept.limit),
        }
        if kept.pooled:
            self._parts["pooled"] = Pooled(channels)
        if kept.labeled:
            self._parts["classes"] = Classes(channels)

    def update(self, reading: Reading, labels: NDArray[np.int64] | None) -> None:
        """Take in one batch; ``labels`` of its images where there are any."""
        for name, part in self._parts.items():
            if name == "classes":
                part.update(reading, labels)
            else:
                part.update(reading)

    def merge(self, other: Self) -> None:
        """Take in what was seen of other images."""
        for name, part in self._parts.items():
            part.merge(other._parts[name])

    def state(self) -> State:
        """Everything as arrays by name; see ``convscope._atlas`` for what they are."""
        return {key: value for part in self._parts.values() for key, value in part.state().items()}

    @classmethod
    def of(cls, kept: Kept, state: Mapping[str, NDArray[Any]]) -> Self:
        """The summaries with that state."""
        made = cls(kept, 0)
        made._parts["extremes"] = Extremes.of(state)
        made._parts["moments"] = Moments.of(state)
        made._parts["histogram"] = Histogram.of(state)
        made._parts["sample"] = Sample.of(state, kept.sample, kept.seed, kept.limit)
        if kept.pooled:
            made._parts["pooled"] = Pooled.of(state)
        if kept.labeled:
            made._parts["classes"] = Classes.of(state)
        return made
