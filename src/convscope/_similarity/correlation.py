"""Which channels say the same: correlation of activations, cosines of filters, groups of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._similarity.blocks import BLOCK, Rows, centered, products, same_images

# Of its size: a channel that deviates by less is constant, and what is left is rounding.
FLAT = 1e-6


def correlate(a: Rows, b: Rows | None = None, *, block: int = BLOCK) -> NDArray[np.float64]:
    """Pearson's correlation of every channel of ``a`` with every one of ``b``, ``(Ca, Cb)``.

    ``b`` is ``a`` by default. A constant channel correlates with nothing: its row is 0, and so is
    its place on the diagonal. Memory is ``Ca × Cb`` and one block of images.
    """
    other = a if b is None else b
    same_images(a, other)
    found = products(a, other, block)
    left = _deviations(a, block)
    right = left if b is None else _deviations(other, block)
    with np.errstate(divide="ignore", invalid="ignore"):
        found /= left[:, None] * right
    found[~np.isfinite(found)] = 0
    return np.asarray(np.clip(found, -1, 1))


def _deviations(rows: Rows, block: int) -> NDArray[np.float64]:
    """√Σ(x − mean)² of every channel; infinite for a constant one, which takes it out."""
    squares, sizes = np.zeros(len(rows)), np.zeros(len(rows))
    for start, part in zip(range(0, rows.shape[1], block), centered(rows, block), strict=True):
        squares += (part**2).sum(1)
        sizes += (rows[:, start : start + block].astype(np.float64) ** 2).sum(1)
    return np.where(squares > FLAT**2 * sizes, np.sqrt(squares), np.inf)


def cosines(filters: ArrayLike) -> NDArray[np.float64]:
    """Cosines between all filters ``(C, …)``, ``(C, C)``: 1 where one is a positive multiple.

    A filter of zeros has the cosine 0 with every one, itself included.
    """
    rows = np.asarray(filters, np.float64)
    rows = rows.reshape(len(rows), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.asarray(np.clip(units @ units.T, -1, 1))


def group(alike: NDArray[Any], least: float, worth: ArrayLike | None = None) -> list[list[int]]:
    """Groups of channels, each member at least ``least`` like the first of its group.

    ``alike`` is a symmetric ``(C, C)``. The first of a group is the one to keep: channels are
    taken in the order of ``worth``, highest first (their order by default), and each gathers what
    is like it and in no group yet. So no group is a chain whose ends have nothing in common.

    >>> group(np.array([[1, .99, 0], [.99, 1, 0], [0, 0, 1]]), 0.98)
    [[0, 1]]
    """
    close = np.asarray(alike) >= least
    np.fill_diagonal(close, False)
    order = np.argsort(-np.asarray(worth, np.float64), kind="stable") if worth is not None else None
    free = np.ones(len(close), bool)
    groups = []
    for first in range(len(close)) if order is None else order.tolist():
        others = np.flatnonzero(close[first] & free).tolist() if free[first] else []
        if others:
            groups.append([first, *others])
            free[[first, *others]] = False
    return groups
