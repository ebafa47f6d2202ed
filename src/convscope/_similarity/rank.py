"""The effective number of independent channels of a layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._similarity.blocks import BLOCK, Rows, checked, products
from convscope._similarity.correlation import correlate


def effective_rank(rows: Rows, *, standardize: bool = True, block: int = BLOCK) -> float:
    """The effective rank of a layer's activations ``(C, images)`` (Roy & Vetterli, EUSIPCO 2007).

    The exponential of the entropy of the singular values as shares of their sum: C for independent
    channels of one scale, 1 where all are the same up to scale. Channels are centered and, by
    default, scaled to one deviation, so that weak ones count as much as strong ones; constant ones
    count nothing. 0 where every channel is constant.
    """
    shares = np.sqrt(_eigenvalues(rows, standardize, block))
    return _perplexity(shares)


def participation_ratio(rows: Rows, *, standardize: bool = True, block: int = BLOCK) -> float:
    """(Σλ)² / Σλ² of the eigenvalues: another count, dominated by the large ones."""
    values = _eigenvalues(rows, standardize, block)
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / squares if squares else 0.0


def spectrum(rows: Rows, *, standardize: bool = True, block: int = BLOCK) -> NDArray[np.float64]:
    """The share of the variance along each direction ``(C,)``, largest first."""
    values = _eigenvalues(rows, standardize, block)[::-1]
    return np.asarray(values / (values.sum() or 1))


def expected_rank(channels: int, images: int, points: int = 4000) -> float:
    """The effective rank that independent channels would have for this number of images.

    With few images even independent channels correlate. The singular values of noise follow the
    law of Marchenko and Pastur (1967), whose entropy is integrated here; compare a layer's
    effective rank with this number.
    """
    few, many = sorted((channels, max(images - 1, 1)))  # centering takes one dimension
    ratio = few / many
    half = (np.arange(points) + 0.5) * np.pi / points  # λ = 1 + ratio − 2√ratio·cos: no steep ends
    values = 1 + ratio - 2 * np.sqrt(ratio) * np.cos(half)
    density = np.sin(half) ** 2 / values  # ∝ f(λ) dλ
    density /= density.sum()
    sizes = np.sqrt(values)
    mean = float(density @ sizes)
    entropy = np.log(few * mean) - float(density @ (sizes * np.log(sizes))) / mean
    return float(min(np.exp(entropy), few))


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
