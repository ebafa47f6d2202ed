"""What a classifier's errors have in common: channels that differ, and failure groups.

Failure groups are clusters of features, labels and predictions together, as in Domino (Eyuboglu et
al., ICLR 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._diagnosis.predictions import Predictions

MIN_PURITY = 0.3  # a group in which no confusion has a larger share is of mixed errors
MIN_COMPARED = 8  # images on each side of a comparison of channels
_SIGNIFICANCE = 0.05
_COMPONENTS, _MAX_GROUPS, _MIN_ERRORS = 16, 12, 5
_CLASS_WEIGHT = 0.7  # of labels and predictions, beside features of mean square 1
_CENTRAL_SHARE = 0.9  # the share of a group's errors that sets its radius


@dataclass(frozen=True)
class ChannelDifference:
    """A channel whose mean activation differs between two sets of images.

    Attributes:
        address: The channel's address.
        effect_size: Hedges' g, in standard deviations; positive where the first set's mean is
            higher.
        p_value: Of Welch's t-test, times the number of comparisons (Bonferroni), at most 1.
    """

    address: str
    effect_size: float
    p_value: float


@dataclass(frozen=True, eq=False)
class FailureGroup:
    """Errors with similar features.

    Attributes:
        members: Rows of the predictions, ``(n,)``, those nearest to the group's center first.
        label: The label of the most frequent confusion among them.
        prediction: The predicted class of that confusion.
        purity: The share of that confusion among them.
        error_rate: The share of errors among the images of that class that lie as near to the
            center; among all images, where the group is of mixed errors.
        confidence: Mean confidence of the members.
        channels: The channels that distinguish the members from all other images.
    """

    members: NDArray[np.int64]
    label: int
    prediction: int
    purity: float
    error_rate: float
    confidence: float
    channels: tuple[ChannelDifference, ...]


def channels_of_errors(predictions: Predictions) -> dict[int, list[ChannelDifference]]:
    """Return, by class, the channels that differ between its wrong and its correct predictions.

    Only classes with enough images of both are compared.
    """
    sides = {}
    for label in np.unique(predictions.labels).tolist():
        of_class = predictions.labels == label
        wrong, correct = of_class & predictions.wrong, of_class & ~predictions.wrong
        if min(wrong.sum(), correct.sum()) >= MIN_COMPARED:
            sides[int(label)] = wrong, correct
    channels = sum(values.shape[1] for values in predictions.pooled.values())
    found = {
        label: differing_channels(predictions.pooled, wrong, correct, channels * len(sides))
        for label, (wrong, correct) in sides.items()
    }
    return {label: differences for label, differences in found.items() if differences}


def differing_channels(
    pooled: dict[str, NDArray[np.float64]],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    comparisons: int,
    limit: int = 5,
) -> list[ChannelDifference]:
    """Return the channels that differ most between two sets of images, if significantly.

    Args:
        pooled: Mean activations ``(N, C)`` by layer path.
        first: Mask of the first set, ``(N,)``.
        second: Mask of the second set, ``(N,)``.
        comparisons: The number of comparisons made in all, for the correction.
        limit: The largest number of channels to return.
    """
    found = []
    for path, values in pooled.items():
        effects, p_values = _welch(values[first], values[second])
        p_values = np.minimum(p_values * comparisons, 1)
        for k in np.argsort(-np.abs(effects), kind="stable")[:limit]:
            if p_values[k] < _SIGNIFICANCE:
                found.append(
                    ChannelDifference(f"{path}:{k}", float(effects[k]), float(p_values[k]))
                )
    return sorted(found, key=lambda one: -abs(one.effect_size))[:limit]


def _welch(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hedges' g and the two-sided p-value of Welch's t-test, channel by channel."""
    n, m = len(a), len(b)
    va, vb, difference = a.var(0, ddof=1), b.var(0, ddof=1), a.mean(0) - b.mean(0)
    std = np.sqrt(((n - 1) * va + (m - 1) * vb) / (n + m - 2))
    constant = std <= 1e-9 * (np.abs(a).max(0) + np.abs(b).max(0) + 1e-30)
    with np.errstate(invalid="ignore", divide="ignore"):
        effects = difference / std * (1 - 3 / (4 * (n + m - 2) - 1))
        error = va / n + vb / m
        t = difference / np.sqrt(error)
        freedom = error**2 / ((va / n) ** 2 / (n - 1) + (vb / m) ** 2 / (m - 1))
        # Student's t as a normal deviate (Wallace, 1959): good to a few per cent
        z = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    p_values = np.array([math.erfc(abs(v) / math.sqrt(2)) for v in np.nan_to_num(z)])
    return np.where(constant, 0.0, np.nan_to_num(effects)), np.where(constant, 1.0, p_values)


