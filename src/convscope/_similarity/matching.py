"""Matching the channels of two networks: one-to-one assignment by correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._errors import UsageError
from convscope._similarity.correlation import BLOCK, Rows, correlate


@dataclass(frozen=True, eq=False)
class Match:
    """Matched pairs of channels, one of each network; as many as the smaller layer has channels.

    Attributes:
        left: Channels of the first network, ``(pairs,)``.
        right: The channel of the second network matched to each, ``(pairs,)``.
        correlations: Pearson's correlation of each pair, ``(pairs,)``.
    """

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    correlations: NDArray[np.float64]


def match(a: Rows, b: Rows, *, block: int = BLOCK) -> Match:
    """Match the channels of ``a`` with those of ``b`` one to one.

    The sum of the correlations is the highest possible (the assignment problem), so a permuted
    copy of a layer is recovered exactly, but for channels that are copies of each other.

    Args:
        a: Activations, ``(Ca, images)``.
        b: Activations on the same images, ``(Cb, images)``.
        block: Number of images read at a time.

    Returns:
        The pairs, ``min(Ca, Cb)`` of them.

    Raises:
        UsageError: Where the numbers of images differ.
    """
    correlations = correlate(a, b, block=block)
    left, right = assign(-correlations)
    return Match(left, right, correlations[left, right])


def assign(cost: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Solve the assignment problem: one column for each row at the lowest total cost.

    Shortest augmenting paths with dual prices (Jonker and Volgenant, Computing 1987): O(n³), and
    near O(n²) where most rows have a column of their own, as between two similar networks.

    Args:
        cost: Finite costs, ``(rows, columns)``.

    Returns:
        Rows, in order, and the column of each, ``(min(rows, columns),)``.

    Raises:
        UsageError: Where ``cost`` is no matrix of finite numbers.
    """
    table = np.asarray(cost, np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise UsageError(f"An assignment needs a table of finite costs, not {table.shape}")
    if table.shape[0] > table.shape[1]:
        right, left = assign(table.T)
        order = np.argsort(left)
        return left[order], right[order]
    if not table.size:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    taken = _Prices(table).settle()
    return np.arange(len(table)), taken


class _Prices:
    """Rows bid for columns; prices make every pair's reduced cost ≥ 0, and 0 where assigned."""

    def __init__(self, table: NDArray[Any]) -> None:
        rows, columns = table.shape
        self.table = table
        self.column = np.zeros(columns)  # stays 0 for columns never taken: optimal if rectangular
        self.row = table.min(1)
        self.owner = np.full(columns, -1, np.intp)
        self.taken = np.full(rows, -1, np.intp)

    def settle(self) -> NDArray[np.intp]:
        for row in range(len(self.table)):  # most rows want a column that nobody else does
            best = int(self.table[row].argmin())
            if self.owner[best] < 0:
                self.owner[best], self.taken[row] = row, best
        for row in np.flatnonzero(self.taken < 0).tolist():
            self._augment(row)
        return self.taken

    def _augment(self, start: int) -> None:
        """Dijkstra over reduced costs from a row without a column to a column without a row."""
        columns = len(self.column)
        far, via = np.full(columns, np.inf), np.full(columns, start)
        done = np.zeros(columns, bool)
        row, reached = start, 0.0
        while True:
            through = reached + self.table[row] - self.row[row] - self.column
            nearer = (through < far) & ~done
            far[nearer], via[nearer] = through[nearer], row
            nearest = int(np.where(done, np.inf, far).argmin())
            reached = float(far[nearest])
            if self.owner[nearest] < 0:
                break
            done[nearest] = True
            row = int(self.owner[nearest])
        self._reprice(start, far, done, reached)
        self._flip(start, nearest, via)

    def _reprice(
        self, start: int, far: NDArray[np.float64], done: NDArray[np.bool_], reached: float
    ) -> None:
        gain = reached - far[done]
        self.column[done] -= gain
        self.row[self.owner[done]] += gain
        self.row[start] += reached

    def _flip(self, start: int, column: int, via: NDArray[np.intp]) -> None:
        while True:
            row = int(via[column])
            before = int(self.taken[row])
            self.owner[column], self.taken[row], column = row, column, before
            if row == start:
                return
