"""What errors have in common: planted groups, and each measure against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convscope._diagnosis import Predictions
from convscope._diagnosis.errors import (
    MIN_COMPARED,
    _k_means,
    _principal_components,
    _silhouette,
    channels_of_errors,
    differing_channels,
    failure_groups,
)


def planted(features: NDArray[np.float64], labels: list[int], predicted: list[int]) -> Predictions:
    classes = max([*labels, *predicted]) + 1
    values = np.full((len(labels), classes), 0.1 / max(classes - 1, 1))
    values[np.arange(len(labels)), predicted] = 0.9
    return Predictions(np.arange(len(labels)), np.array(labels), values, {"f": features}, "f")


@given(st.integers(0, 2**32 - 1), st.integers(4, 25), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_the_silhouette_is_that_of_its_definition(seed: int, count: int, clusters: int) -> None:
    random = np.random.default_rng(seed)
    points, labels = random.normal(size=(count, 3)), random.integers(0, clusters, count)
    scores = []
    for i in range(count):
        mates = [j for j in range(count) if labels[j] == labels[i] and j != i]
        others = [k for k in set(labels.tolist()) if k != labels[i]]
        if not mates or not others:
            scores.append(0.0)
            continue
        inside = np.mean([np.linalg.norm(points[i] - points[j]) for j in mates])
        outside = min(
            np.mean([np.linalg.norm(points[i] - points[j]) for j in np.flatnonzero(labels == k)])
            for k in others
        )
        scores.append((outside - inside) / max(inside, outside))
    expected = -1.0 if len(set(labels.tolist())) < 2 else float(np.mean(scores))
    assert _silhouette(points, labels) == pytest.approx(expected, abs=1e-6)


def test_k_means_finds_clusters_that_are_far_apart() -> None:
    random = np.random.default_rng(1)
    centers = np.array([[0.0, 0], [20, 0], [0, 20]])
    truth = np.repeat([0, 1, 2], 30)
    points = centers[truth] + random.normal(size=(90, 2))
    labels, distance = _k_means(points, 3, random)
    for k in range(3):
        assert len(set(labels[truth == k].tolist())) == 1
    assert len(set(labels.tolist())) == 3
    around = sum(((points[truth == k] - points[truth == k].mean(0)) ** 2).sum() for k in range(3))
    assert distance == pytest.approx(around)


def test_k_means_of_equal_points_ends() -> None:
    labels, distance = _k_means(np.ones((12, 2)), 3, np.random.default_rng(0))
    assert distance == pytest.approx(0)
    assert labels.shape == (12,)


def test_components_keep_the_distances_of_standardized_features() -> None:
    features = np.random.default_rng(2).normal(size=(40, 6)) * [1, 5, 100, 0.1, 1, 3] + 7
    features = np.hstack([features, np.full((40, 1), 3.0)])  # a constant adds nothing
    found = _principal_components(features)
    z = (features[:, :6] - features[:, :6].mean(0)) / features[:, :6].std(0)
    for i, j in ((0, 1), (5, 30), (12, 39)):
        expected = np.linalg.norm(z[i] - z[j])
        assert np.linalg.norm(found[i] - found[j]) == pytest.approx(expected)


def test_features_that_are_all_constant_give_no_nan() -> None:
    assert np.isfinite(_principal_components(np.full((10, 3), 2.0))).all()


@pytest.fixture(scope="module")
def two_groups() -> Predictions:
    """Class 0 fails as 1 where feature 0 is high, class 2 fails as 3 where feature 1 is."""
    random = np.random.default_rng(5)
    features = random.normal(size=(400, 6)) * 0.3
    labels = [k % 4 for k in range(400)]
    predicted = list(labels)
    for k in range(0, 400, 8):  # all of class 0
        features[k, 0] += 8
        predicted[k] = 1
    for k in range(2, 400, 16):  # all of class 2
        features[k, 1] += 8
        predicted[k] = 3
    return planted(features, labels, predicted)


def test_planted_failure_groups_are_found_whole_and_the_largest_first(
    two_groups: Predictions,
) -> None:
    large, small = failure_groups(two_groups)
    assert sorted(large.members.tolist()) == list(range(0, 400, 8))
    assert sorted(small.members.tolist()) == list(range(2, 400, 16))
    assert (large.label, large.prediction, large.purity) == (0, 1, 1.0)
    assert (small.label, small.prediction, small.purity) == (2, 3, 1.0)
    assert large.error_rate == small.error_rate == 1.0
    assert large.confidence == pytest.approx(0.9)
    assert large.channels[0].address == "f:0"
    assert small.channels[0].address == "f:1"
    assert large.channels[0].effect_size > 0


def test_groups_are_the_same_each_time(two_groups: Predictions) -> None:
    first, second = failure_groups(two_groups), failure_groups(two_groups)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.members, other.members)


def test_few_errors_make_no_group() -> None:
    labels = [0] * 50
    made = planted(np.zeros((50, 2)), labels, [1] * 9 + [0] * 41)
    assert failure_groups(made) == []


def test_channels_of_errors_need_enough_images_of_both_kinds() -> None:
    random = np.random.default_rng(6)
    for wrong, compared in ((MIN_COMPARED - 1, False), (MIN_COMPARED, True)):
        features = random.normal(size=(60, 3))
        features[:wrong, 2] += 9
        made = planted(features, [0] * 60, [1] * wrong + [0] * (60 - wrong))
        found = channels_of_errors(made)
        assert (0 in found) == compared
        if compared:
            assert [one.address for one in found[0]] == ["f:2"]


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    random = np.random.default_rng(7)
    values = random.normal(size=(60, 1))
    first = np.arange(60) < 30
    values[first] += 1.5
    (one,) = differing_channels({"f": values}, first, ~first, 1)
    (many,) = differing_channels({"f": values}, first, ~first, 4)
    assert many.p_value == pytest.approx(4 * one.p_value)
    assert not differing_channels({"f": values}, first, ~first, 10**6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_an_effect_size_keeps_under_shift_and_scale_and_turns_with_the_sides(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(40, 1))
    first = np.arange(40) < 20
    values[first] += 4
    (one,) = differing_channels({"f": values}, first, ~first, 1)
    (moved,) = differing_channels({"f": 3 * values + 100}, first, ~first, 1)
    (turned,) = differing_channels({"f": values}, ~first, first, 1)
    assert moved.effect_size == pytest.approx(one.effect_size, rel=1e-6)
    assert turned.effect_size == pytest.approx(-one.effect_size)
    assert turned.p_value == pytest.approx(one.p_value)
