"""The effective number of independent channels of a layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._similarity.correlation import BLOCK, Rows, checked, correlate, products


def effective_rank(rows: Rows, *, standardize: bool = True, block: int = BLOCK) -> float:
    """Effective rank of a layer's activations (Roy and Vetterli, EUSIPCO 2007).

    The exponential of the entropy of the singular values as shares of their sum. Channels are
    centered; constant ones do not count.

    Args:
        rows: Activations, ``(C, images)``.
        standardize: Scale every channel to the same standard deviation, so that weak ones count as
            much as strong ones.
        block: Number of images read at a time.

    Returns:
        C for independent channels of one scale, 1 where all are equal up to scale, 0 where every
        channel is constant.

    Raises:
        UsageError: Where ``rows`` is empty or no matrix.
    """
    shares = np.sqrt(_eigenvalues(rows, standardize, block))
    return _perplexity(shares)


def participation_ratio(rows: Rows, *, standardize: bool = True, block: int = BLOCK) -> float:
    """Participation ratio (Σλ)² / Σλ² of the covariance's eigenvalues λ.

    Like ``effective_rank`` a number of independent channels, but dominated by the large ones.

    Args:
        rows: Activations, ``(C, images)``.
        standardize: Scale every channel to the same standard deviation, so that weak ones count as
            much as strong ones.
        block: Number of images read at a time.

    Returns:
        1 to C; 0 where every channel is constant.

    Raises:
        UsageError: Where ``rows`` is empty or no matrix.
    """
    values = _eigenvalues(rows, standardize, block)
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / squares if squares else 0.0


def spectrum(rows: Rows, *, standardize: bool = True, block: int = BLOCK) -> NDArray[np.float64]:
    """Share of the variance along each principal direction.

    Args:
        rows: Activations, ``(C, images)``.
        standardize: Scale every channel to the same standard deviation, so that weak ones count as
            much as strong ones.
        block: Number of images read at a time.

    Returns:
        float64 ``(C,)``, largest first, with sum 1; zeros where every channel is constant.

    Raises:
        UsageError: Where ``rows`` is empty or no matrix.
    """
    values = _eigenvalues(rows, standardize, block)[::-1]
    return np.asarray(values / (values.sum() or 1))


def expected_rank(channels: int, images: int, points: int = 4000) -> float:
    """Effective rank that independent channels would have on this number of images.

    With few images even independent channels correlate. The singular values of noise follow the
    law of Marchenko and Pastur (1967), whose entropy is integrated here; compare a layer's
    effective rank with this number.

    Args:
        channels: Number of channels.
        images: Number of images.
        points: Number of points of the numerical integration.

    Returns:
        The effective rank, at most the smaller of ``channels`` and ``images - 1``.
    """
    smaller, larger = sorted((channels, max(images - 1, 1)))  # centering takes one dimension
    ratio = smaller / larger
    half = (np.arange(points) + 0.5) * np.pi / points  # λ = 1 + ratio − 2√ratio·cos: no steep ends
    values = 1 + ratio - 2 * np.sqrt(ratio) * np.cos(half)
    density = np.sin(half) ** 2 / values  # ∝ f(λ) dλ
    density /= density.sum()
    sizes = np.sqrt(values)
    mean = float(density @ sizes)
    entropy = np.log(smaller * mean) - float(density @ (sizes * np.log(sizes))) / mean
    return float(min(np.exp(entropy), smaller))


def _eigenvalues(rows: Rows, standardize: bool, block: int) -> NDArray[np.float64]:
    checked(rows)
    matrix = correlate(rows, block=block) if standardize else products(rows, rows, block)
    values = np.linalg.eigvalsh(matrix)
    return np.asarray(np.where(values > 1e-12 * values.max(initial=0), values, 0))


def _perplexity(parts: ArrayLike) -> float:
    values = np.asarray(parts, np.float64)
    values = values[values > 0]
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
