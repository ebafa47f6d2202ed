"""Correlation, cosines and groups against numpy in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convscope._errors import UsageError
from convscope._similarity import correlate, cosines, group


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 6), st.integers(1, 50))
def test_correlation_in_blocks_is_numpys(seed: int, n: int, channels: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(1000, 1, (channels, n))
    b = a[:2] + rng.normal(0, 1, (min(2, channels), n))
    assume(min(a.std(1).min(), b.std(1).min()) > 0.1)  # two numbers may be nearly equal: constant
    whole = np.corrcoef(np.vstack([a, b]))
    np.testing.assert_allclose(correlate(a, b, block=block), whole[:channels, channels:], atol=1e-9)
    np.testing.assert_allclose(
        correlate(a, block=block),
        whole[:channels, :channels].reshape(channels, channels),
        atol=1e-9,
    )


def test_a_constant_channel_correlates_with_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack(
        [np.full(50, 0.1), rng.normal(size=50), np.full(50, 1e6) + 1e-3 * rng.random(50)]
    )
    found = correlate(rows)
    assert found[0].tolist() == found[:, 0].tolist() == [0, 0, 0]
    assert found[2].tolist() == [0, 0, 0]
    assert found[1, 1] == pytest.approx(1)


def test_half_precision_memory_maps_are_read_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = np.random.default_rng(0).normal(size=(5, 300)).astype(np.float16)
    np.save(tmp_path / "pooled.npy", rows)
    mapped = np.load(tmp_path / "pooled.npy", mmap_mode="r")
    np.testing.assert_allclose(
        correlate(mapped, block=64), np.corrcoef(rows.astype(float)), atol=1e-9
    )


def test_cosines_know_scaled_filters_and_empty_ones() -> None:
    one = np.random.default_rng(0).normal(size=(3, 3, 3))
    found = cosines(np.stack([one, 2.5 * one, -one, np.zeros_like(one)]))
    np.testing.assert_allclose(found[0], [1, 1, -1, 0], atol=1e-12)
    assert found[3].tolist() == [0, 0, 0, 0]


def test_groups_are_no_chains_and_keep_the_highest_priority() -> None:
    chain = np.eye(4)
    for a, b in ((0, 1), (1, 2), (2, 3)):
        chain[a, b] = chain[b, a] = 0.99
    assert group(chain, 0.98) == [[0, 1], [2, 3]]
    assert group(chain, 0.98, priority=[0, 5, 0, 0]) == [[1, 0, 2]]
    assert group(np.eye(4), 0.98) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_every_member_is_like_the_first_of_its_group(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    alike = cosines(rng.normal(size=(channels, 2)))
    groups = group(alike, 0.9)
    members = [one for found in groups for one in found]
    assert len(members) == len(set(members))
    assert all(alike[found[0], one] >= 0.9 for found in groups for one in found[1:])
    firsts = [one for one in range(channels) if one not in members] + [f[0] for f in groups]
    assert all(alike[a, b] < 0.9 for a in firsts for b in firsts if a != b)


def test_other_images_are_refused() -> None:
    with pytest.raises(UsageError, match=r"10 images cannot be compared with 9\. Give"):
        correlate(np.ones((2, 10)), np.ones((2, 9)))
    with pytest.raises(UsageError, match=r"as \(channels, images\), not \(3,\)"):
        correlate(np.ones(3))
