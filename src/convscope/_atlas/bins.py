"""The one layout of every histogram: fixed, so that histograms add up.

Bins are the quarters of octaves, from 2⁻¹² to 2¹⁶, on both sides of zero; zero has a bin of its
own, so has what lies between it and the first quarter, and what lies beyond the last. A bin is told
by the first eleven bits of a float32, which costs one shift and one look-up; what these bits do not
tell from zero, below 2⁻¹²⁸ in size, counts as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LOWEST, _HIGHEST = -12, 16  # octaves
_QUARTERS = 4 * (_HIGHEST - _LOWEST)
BINS = 2 * (_QUARTERS + 2) + 1
ZERO = _QUARTERS + 2
"""Which bin holds the zeros."""


def _edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    octave, quarter = np.divmod(np.arange(_QUARTERS + 1), 4)
    ends = np.exp2(octave + _LOWEST) * (1 + quarter / 4)
    low = np.concatenate([[0], ends])
    high = np.concatenate([ends, [np.inf]])
    return np.concatenate([-high[::-1], [0], low]), np.concatenate([-low[::-1], [0], high])


LOW, HIGH = _edges()
"""The ends of each bin, ascending: float64 ``(BINS,)``."""


def _table() -> NDArray[np.int64]:
    """The bin of each possible beginning of a float32; NaN gets ``BINS``, one past the last."""
    code = np.arange(1 << 11)
    size = code & 0x3FF
    first = (127 + _LOWEST) << 2
    place = np.clip(size - first + 1, 0, _QUARTERS + 1)  # 0: below the first quarter
    bins = np.where(code >> 10, ZERO - 1 - place, ZERO + 1 + place)
    bins[size == 0] = ZERO
    bins[size > 0xFF << 2] = BINS
    return np.asarray(bins, np.int64)


_BIN_OF = _table()


def bin_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each value; ``BINS`` for NaN."""
    return np.asarray(_BIN_OF[np.ascontiguousarray(values).view(np.uint32) >> np.uint32(21)])


def percentiles(
    counts: NDArray[np.integer],
    wanted: Sequence[float],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Percentiles ``(len(wanted), C)`` read off histograms ``(C, BINS)``, linear within a bin.

    ``low`` and ``high``, the channels' true extremes, end the outermost bins. NaN where a channel
    has no counts. A bin is a fifth as wide as its values are large: that is the error at most.
    """
    total = counts.sum(1)
    below = np.cumsum(counts, 1)
    found = np.full((len(wanted), len(counts)), np.nan)
    rows = np.flatnonzero(total)
    for place, percent in enumerate(wanted):
        rank = total[rows] * (percent / 100)
        at = np.minimum((below[rows] < rank[:, None]).sum(1), BINS - 1)
        inside = counts[rows, at]
        part = np.where(inside > 0, (rank - (below[rows, at] - inside)) / np.maximum(inside, 1), 0)
        ends = [np.clip(edge[at], low[rows], high[rows]) for edge in (LOW, HIGH)]
        found[place, rows] = ends[0] + part * (ends[1] - ends[0])
    return found
