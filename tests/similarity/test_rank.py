"""Effective rank and participation ratio against singular values, and against noise itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope._similarity import effective_rank, expected_rank, participation_ratio


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(3, 40), st.booleans())
def test_it_is_the_entropy_of_the_singular_values(
    seed: int, channels: int, n: int, standardize: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(channels, 3)) @ rng.normal(size=(3, n)) + rng.normal(size=(channels, n))
    centered = rows - rows.mean(1, keepdims=True)
    if standardize:
        centered /= centered.std(1, keepdims=True)
    sizes = np.linalg.svd(centered, compute_uv=False)
    sizes = sizes[sizes > 1e-6 * sizes[0]]
    shares = sizes / sizes.sum()
    entropy = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(rows, standardize=standardize) == pytest.approx(entropy, rel=1e-4)
    ratio = (sizes**2).sum() ** 2 / (sizes**4).sum()
    assert participation_ratio(rows, standardize=standardize) == pytest.approx(ratio, rel=1e-6)


def test_the_ends_of_the_scale() -> None:
    one = np.random.default_rng(0).normal(size=(1, 100))
    assert effective_rank(one * np.array([[1.0], [2], [-3]])) == pytest.approx(1)
    waves = np.stack([np.cos(2 * np.pi * k * np.arange(64) / 64) for k in range(1, 9)])
    assert effective_rank(waves) == pytest.approx(8)
    assert participation_ratio(waves) == pytest.approx(8)
    assert effective_rank(np.ones((4, 100))) == participation_ratio(np.ones((4, 100))) == 0
    assert effective_rank(np.vstack([waves, np.ones((5, 64))])) == pytest.approx(8)


def test_a_permutation_of_channels_and_their_scales_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 3)) @ rng.normal(size=(3, 80)) + 0.1 * rng.normal(size=(6, 80))
    scaled = rng.permutation(rows * rng.uniform(0.1, 10, (6, 1)))
    assert effective_rank(scaled) == pytest.approx(effective_rank(rows))


@pytest.mark.parametrize(("channels", "images"), [(64, 1000), (200, 250), (200, 200), (300, 100)])
def test_what_noise_would_show_is_what_noise_shows(channels: int, images: int) -> None:
    found = [
        effective_rank(np.random.default_rng(k).normal(size=(channels, images))) for k in range(3)
    ]
    assert expected_rank(channels, images) == pytest.approx(np.mean(found), rel=0.01)
