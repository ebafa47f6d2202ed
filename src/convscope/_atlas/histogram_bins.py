"""The bins of every histogram: the same for all, so that histograms can be added.

Each octave from 2⁻¹² to 2¹⁶ is cut into four bins, on both sides of zero. Zero has a bin of its
own, and so has the range between zero and the first quarter octave, and the range beyond the last.
The first eleven bits of a float32 determine its bin, which costs one shift and one table lookup;
values below 2⁻¹²⁸ in size, which these bits do not distinguish from zero, count as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LOWEST_OCTAVE, _HIGHEST_OCTAVE = -12, 16
_QUARTERS = 4 * (_HIGHEST_OCTAVE - _LOWEST_OCTAVE)
BINS = 2 * (_QUARTERS + 2) + 1
"""The number of bins."""
ZERO = _QUARTERS + 2
"""The index of the bin that holds the zeros."""


def _edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    octave, quarter = np.divmod(np.arange(_QUARTERS + 1), 4)
    edges = np.exp2(octave + _LOWEST_OCTAVE) * (1 + quarter / 4)
    low = np.concatenate([[0], edges])
    high = np.concatenate([edges, [np.inf]])
    return np.concatenate([-high[::-1], [0], low]), np.concatenate([-low[::-1], [0], high])


LOW, HIGH = _edges()
"""The lower and upper edges of the bins, ascending: float64 ``(BINS,)`` each."""


def _lookup_table() -> NDArray[np.int64]:
    """The bin for each value of a float32's first eleven bits; ``BINS`` for NaN."""
    code = np.arange(1 << 11)
    magnitude = code & 0x3FF
    first = (127 + _LOWEST_OCTAVE) << 2
    offset = np.clip(magnitude - first + 1, 0, _QUARTERS + 1)  # 0: below the first quarter
    bins = np.where(code >> 10, ZERO - 1 - offset, ZERO + 1 + offset)
    bins[magnitude == 0] = ZERO
    bins[magnitude > 0xFF << 2] = BINS
    return np.asarray(bins, np.int64)


_BIN_OF_CODE = _lookup_table()


def bin_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The index of the bin of each value; ``BINS`` for NaN."""
    return np.asarray(_BIN_OF_CODE[np.ascontiguousarray(values).view(np.uint32) >> np.uint32(21)])


def percentiles(
    counts: NDArray[np.integer],
    percents: Sequence[float],
    minimum: NDArray[np.float32],
    maximum: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Percentiles estimated from histograms, linear within a bin.

    The error is at most a bin's width: a fifth of the value.

    Args:
        counts: Histograms, ``(C, BINS)``.
        percents: Which percentiles, 0 to 100.
        minimum: The channels' true minima, ``(C,)``: the outermost bins end there.
        maximum: Their true maxima, ``(C,)``.

    Returns:
        Values ``(len(percents), C)``; NaN where a channel has no counts.
    """
    total = counts.sum(1)
    cumulative = np.cumsum(counts, 1)
    result = np.full((len(percents), len(counts)), np.nan)
    rows = np.flatnonzero(total)
    for k, percent in enumerate(percents):
        rank = total[rows] * (percent / 100)
        at = np.minimum((cumulative[rows] < rank[:, None]).sum(1), BINS - 1)
        inside = counts[rows, at]
        below = cumulative[rows, at] - inside
        fraction = np.where(inside > 0, (rank - below) / np.maximum(inside, 1), 0)
        low, high = (np.clip(edge[at], minimum[rows], maximum[rows]) for edge in (LOW, HIGH))
        result[k, rows] = low + fraction * (high - low)
    return result
