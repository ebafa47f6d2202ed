"""``ReceptiveField``: what figures, crops and tables need of a layer's dependence on the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._models.tracing.calls import Dependence
from convscope._models.tracing.spans import EXACT, LOCAL, OPEN, ORIGIN, Spans, varies

Intervals = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The part of the image that each position of a layer depends on.

    A layer that is neither a map nor a sequence of tokens has one position.

    Attributes:
        rows: For each row of the map the interval ``[start, end)`` of image rows that it can
            depend on, clipped to the image: ``(height, 2)``. Exact for the graph that ran: no
            smaller interval holds for all weights. ``[0, 0)`` where it depends on nothing.
        columns: The same for columns: ``(width, 2)``.
        local_rows: The same without what arrives through a global gate: a value computed from the
            whole image and shared by all positions (squeeze-and-excitation, pooled context, the
            statistics of a norm).
        local_columns: The same for columns.
        size: Local extent in the middle of the map, height and width in pixels, as on an image
            that goes on beyond its borders.
        stride: Image rows and columns from one position to the next; 0 where they do not move.
        image: Height and width of the image.
        data_dependent: Whether values in the image decide what a position depends on (deformable
            convolution, attention by index); the intervals then hold all that it may depend on.
        unknown: Operations that no rule describes; they were taken to depend on everything.
        dims: The dimensions of the tensor that hold rows and columns: the last two, or 1 and 2
            where the dependence itself shows that channels are last; ``(1, 1)`` for a sequence of
            tokens; ``None`` for what is no map.
    """

    rows: Intervals
    columns: Intervals
    local_rows: Intervals
    local_columns: Intervals
    size: tuple[int, int]
    stride: tuple[float, float]
    image: tuple[int, int]
    data_dependent: bool = False
    unknown: frozenset[str] = frozenset()
    dims: tuple[int, int] | None = None

    @property
    def known(self) -> bool:
        """Whether a rule describes every operation on the way."""
        return not self.unknown

    @property
    def gated(self) -> bool:
        """Whether positions depend on more of the image through a global gate."""
        same = np.array_equal(self.rows, self.local_rows)
        return not (same and np.array_equal(self.columns, self.local_columns))

    def box(self, y: int, x: int, *, local: bool = True) -> tuple[int, int, int, int]:
        """The part of the image that position ``(y, x)`` depends on.

        Args:
            y: Row of the map.
            x: Column of the map.
            local: Whether to leave out what arrives through a global gate.

        Returns:
            ``(top, left, bottom, right)`` in pixels of the image.
        """
        rows = self.local_rows if local else self.rows
        columns = self.local_columns if local else self.columns
        (top, bottom), (left, right) = rows[y].tolist(), columns[x].tolist()
        return top, left, bottom, right

    def describe(self) -> str:
        """One phrase: ``196×196, stride 16``, or ``7×7, stride 1, gated by the whole image``."""
        if not self.known:
            return f"taken as the whole image: {', '.join(sorted(self.unknown))} is not understood"
        text = self._extent()
        if self.gated:
            whole = _all(self.rows, self.image[0]) and _all(self.columns, self.image[1])
            text += f", gated by {'the whole image' if whole else 'more of the image'}"
        return f"{text}, depends on the data" if self.data_dependent else text

    def _extent(self) -> str:
        if not self.rows.any() or not self.columns.any():
            return "nothing of the image"
        whole = _all(self.local_rows, self.image[0]) and _all(self.local_columns, self.image[1])
        if whole and not any(self.stride):
            return "whole image"
        steps = dict.fromkeys(f"{step:g}" for step in self.stride)
        moving = f", stride {'×'.join(steps)}" if any(self.stride) else ""
        return f"{self.size[0]}×{self.size[1]}{moving}{' (whole image)' if whole else ''}"


def _all(intervals: Intervals, size: int) -> bool:
    return bool((intervals == [0, size]).all())


def receptive_field_of(
    dependence: Dependence, shape: tuple[int, ...], image: tuple[int, int]
) -> ReceptiveField:
    """The field of a tensor with that dependence; the hull over all but its rows and columns."""
    dims = _dims(dependence, len(shape))
    kept = (None, None) if dims is None or dims[0] == dims[1] else dims
    exact, local, size, stride = zip(
        *(_axis(dependence.along(axis), kept[axis], shape, image[axis]) for axis in (0, 1)),
        strict=True,
    )
    return ReceptiveField(
        rows=exact[0],
        columns=exact[1],
        local_rows=local[0],
        local_columns=local[1],
        size=size,
        stride=stride,
        image=image,
        data_dependent=dependence.data_dependent,
        unknown=dependence.unknown,
        dims=dims,
    )


def _dims(dependence: Dependence, ndim: int) -> tuple[int, int] | None:
    """Which dimensions hold rows and columns, from how the spans vary."""
    if ndim < 3:
        return None
    rows, columns = (
        [dim for dim in range(ndim) if varies(dependence.along(axis), [dim])] for axis in (0, 1)
    )
    if ndim == 3:
        return (1, 1) if rows == columns == [1] else None
    return (1, 2) if (ndim, rows, columns) == (4, [1], [2]) else (ndim - 2, ndim - 1)


def _axis(
    spans: Spans, kept: int | None, shape: tuple[int, ...], size: int
) -> tuple[Intervals, Intervals, int, float]:
    """Exact and local intervals, extent and stride along one image axis."""
    length = 1 if kept is None else shape[kept]
    axes = tuple(axis for axis in range(1, spans.ndim) if kept is None or axis != kept + 1)
    ends = np.broadcast_to(spans.max(axes).reshape(6, -1), (6, length))
    if not ends[LOCAL].any():  # all came through gates: then that is what counts
        ends = np.concatenate([ends[EXACT]] * 3)
    exact, local = (_intervals(ends[kind]).clip(0, size) for kind in (EXACT, LOCAL))
    opened = _intervals(ends[OPEN])
    step = _step(opened)
    measured = opened if step else local
    extent = int(np.diff(measured[length // 2])[0]) if length else 0
    return exact, local, extent, step


def _intervals(ends: Spans) -> Intervals:
    """Spans ``(2, n)`` as intervals ``(n, 2)``."""
    any_row = ends[0] > 0
    both = np.where(any_row, [ORIGIN - ends[0], ends[1] - ORIGIN], 0)
    return both.T.astype(np.int64)


def _step(intervals: Intervals) -> float:
    """How far the middle moves from one position to the next.

    Upsampled maps repeat: then over one period, as it is away from the borders.
    """
    middles = intervals.sum(1) / 2
    count = len(middles)
    inside = middles[count // 4 : count - count // 4]
    for period in range(1, len(inside) // 2 + 1):
        moved = inside[period:] - inside[:-period]
        if (moved == moved[0]).all():
            return float(moved[0]) / period
    return float(middles[-1] - middles[0]) / (count - 1) if count > 1 else 0.0
