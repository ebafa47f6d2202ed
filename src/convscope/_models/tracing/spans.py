"""Intervals of image rows (or columns), one for every element of a tensor: the arithmetic.

An element depends on a set of image rows; what is kept is the hull of that set, ``[start, end)``.
The hull of a union is the union of the hulls, so whatever an operation computes, its spans follow
exactly from those of what it reads: take the smallest start and the largest end.

Images of the batch are followed in the same way as rows. Spans are arrays ``(6, …)``: the start and
the end of three kinds of dependence,

- exact: every row that the element can depend on;
- local: the same, but for what reaches it through a global gate;
- open: the local one on an image that goes on beyond its borders, for nominal sizes.

Starts are kept as ``ORIGIN - start`` and ends as ``ORIGIN + end``, so both unions are a maximum,
and zero is no dependence at all: what zero padding and constants bring in.

After the first axis there is one for each dimension of the tensor, of its size, or of size 1 where
the spans do not vary along it. Rows do not vary along the channels and the width of a plain
convolutional network, so its spans are a few hundred numbers a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int32]
Shape = tuple[int, ...]

ORIGIN = 1 << 20
EXACT, LOCAL, OPEN = slice(0, 2), slice(2, 4), slice(4, 6)
NOT_EXACT = slice(2, 6)
NOWHERE = -(1 << 30)  # an entry of Taps that reads nothing, not even padding


def pixels(size: int) -> Spans:
    """Row ``i`` depends on row ``i``: the spans ``(6, size)`` of the image itself."""
    at = np.arange(size, dtype=np.int32)
    return np.stack([ORIGIN - at, ORIGIN + at + 1] * 3)


def everything(size: int, dimensions: int) -> Spans:
    """Each element depends on all of the ``size`` rows."""
    ends = np.array([ORIGIN, ORIGIN + size] * 3, np.int32)
    return ends.reshape(6, *(1,) * dimensions)


def nothing(dimensions: int, kinds: int = 6) -> Spans:
    """No element depends on any row."""
    return np.zeros((kinds, *(1,) * dimensions), np.int32)


def union(spans: Sequence[Spans]) -> Spans:
    """The hull of several, with the broadcasting of numpy."""
    result = spans[0]
    for other in spans[1:]:
        if other is not result:
            result = np.maximum(result, other)
    return result


def merged_along(spans: Spans, dims: Sequence[int]) -> Spans:
    """Each element depends on all along ``dims``, which stay, with size 1."""
    axes = tuple(dim + 1 for dim in dims if spans.shape[dim + 1] > 1)
    return spans.max(axes, keepdims=True) if axes else spans


def squeezed(spans: Spans, dims: Sequence[int]) -> Spans:
    """Drop dimensions of size 1."""
    return spans.squeeze(tuple(dim + 1 for dim in dims))


def full(spans: Spans, shape: Shape) -> Spans:
    """One span for every element of a tensor of ``shape``."""
    return np.broadcast_to(spans, (len(spans), *shape))


def expanded(spans: Spans, dim: int, size: int) -> Spans:
    """With one span for every index along ``dim``."""
    return np.broadcast_to(spans, (*spans.shape[: dim + 1], size, *spans.shape[dim + 2 :]))


def compact(spans: Spans, dims: Sequence[int]) -> Spans:
    """With size 1 along those of ``dims`` where the spans do not vary."""
    for axis in (dim + 1 for dim in dims):
        if spans.shape[axis] > 1:
            first = spans.take([0], axis)
            spans = first if (spans == first).all() else spans
    return spans


def varies(spans: Spans, dims: Sequence[int]) -> bool:
    """Whether the local spans differ along one of ``dims``."""
    local = spans[NOT_EXACT]
    axes = [dim + 1 for dim in dims if spans.shape[dim + 1] > 1]
    return any(bool((local != local.take([0], axis)).any()) for axis in axes)


def covers(spans: Spans, others: Spans) -> bool:
    """Whether each of ``spans`` holds all of ``others``, locally."""
    dims = tuple(range(1, spans.ndim)), tuple(range(1, others.ndim))
    return bool((spans[LOCAL].min(dims[0]) >= others[LOCAL].max(dims[1])).all())


def exact_only(spans: Spans) -> Spans:
    """Only the exact part: what passes a global gate."""
    result = spans.copy()
    result[NOT_EXACT] = 0
    return result


@dataclass(frozen=True, eq=False)
class Taps:
    """Which positions of a dimension of ``size`` each output position reads.

    ``index`` is ``(outputs, most)``; entries below 0 or from ``size`` on read padding.
    """

    index: NDArray[np.int64]
    size: int

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        return (self.index >= 0) & (self.index < self.size)

    @cached_property
    def closed(self) -> NDArray[np.int64]:
        """Indices into the dimension with one more position, where padding is read from."""
        return np.where(self.inside, self.index, self.size)

    @cached_property
    def margins(self) -> tuple[int, int]:
        """How far they reach beyond either end."""
        real = self.index[self.index != NOWHERE]
        if not real.size:
            return 0, 0
        return max(0, -int(real.min())), max(0, int(real.max()) - self.size + 1)

    @cached_property
    def opened(self) -> NDArray[np.int64]:
        """Indices into the dimension with its margins and one more position for nothing."""
        low, high = self.margins
        beyond = low + self.size + high
        return np.where(self.index == NOWHERE, beyond, self.index + low)

    @cached_property
    def trivial(self) -> bool:
        """Whether each output reads just the input of its own index."""
        return self.index.shape == (self.size, 1) and bool(
            (self.index[:, 0] == np.arange(self.size)).all()
        )


def gathered(spans: Spans, dim: int, taps: Taps) -> Spans:
    """``dim`` replaced by two: output positions, and what each of them reads."""
    axis = dim + 1
    if spans.shape[axis] != taps.size:
        spans = expanded(spans, dim, taps.size)
    closed = _and_zero(spans[:4], axis).take(taps.closed, axis)
    if len(spans) == 1:  # places: there are none beyond the borders
        return closed
    low, high = taps.margins
    opened = _continued(spans[OPEN], axis, low, high).take(taps.opened, axis)
    return np.concatenate([closed, opened])


def read(spans: Spans, dim: int, taps: Taps) -> Spans:
    """Each output position depends on all that it reads along ``dim``."""
    if taps.trivial:
        return spans
    if spans.shape[dim + 1] == 1 and bool(taps.inside.any(1).all()):
        return spans  # the same wherever it is read
    return compact(gathered(spans, dim, taps).max(dim + 2), [dim])


def _and_zero(spans: Spans, axis: int) -> Spans:
    """One more position, of nothing."""
    shape = (*spans.shape[:axis], 1, *spans.shape[axis + 1 :])
    return np.concatenate([spans, np.zeros(shape, np.int32)], axis)


def _continued(spans: Spans, axis: int, low: int, high: int) -> Spans:
    """Continued beyond both ends at the average step, and a zero after all."""
    last = spans.shape[axis] - 1
    if not (low or high):
        return _and_zero(spans, axis)
    first, final = spans.take([0], axis), spans.take([last], axis)
    step = (final - first) / max(last, 1)
    before = np.rint(first - step * _along(np.arange(low, 0, -1), axis, spans.ndim))
    after = np.rint(final + step * _along(np.arange(1, high + 1), axis, spans.ndim))
    pieces = [np.where(first > 0, before, 0), spans, np.where(final > 0, after, 0)]
    return _and_zero(np.concatenate(pieces, axis).astype(np.int32), axis)


def _along(values: NDArray[np.int64], axis: int, ndim: int) -> NDArray[np.int64]:
    return values.reshape(*(-1 if k == axis else 1 for k in range(ndim)))


def reshaped(spans: Spans, old: Shape, new: Shape) -> Spans:
    """As ``view`` does it: only dimensions that are joined or split are written out in full."""
    if 0 in old:
        return nothing(len(new), len(spans))
    before: list[int] = []
    after: list[int] = []
    touched: list[int] = []
    for olds, news in groups(old, new):
        varying = any(spans.shape[dim + 1] > 1 for dim in olds)
        before += [old[dim] if varying else 1 for dim in olds]
        after += [new[dim] if varying else 1 for dim in news]
        if varying and (len(olds), len(news)) != (1, 1):
            touched += news
    return compact(np.broadcast_to(spans, (len(spans), *before)).reshape(-1, *after), touched)


@lru_cache(maxsize=1024)
def groups(old: Shape, new: Shape) -> list[tuple[range, range]]:
    """The smallest groups of neighboring dimensions that a reshape maps to each other.

    >>> groups((1, 6, 4), (2, 3, 4))
    [(range(0, 2), range(0, 2)), (range(2, 3), range(2, 3))]
    """
    result: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        end, stop = i + 1, j + 1
        left, right = old[i], new[j]
        while left != right:
            if left < right:
                left, end = left * old[end], end + 1
            else:
                right, stop = right * new[stop], stop + 1
        result.append((range(i, end), range(j, stop)))
        i, j = end, stop
    if i < len(old) or j < len(new):  # what is left has size 1
        result.append((range(i, len(old)), range(j, len(new))))
    return result
