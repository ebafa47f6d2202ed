"""Assignments against scipy's and against all permutations; planted permutations."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convscope._errors import UsageError
from convscope._similarity import assign, match


@given(arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(-9, 9)))
def test_no_permutation_is_cheaper(cost: np.ndarray) -> None:
    left, right = assign(cost)
    k = min(cost.shape)
    assert len(left) == len(right) == len(set(right.tolist())) == k
    assert left.tolist() == sorted(set(left.tolist()))
    table = cost if cost.shape[0] <= cost.shape[1] else cost.T
    cheapest = min(
        sum(table[i, p[i]] for i in range(k)) for p in permutations(range(table.shape[1]), k)
    )
    assert cost[left, right].sum() == cheapest


@pytest.mark.parametrize("shape", [(60, 60), (40, 90), (90, 40), (1, 7)])
def test_it_costs_what_scipys_does(shape: tuple[int, int]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        cost = rng.normal(size=shape) if seed % 2 else rng.integers(0, 9, shape).astype(float)
        left, right = assign(cost)
        rows, columns = optimize.linear_sum_assignment(cost)
        assert cost[left, right].sum() == pytest.approx(cost[rows, columns].sum())


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_permuted_copy_is_recovered(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(channels, 60))
    order = rng.permutation(channels)
    found = match(rows, 3 * rows[order] + 1, block=17)
    assert order[found.right].tolist() == found.left.tolist() == list(range(channels))
    np.testing.assert_allclose(found.correlations, 1)


def test_a_wide_layer_recovers_its_permutation_soon() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 400)).astype(np.float32)
    order = rng.permutation(1000)
    found = match(rows, rows[order] + 0.3 * rng.normal(size=rows.shape))
    assert (order[found.right] == np.arange(1000)).all()


def test_fewer_channels_on_one_side_leave_the_others_alone() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 50))
    found = match(rows[[4, 1]], rows)
    assert found.right.tolist() == [4, 1]
    back = match(rows, rows[[4, 1]])
    assert (back.left.tolist(), back.right.tolist()) == ([1, 4], [1, 0])


def test_costs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="finite costs"):
        assign([[1.0, np.nan]])