def failure_groups(predictions: Predictions, seed: int = 0) -> list[FailureGroup]:
    """Cluster the errors, by size × error rate; none where there are too few errors."""
    wrong = np.flatnonzero(predictions.wrong)
    if len(wrong) < 2 * _MIN_ERRORS:
        return []
    features = _principal_components(predictions.pooled[predictions.feature_layer])
    scale = max(float(np.sqrt((features[wrong] ** 2).sum(1).mean())), 1e-12)
    points = np.hstack(
        [
            features[wrong] / scale,
            _CLASS_WEIGHT * _one_hot(predictions.labels[wrong]),
            _CLASS_WEIGHT * _one_hot(predictions.predicted[wrong]),
        ]
    )
    cluster = _cluster(points, np.random.default_rng(seed))
    found = [
        _failure_group(predictions, features, wrong[cluster == k])
        for k in range(cluster.max() + 1)
        if (cluster == k).sum() >= _MIN_ERRORS
    ]
    return sorted(found, key=lambda group: -len(group.members) * group.error_rate)


def _one_hot(values: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.eye(int(values.max()) + 1)[values]


def _principal_components(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project standardized features ``(N, C)`` on their first principal components."""
    std = features.std(0)
    varying = features[:, std > 1e-9] if (std > 1e-9).any() else features
    standardized = (varying - varying.mean(0)) / np.maximum(varying.std(0), 1e-12)
    sample = standardized[:: max(1, len(standardized) // 4000)]
    _, _, components = np.linalg.svd(sample, full_matrices=False)
    return np.asarray(standardized @ components[:_COMPONENTS].T)


def _failure_group(
    predictions: Predictions, features: NDArray[np.float64], members: NDArray[np.int64]
) -> FailureGroup:
    center = features[members].mean(0, keepdims=True)
    distance = _squared_distances(features, center)[:, 0]
    labels, predicted = predictions.labels[members], predictions.predicted[members]
    pairs = list(zip(labels.tolist(), predicted.tolist(), strict=True))
    label, prediction = max(set(pairs), key=lambda pair: (pairs.count(pair), -pair[0]))
    purity = pairs.count((label, prediction)) / len(pairs)
    near = distance <= np.quantile(distance[members], _CENTRAL_SHARE)
    if purity > MIN_PURITY:
        near &= predictions.labels == label
    inside = np.zeros(len(features), bool)
    inside[members] = True
    comparisons = sum(values.shape[1] for values in predictions.pooled.values())
    return FailureGroup(
        members=members[np.argsort(distance[members], kind="stable")],
        label=label,
        prediction=prediction,
        purity=purity,
        error_rate=float(predictions.wrong[near].mean()) if near.any() else 1.0,
        confidence=float(predictions.confidence[members].mean()),
        channels=tuple(differing_channels(predictions.pooled, inside, ~inside, comparisons)),
    )


def _cluster(points: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int64]:
    """k-means with the k, from 2 to 12, of the highest silhouette."""
    best_score, best = -1.0, np.zeros(len(points), np.int64)
    for k in range(2, min(_MAX_GROUPS, len(points) // _MIN_ERRORS) + 1):
        labels = min((_k_means(points, k, random) for _ in range(4)), key=lambda run: run[1])[0]
        score = _silhouette(points, labels)
        if score > best_score:
            best_score, best = score, labels
    return best


def _k_means(
    points: NDArray[np.float64], k: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """Lloyd's iterations from k-means++ seeds; labels, and the sum of squared distances."""
    centers = points[[random.integers(len(points))]]
    while len(centers) < k:
        distance = _squared_distances(points, centers).min(1)
        weights = distance / distance.sum() if distance.sum() > 0 else None
        centers = np.vstack([centers, points[random.choice(len(points), p=weights)]])
    for _ in range(50):
        labels = _squared_distances(points, centers).argmin(1)
        moved = np.stack(
            [points[labels == j].mean(0) if (labels == j).any() else centers[j] for j in range(k)]
        )
        if np.allclose(moved, centers):
            break
        centers = moved
    distance = _squared_distances(points, centers)
    return distance.argmin(1).astype(np.int64), float(distance.min(1).sum())


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(len(a), len(b))``."""
    squares: NDArray[np.float64] = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.clip(squares, 0, None)


def _silhouette(points: NDArray[np.float64], labels: NDArray[np.int64], limit: int = 1000) -> float:
    """The mean silhouette (Rousseeuw, 1987) of at most ``limit`` points."""
    sample = np.linspace(0, len(points) - 1, min(limit, len(points))).astype(int)
    points, labels = points[sample], labels[sample]
    distance = np.sqrt(_squared_distances(points, points))
    clusters = np.unique(labels)
    if len(clusters) < 2:
        return -1.0
    sums = np.stack([distance[:, labels == k].sum(1) for k in clusters], 1)
    counts = np.array([(labels == k).sum() for k in clusters])
    own = np.searchsorted(clusters, labels)
    rows = np.arange(len(points))
    inside = sums[rows, own] / np.maximum(counts[own] - 1, 1)
    means = sums / counts
    means[rows, own] = np.inf
    outside = means.min(1)
    larger = np.maximum(np.maximum(inside, outside), 1e-12)
    return float(np.where(counts[own] == 1, 0, (outside - inside) / larger).mean())
