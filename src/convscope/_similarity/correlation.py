"""Correlation of channels, cosines of filters, groups of similar channels, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._errors import UsageError

Rows = NDArray[Any]
BLOCK = 4096  # images; of 2,048 channels in float64 64 MiB
# Of its size: a channel that deviates by less is constant, and what is left is rounding.
FLAT = 1e-6


def checked(rows: Rows, name: str = "activations") -> Rows:
    """``rows`` if it is ``(channels, images)`` with at least one of each."""
    if rows.ndim != 2 or not rows.size:
        raise UsageError(f"Give {name} as (channels, images), not {rows.shape}")
    return rows


def same_images(a: Rows, b: Rows) -> None:
    """Two networks are compared on the same images in the same order."""
    if checked(a).shape[1] != checked(b).shape[1]:
        raise UsageError(
            f"{a.shape[1]} images cannot be compared with {b.shape[1]}. "
            "Give the same images to both"
        )


def means(rows: Rows, block: int = BLOCK) -> NDArray[np.float64]:
    """The mean of every channel, ``(C, 1)``."""
    total = np.zeros((len(rows), 1))
    for start in range(0, rows.shape[1], block):
        total += rows[:, start : start + block].sum(1, dtype=np.float64, keepdims=True)
    return np.asarray(total / rows.shape[1])


def centered(rows: Rows, block: int = BLOCK) -> Iterator[NDArray[np.float64]]:
    """Blocks ``(C, n)`` in float64, each channel's mean over all images subtracted."""
    mean = means(rows, block)
    for start in range(0, rows.shape[1], block):
        yield rows[:, start : start + block].astype(np.float64) - mean


def products(a: Rows, b: Rows, block: int = BLOCK) -> NDArray[np.float64]:
    """Centered sums of products ``(Ca, Cb)``: N times the covariance."""
    total = np.zeros((len(a), len(b)))
    for left, right in zip(centered(a, block), centered(b, block), strict=True):
        total += left @ right.T
    return total


def correlate(a: Rows, b: Rows | None = None, *, block: int = BLOCK) -> NDArray[np.float64]:
    """Pearson's correlation of every channel of ``a`` with every one of ``b``.

    Memory is ``Ca × Cb`` and one block of images.

    Args:
        a: Activations, ``(Ca, images)``.
        b: Activations on the same images, ``(Cb, images)``; ``a`` by default.
        block: Number of images read at a time.

    Returns:
        Correlations, float64 ``(Ca, Cb)``, −1 to 1. A constant channel correlates with nothing: its
        row is 0, and so is its place on the diagonal.

    Raises:
        UsageError: Where the numbers of images differ.
    """
    other = a if b is None else b
    same_images(a, other)
    correlations = products(a, other, block)
    left = _deviations(a, block)
    right = left if b is None else _deviations(other, block)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations /= left[:, None] * right
    correlations[~np.isfinite(correlations)] = 0
    return np.asarray(np.clip(correlations, -1, 1))


def _deviations(rows: Rows, block: int) -> NDArray[np.float64]:
    """√Σ(x − mean)² of every channel; infinite for a constant one, which takes it out."""
    squares, sizes = np.zeros(len(rows)), np.zeros(len(rows))
    for start, part in zip(range(0, rows.shape[1], block), centered(rows, block), strict=True):
        squares += (part**2).sum(1)
        sizes += (rows[:, start : start + block].astype(np.float64) ** 2).sum(1)
    return np.where(squares > FLAT**2 * sizes, np.sqrt(squares), np.inf)


def cosines(filters: ArrayLike) -> NDArray[np.float64]:
    """Cosine similarity between all filters.

    Args:
        filters: ``(C, …)``, each filter is flattened.

    Returns:
        float64 ``(C, C)``, −1 to 1: 1 where one is a positive multiple of the other. A filter of
        zeros has the cosine 0 with every one, itself included.
    """
    rows = np.asarray(filters, np.float64)
    rows = rows.reshape(len(rows), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.asarray(np.clip(units @ units.T, -1, 1))


def group(
    similarity: NDArray[Any], threshold: float, priority: ArrayLike | None = None
) -> list[list[int]]:
    """Group channels, each member at least ``threshold`` similar to the first of its group.

    The first of a group is its representative: channels are taken in the order of ``priority``, and
    each gathers the similar ones that are in no group yet. So no group is a chain whose ends have
    nothing in common.

    Args:
        similarity: Symmetric, ``(C, C)``.
        threshold: Lowest similarity within a group.
        priority: One number per channel, ``(C,)``, highest first; by default the channels' order.

    Returns:
        Groups of two channels or more, the representative first.

    >>> group(np.array([[1, .99, 0], [.99, 1, 0], [0, 0, 1]]), 0.98)
    [[0, 1]]
    """
    close = np.asarray(similarity) >= threshold
    np.fill_diagonal(close, False)
    order = np.arange(len(close))
    if priority is not None:
        order = np.argsort(-np.asarray(priority, np.float64), kind="stable")
    free = np.ones(len(close), bool)
    groups = []
    for first in order.tolist():
        others = np.flatnonzero(close[first] & free).tolist() if free[first] else []
        if others:
            groups.append([first, *others])
            free[[first, *others]] = False
    return groups
