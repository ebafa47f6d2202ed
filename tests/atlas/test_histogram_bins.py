"""The bins of all histograms, and percentiles estimated from them."""

from __future__ import annotations

import numpy as np
import pytest

from convscope._atlas.histogram_bins import BINS, HIGH, LOW, ZERO, bin_of, percentiles


def test_bins_rise_and_cover_everything() -> None:
    assert len(LOW) == len(HIGH) == BINS
    assert (LOW[1:] == HIGH[:-1]).all()
    assert (LOW[0], HIGH[-1], LOW[ZERO], HIGH[ZERO]) == (-np.inf, np.inf, 0, 0)
    values = np.float32([-np.inf, -1e30, -1, -1e-6, -0.0, 0, 1e-6, 1, 1.2, 1.3, 1e30, np.inf])
    found = bin_of(values)
    assert (np.diff(found) >= 0).all()
    assert (found[[0, 4, 5, -1]] == [0, ZERO, ZERO, BINS - 1]).all()
    assert bin_of(np.float32([np.nan])).tolist() == [BINS]


def test_percentiles_are_within_a_bin_of_the_true_ones() -> None:
    draw = np.random.default_rng(0)
    values = np.stack(
        [
            draw.normal(0, 3, 50_000),
            np.maximum(draw.normal(-1, 1, 50_000), 0),
            draw.lognormal(2, 1, 50_000),
        ]
    ).astype(np.float32)
    counts = np.stack([np.bincount(bin_of(row), minlength=BINS) for row in values])
    wanted = (0.5, 5, 25, 50, 75, 95, 99.5)
    found = percentiles(counts, wanted, values.min(1), values.max(1))
    true = np.percentile(values, wanted, axis=1)
    assert (np.abs(found - true) <= 0.03 + 0.06 * np.abs(true)).all()
    empty = percentiles(
        np.zeros((1, BINS), int), (50,), np.float32([np.inf]), np.float32([-np.inf])
    )
    assert np.isnan(empty).all()


def test_the_extremes_end_the_outermost_bins() -> None:
    counts = np.zeros((1, BINS), int)
    counts[0, -1] = counts[0, 0] = 10
    low, high = np.float32([-1e9]), np.float32([1e9])
    assert percentiles(counts, (0, 100), low, high)[:, 0].tolist() == [-1e9, 1e9]
    assert percentiles(counts, (50,), low, high)[0, 0] == pytest.approx(-(2.0**16), rel=0.01)


def test_zeros_have_a_bin_of_their_own() -> None:
    counts = np.bincount(bin_of(np.float32([0, -0.0, 1e-45, 1.5])), minlength=BINS)[None]
    assert counts[0, ZERO] == 3
    found = percentiles(counts, (25, 50, 75), np.float32([0]), np.float32([1.5]))
    assert found[:, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [2.0**-12, 1.0, 1.25, 3.0, 2.0**15])
def test_the_edges_are_quarters_of_octaves(value: float) -> None:
    (index,) = bin_of(np.float32([value]))
    assert LOW[index] <= value < HIGH[index]
    assert HIGH[index] / LOW[index] <= 1.25
    assert bin_of(np.float32([-value]))[0] == BINS - 1 - index
