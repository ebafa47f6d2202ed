"""CKA: Gram matrices in one piece, the estimators as written in the papers, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._similarity import cka, cka_matrix

Floats = NDArray[np.float64]


def by_definition(a: Floats, b: Floats) -> float:
    """tr(KHLH) / √(tr(KHKH) tr(LHLH)), images × images (Kornblith et al., eqs. 3 and 4)."""
    n = a.shape[1]
    h = np.eye(n) - 1 / n
    k, el = a.T @ a, b.T @ b
    return float(_t(k, el, h) / np.sqrt(_t(k, k, h) * _t(el, el, h)))


def _t(k: Floats, el: Floats, h: Floats) -> float:
    return float(np.trace(k @ h @ el @ h))


def song(a: Floats, b: Floats) -> float:
    """HSIC₁ (Song et al. 2012, eq. 5), summed over distinct images by hand."""
    n = a.shape[1]
    k, el = a.T @ a, b.T @ b
    np.fill_diagonal(k, 0)
    np.fill_diagonal(el, 0)
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ el @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ el) + middle - 2 / (n - 2) * (one @ k @ el @ one)) / (n * (n - 3)))


def layers(seed: int, n: int = 30) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    a = rng.normal(2, 1, (6, n))
    return a, rng.normal(size=(4, 6)) @ a + rng.normal(-3, 1, (4, n))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_plain_cka_is_the_papers(seed: int, block: int) -> None:
    a, b = layers(seed)
    assert cka(a, b, block=block) == pytest.approx(by_definition(a, b))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@example(2100, 1)  # once not symmetric, in the last bit
def test_debiased_cka_is_songs_hsic(seed: int, block: int) -> None:
    a, b = layers(seed)
    expected = song(a, b) / np.sqrt(song(a, a) * song(b, b))
    assert cka(a, b, debiased=True, block=block) == pytest.approx(expected)
    found = cka_matrix([a, b], block=30)
    assert found[0, 1] == found[1, 0] == pytest.approx(np.clip(expected, 0, 1))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.booleans())
def test_turning_scaling_and_shifting_a_layer_changes_nothing(
    seed: int, scale: float, debiased: bool
) -> None:
    rng = np.random.default_rng(seed)
    a, b = layers(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    moved = scale * turn @ a + rng.normal(size=(6, 1))
    assert cka(moved, b, debiased=debiased) == pytest.approx(cka(a, b, debiased=debiased))
    assert cka(moved, a, debiased=debiased) == pytest.approx(1)


def test_debiasing_shows_unrelated_layers_as_unrelated() -> None:
    """With more channels than images the plain index is near 1 for noise and noise."""
    values = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 200, 50))
        assert cka(a, b) > 0.7
        values.append(cka(a, b, debiased=True))
    assert abs(np.mean(values)) < 0.02


def test_blocks_of_images_give_the_same_index_in_the_mean() -> None:
    a, b = layers(1, 6000)
    whole = cka(a, b, debiased=True)
    assert cka_matrix([a, b], block=64)[0, 1] == pytest.approx(whole, abs=0.01)


def test_a_constant_layer_has_no_index() -> None:
    a, _ = layers(0)
    found = cka_matrix([a, np.ones((3, 30))])
    assert found[0, 0] == 1
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(cka(a, np.ones((3, 30))))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 4 images or more, not 3"):
        cka_matrix([np.ones((2, 3))])
    with pytest.raises(UsageError, match="needs 4 images or more, not 3"):
        cka(np.ones((2, 3)), np.ones((2, 3)), debiased=True)
