"""Hedges' g against the textbook on the raw values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from convscope._similarity import effect_sizes

Floats = NDArray[np.float64]


def of_values(values: Floats, labels: NDArray[np.int64], classes: int) -> Floats:
    parts = [values[:, labels == k] for k in range(classes)]
    return effect_sizes(
        [part.shape[1] for part in parts],
        np.array([part.sum(1) for part in parts]),
        (values**2).sum(1),
    )


def textbook(inside: Floats, outside: Floats) -> float:
    a, b = len(inside), len(outside)
    pooled = ((a - 1) * inside.var(ddof=1) + (b - 1) * outside.var(ddof=1)) / (a + b - 2)
    d = (inside.mean() - outside.mean()) / np.sqrt(pooled)
    return float(d * (1 - 3 / (4 * (a + b) - 9)))


@given(st.integers(0, 2**32 - 1))
def test_it_is_the_textbooks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(3), 2), rng.integers(0, 3, 20)])
    values = rng.normal(labels * rng.normal(size=(4, 1)), 1)
    found = of_values(values, labels, 3)
    for k in range(3):
        for channel in range(4):
            inside, outside = values[channel, labels == k], values[channel, labels != k]
            assert found[k, channel] == pytest.approx(textbook(inside, outside))


def test_it_does_not_grow_with_the_sample() -> None:
    rng = np.random.default_rng(0)
    for n in (1000, 20_000):
        labels = np.repeat([0, 1], n)
        values = rng.normal(labels * 2.0, 1)[None]
        assert of_values(values, labels, 2)[1, 0] == pytest.approx(2, abs=0.12)


def test_a_channel_on_for_one_class_and_constant_there_is_infinite() -> None:
    labels = np.repeat([0, 1, 2], 5)
    values = np.stack([(labels == 2) * 1.0, np.zeros(15)])
    found = of_values(values, labels, 3)
    assert found[2, 0] == np.inf
    assert (found[:2, 0] < 0).all()
    assert found[:, 1].tolist() == [0, 0, 0]


def test_rounding_is_no_difference() -> None:
    """A saturated sigmoid: 1 everywhere but for the last bits."""
    labels = np.repeat([0, 1, 2], 50)
    values = 1 - np.random.default_rng(0).uniform(0, 1e-7, (1, 150)) - 1e-7 * (labels == 1)
    assert (of_values(values, labels, 3) == 0).all()


def test_a_class_of_one_image_has_no_effect_size() -> None:
    found = of_values(np.arange(4.0)[None], np.array([0, 0, 0, 1]), 3)
    assert np.isnan(found[1:]).all()
    assert np.isnan(found[0]).all()  # one image outside
