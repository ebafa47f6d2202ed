"""Which channel of one network is which of another: assignment by correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._errors import UsageError
from convscope._similarity.blocks import BLOCK, Rows
from convscope._similarity.correlation import correlate


@dataclass(frozen=True, eq=False)
class Match:
    """Pairs of channels, one of each network, that follow each other most closely altogether.

    ``left[k]`` of the first goes with ``right[k]`` of the second; ``correlations[k]`` is how well.
    The fewer channels decide how many pairs there are.
    """

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    correlations: NDArray[np.float64]


def match(a: Rows, b: Rows, *, block: int = BLOCK) -> Match:
    """Pair the channels of ``a`` with those of ``b``, ``(C, images)``, same images, each used once.

    The sum of the correlations is the highest possible (the assignment problem), so a permuted
    copy of a layer is recovered exactly, but for channels that are copies of each other.
    """
    alike = correlate(a, b, block=block)
    left, right = assign(-alike)
    return Match(left, right, alike[left, right])


def assign(cost: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the cheapest one-to-one assignment in ``cost`` ``(rows, columns)``.

    Shortest augmenting paths with dual prices (Jonker & Volgenant, Computing 1987): O(n³), and
    near O(n²) where most rows have a column of their own, as between two like networks. Rows come
    in order; of a wide or tall matrix the shorter side is assigned whole.
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
