"""Failure groups: errors that look alike to the network, are called alike and answered alike.

As in Domino (Eyuboglu et al., 2022) clusters are of features, labels and answers together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._diagnosis.figures import Telling, telling
from convscope._diagnosis.observed import Observed

_DIRECTIONS, _MOST, _FEWEST = 16, 12, 5
MIXED = 0.3  # a group of which less is of one kind has no name
_WEIGHT = 0.7  # of labels and answers, beside features of mean square 1


@dataclass(frozen=True, eq=False)
class Group:
    """Errors that look alike to the network.

    - ``members``: rows of the observation, the nearest to the middle first
    - ``label``, ``answer``: the commonest true class and answer among them; ``pure``: their share
    - ``rate``: the share of errors among the pictures of that class that lie as near to its middle;
      of all pictures, where no kind of error prevails
    - ``confidence``: the mean of the members' top probabilities
    - ``channels``: those that set the members apart from all other pictures
    """

    members: NDArray[np.int64]
    label: int
    answer: int
    pure: float
    rate: float
    confidence: float
    channels: tuple[Telling, ...]


def groups(seen: Observed, seed: int = 0) -> list[Group]:
    """Clusters of the errors, the largest first; none where there are too few."""
    wrong = np.flatnonzero(seen.wrong)
    if len(wrong) < 2 * _FEWEST:
        return []
    places = _places(seen.pooled[seen.features])
    points = np.hstack(
        [
            places[wrong] / max(float(np.sqrt((places[wrong] ** 2).sum(1).mean())), 1e-12),
            _WEIGHT * _one_hot(seen.labels[wrong]),
            _WEIGHT * _one_hot(seen.answers[wrong]),
        ]
    )
    cluster = _clustered(points, np.random.default_rng(seed))
    found = [
        _group(seen, places, wrong[cluster == k])
        for k in range(cluster.max() + 1)
        if (cluster == k).sum() >= _FEWEST
    ]
    return sorted(found, key=lambda one: -len(one.members) * one.rate)


def _one_hot(values: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.eye(int(values.max()) + 1)[values]


def _places(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pictures along the main directions in which their standardized features differ."""
    spread = features.std(0)
    live = features[:, spread > 1e-9] if (spread > 1e-9).any() else features
    even = (live - live.mean(0)) / np.maximum(live.std(0), 1e-12)
    _, _, directions = np.linalg.svd(even[:: max(1, len(even) // 4000)], full_matrices=False)
    placed: NDArray[np.float64] = even @ directions[:_DIRECTIONS].T
    return placed


def _clustered(points: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int64]:
    """k-means with the k (2 to 12) whose clusters lie furthest apart (silhouette)."""
    best, kept = -1.0, np.zeros(len(points), np.int64)
    for k in range(2, min(_MOST, len(points) // _FEWEST) + 1):
        labels = min((_k_means(points, k, random) for _ in range(4)), key=lambda one: one[1])[0]
        score = _silhouette(points, labels)
        if score > best:
            best, kept = score, labels
    return kept


def _k_means(
    points: NDArray[np.float64], k: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """Lloyd's iterations from k-means++ seeds; labels, and the sum of squared distances."""
    middles = points[[random.integers(len(points))]]
    while len(middles) < k:
        far = _distances(points, middles).min(1)
        chance = far / far.sum() if far.sum() > 0 else None
        middles = np.vstack([middles, points[random.choice(len(points), p=chance)]])
    for _ in range(50):
        labels = _distances(points, middles).argmin(1)
        moved = np.stack(
            [points[labels == j].mean(0) if (labels == j).any() else middles[j] for j in range(k)]
        )
        if np.allclose(moved, middles):
            break
        middles = moved
    far = _distances(points, middles)
    return far.argmin(1).astype(np.int64), float(far.min(1).sum())


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared, ``(len(a), len(b))``."""
    squares: NDArray[np.float64] = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.clip(squares, 0, None)


def _silhouette(points: NDArray[np.float64], labels: NDArray[np.int64], most: int = 1000) -> float:
    some = np.linspace(0, len(points) - 1, min(most, len(points))).astype(int)
    points, labels = points[some], labels[some]
    far = np.sqrt(_distances(points, points))
    kinds = np.unique(labels)
    if len(kinds) < 2:
        return -1.0
    sums = np.stack([far[:, labels == k].sum(1) for k in kinds], 1)
    counts = np.array([(labels == k).sum() for k in kinds])
    own = np.searchsorted(kinds, labels)
    rows = np.arange(len(points))
    inside = sums[rows, own] / np.maximum(counts[own] - 1, 1)
    means = sums / counts
    means[rows, own] = np.inf
    outside = means.min(1)
    single = counts[own] == 1
    values = np.where(
        single, 0, (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    )
    return float(values.mean())


def _group(seen: Observed, places: NDArray[np.float64], members: NDArray[np.int64]) -> Group:
    middle = places[members].mean(0, keepdims=True)
    far = _distances(places, middle)[:, 0]
    pairs = list(zip(seen.labels[members].tolist(), seen.answers[members].tolist(), strict=True))
    (label, answer) = max(set(pairs), key=lambda pair: (pairs.count(pair), -pair[0]))
    near = far <= np.quantile(far[members], 0.9)
    if pairs.count((label, answer)) > MIXED * len(pairs):
        near &= seen.labels == label
    rate = float(seen.wrong[near].mean()) if near.any() else 1.0
    inside = np.zeros(len(places), bool)
    inside[members] = True
    count = sum(values.shape[1] for values in seen.pooled.values())
    return Group(
        members[np.argsort(far[members], kind="stable")],
        label,
        answer,
        pairs.count((label, answer)) / len(pairs),
        rate,
        float(seen.confidence[members].mean()),
        tuple(telling(seen.pooled, inside, ~inside, count)),
    )
