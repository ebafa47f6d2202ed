"""The figures of a diagnosis: accuracy, calibration, and channels that go with errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._diagnosis.observed import Observed

BINS = 15
LEAST = 8  # pictures on each side, for a comparison of channels


@dataclass(frozen=True, eq=False)
class Calibration:
    """Whether probabilities are what they say (Guo et al., 2017).

    - ``edges`` ``(16,)``; ``counts``, ``accuracy``, ``confidence`` ``(15,)``, NaN in empty bins
    - ``error``: the expected calibration error, the mean distance of the two, weighted by counts
    - ``temperature``: what scores should be divided by; ``after``: the error then
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]
    error: float
    temperature: float
    after: float


def calibration(seen: Observed) -> Calibration:
    """The reliability of the top probabilities, and the temperature that would mend it."""
    edges, counts, accuracy, confidence, error = _reliability(seen.confidence, ~seen.wrong)
    logs = np.log(np.clip(seen.chances, 1e-12, None))
    temperature = _temperature(logs, seen.labels)
    cooled = _softmax(logs / temperature)
    after = _reliability(cooled.max(1), cooled.argmax(1) == seen.labels)[-1]
    return Calibration(edges, counts, accuracy, confidence, error, temperature, after)


def _reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.bincount(place, weights=right, minlength=BINS) / counts
        sure = np.bincount(place, weights=confidence, minlength=BINS) / counts
    error = float(np.nansum(np.abs(accuracy - sure) * counts) / len(confidence))
    return edges, counts.astype(np.int64), accuracy, sure, error


def _temperature(logs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The one that makes the labels most probable, by golden section on its logarithm."""
    rows = np.arange(len(labels))

    def cost(power: float) -> float:
        return -float(np.log(_softmax(logs / math.exp(power))[rows, labels] + 1e-300).mean())

    low, high, share = math.log(0.05), math.log(20), (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - share * (high - low), low + share * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return math.exp((low + high) / 2)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    risen = np.exp(values - values.max(1, keepdims=True))
    shares: NDArray[np.float64] = risen / risen.sum(1, keepdims=True)
    return shares


@dataclass(frozen=True)
class Telling:
    """A channel whose mean activation differs between two sets of pictures.

    - ``effect``: Hedges' g, in standard deviations; positive: higher in the first set
    - ``chance``: the probability of a difference as large by chance (Welch), times the number of
      comparisons made (Bonferroni), 1 at the most
    """

    address: str
    effect: float
    chance: float


def telling(
    pooled: dict[str, NDArray[np.float64]],
    inside: NDArray[np.bool_],
    against: NDArray[np.bool_],
    comparisons: int,
    most: int = 5,
) -> list[Telling]:
    """The channels that differ most between two sets of pictures, of those that do for sure."""
    found = []
    for path, values in pooled.items():
        effects, chances = _welch(values[inside], values[against])
        chances = np.minimum(chances * comparisons, 1)
        for k in np.argsort(-np.abs(effects), kind="stable")[:most]:
            if chances[k] < 0.05:
                found.append(Telling(f"{path}:{k}", float(effects[k]), float(chances[k])))
    return sorted(found, key=lambda one: -abs(one.effect))[:most]


def _welch(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hedges' g and the two-sided probability of Welch's t, channel by channel."""
    n, m = len(a), len(b)
    va, vb, gap = a.var(0, ddof=1), b.var(0, ddof=1), a.mean(0) - b.mean(0)
    spread = np.sqrt(((n - 1) * va + (m - 1) * vb) / (n + m - 2))
    steady = spread <= 1e-9 * (np.abs(a).max(0) + np.abs(b).max(0) + 1e-30)
    with np.errstate(invalid="ignore", divide="ignore"):
        effects = gap / spread * (1 - 3 / (4 * (n + m - 2) - 1))
        error = va / n + vb / m
        t = gap / np.sqrt(error)
        freedom = error**2 / ((va / n) ** 2 / (n - 1) + (vb / m) ** 2 / (m - 1))
        # Student's t as a normal deviate (Wallace, 1959): good to a few per cent
        z = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    chances = np.array([math.erfc(abs(v) / math.sqrt(2)) for v in np.nan_to_num(z)])
    return np.where(steady, 0.0, np.nan_to_num(effects)), np.where(steady, 1.0, chances)
