"""From a network's own layout of a result to the standard one, ``N C H W``, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._models.tracing import IMAGES, PLACE, Dependence, Tracer
from convscope._models.tracing.places import RADIX, changes
from convscope._models.tracing.spans import EXACT, LOCAL, ORIGIN, Spans

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """How one result is laid out.

    - ``split``: its shape with the dimension that counts the images cut in three: what stands
      before the images there, the images (0 in this shape), and what stands after them. Both are 1
      unless windows, heads or rows are folded into the batch.
    - ``batch``: which dimension of the result that is; ``None`` where the whole of it belongs to
      one image.
    - ``dims``: the dimensions of ``split``, the images first, then channels, then positions.
    - ``inner``: the shape for one image, in that order.
    - ``along``: those of ``split`` that the positions run along.
    - ``order``: where among the positions each one of the grid stands, row by row.
    - ``size``: height and width of the grid; ``None`` for what is no map.
    - ``apart``: how many tokens stand outside the grid (class tokens, registers, padding).
    """

    split: Shape
    batch: int | None
    dims: tuple[int, ...]
    inner: Shape
    along: Shape = ()
    order: Tensor | None = None
    size: tuple[int, int] | None = None
    apart: int = 0

    @cached_property
    def shape(self) -> Shape:
        """The standard shape for one image."""
        return self.inner if self.size is None else (self.inner[0], *self.size)

    def is_grid(self, rows: int, columns: int) -> bool:
        """Whether there are four dimensions, of which these two are the height and the width."""
        if len(self.split) != 6 or not self._unfolded or self.size is None:
            return False
        placed = {rows + 2, columns + 2}
        sizes = self.split[rows + 2], self.split[columns + 2]
        return sizes == self.size and placed.issuperset(self.along) and self._natural

    @cached_property
    def plain(self) -> bool:
        """Whether the result is in the standard layout already."""
        if self.size is None:
            return self._unfolded and self.inner == self.split[3:] and self._in_order
        return self.is_grid(2, 3)

    @cached_property
    def _in_order(self) -> bool:
        order = [dim for dim in self.dims if self.split[dim] != 1]
        return order == sorted(order)

    @cached_property
    def _unfolded(self) -> bool:
        return self.batch == 0 and self.split[0] == self.split[2] == 1

    @cached_property
    def _natural(self) -> bool:
        if self.order is None or self.apart:
            return False
        return bool((self.order.diff() == 1).all())

    def fits(self, result: Tensor) -> bool:
        """Whether a result has the shape that this was determined for, for any number of images."""
        if self.batch is None:
            return tuple(result.shape) == self.split[1:]
        at = self.batch
        own = (*self.split[:at], *self.split[at + 3 :])
        folded = self.split[at] * self.split[at + 2]
        shape = tuple(result.shape)
        same = len(shape) == len(self.split) - 2 and (*shape[:at], *shape[at + 1 :]) == own
        return same and shape[at] % folded == 0

    def standard(self, result: Tensor) -> Tensor:
        """``(N, C, H, W)``, or ``(N, …)`` for what is no map; positions apart are left out."""
        if self.plain:
            return result
        flat = self._moved(result)
        if self.size is None or self.order is None:
            return flat
        if not self._natural:
            flat = flat.index_select(2, self.order.to(flat.device))
        return flat.reshape(*flat.shape[:2], *self.size)

    def restored(self, standard: Tensor, result: Tensor) -> Tensor:
        """The inverse; what stands apart is taken from ``result``."""
        if self.plain:
            return standard
        flat = standard
        if self.size is not None and self.order is not None:
            flat = standard.flatten(2)
            if not self._natural:
                order = self.order.to(flat.device)
                flat = self._moved(result).to(flat.dtype).index_copy(2, order, flat)
        shape = self._shape_of(result)
        moved = flat.reshape([shape[dim] for dim in self.dims])
        back = [self.dims.index(dim) for dim in range(len(self.dims))]
        return moved.permute(back).reshape(result.shape)

    def _shape_of(self, result: Tensor) -> list[int]:
        """``split`` with the number of images in it."""
        shape = list(self.split)
        at = self.batch or 0
        if self.batch is None:
            shape[0] = 1
        else:
            shape[at + 1] = result.shape[at] // (shape[at] * shape[at + 2])
        return shape

    def _moved(self, result: Tensor) -> Tensor:
        moved = result.reshape(self._shape_of(result)).permute(self.dims)
        return moved.reshape(moved.shape[0], *self.inner)


@dataclass(frozen=True)
class Arranged:
    """What is known of one result.

    - ``layout``: how it is laid out; ``None`` where the framework's own order says it.
    - ``is_map``: whether its elements fill a grid of the image.
    - ``tangled``: whether positions run along channels, too.
    - ``problem``: why it cannot be assigned to images; empty where it can.
    """

    layout: Layout | None = None
    is_map: bool = False
    tangled: bool = False
    problem: str = ""


class LayoutFinder:
    """The layouts of results during one pass, from what a tracer says of them.

    ``known`` are layouts of the same results for several images, where this pass has only one.

    Attributes:
        found: Layouts by address.
        taken_apart: Whether something was computed for one image of several alone.
    """

    def __init__(self, tracer: Tracer | None, known: Mapping[str, Layout] | None = None) -> None:
        self.found: dict[str, Layout] = {}
        self.taken_apart = False
        self._tracer = tracer
        self._known = known
        self._cache: dict[tuple[Dependence, Shape], Arranged] = {}

    def reached(self, result: Tensor) -> bool:
        """Whether the images reach a result at all."""
        if self._tracer is None:
            return True
        dependence = self._tracer.of(result)
        return dependence is not None and bool(dependence.along(IMAGES).any())

    def find(self, address: str, result: Tensor) -> Arranged:
        """What is known of ``result``."""
        dependence = None if self._tracer is None else self._tracer.of(result)
        if dependence is None:
            return Arranged(is_map=result.ndim == 4)
        shape = tuple(result.shape)
        if self._known is not None:  # one image alone: it could be anywhere
            batch = _batch_of_one(self._known.get(address), shape)
            arranged = _arranged(shape, *batch, dependence.along(PLACE))
        else:  # most results share what they depend on with others
            if (dependence, shape) not in self._cache:
                self._cache[dependence, shape] = self._determined(dependence, shape)
            arranged = self._cache[dependence, shape]
        if arranged.layout is not None:
            self.found[address] = arranged.layout
        return arranged

    def _determined(self, dependence: Dependence, shape: Shape) -> Arranged:
        images = dependence.along(IMAGES)
        # Statistics of the batch are gates: what passes through them alone does not count.
        batch = _batch_of(images[EXACT], shape) or _batch_of(images[LOCAL], shape)
        if batch is not None:
            return _arranged(shape, *batch, dependence.along(PLACE))
        if _count(images.reshape(6, -1).max(1)) == 1:
            self.taken_apart = True
        return Arranged(problem="none of its dimensions counts the images")


def _batch_of(images: Spans, shape: Shape) -> tuple[int, int, int] | None:
    """Which dimension counts the images, and what stands before and after them in it."""
    for dim in range(len(shape)):
        if images.shape[dim + 1] < 2:
            continue
        others = tuple(k for k in range(1, images.ndim) if k != dim + 1)
        along = images.max(others)
        starts = ORIGIN - along[0]
        if bool((along.sum(0) - 2 * ORIGIN == 1).all()):
            after = int(np.flatnonzero(np.append(starts[1:] != starts[:-1], True))[0]) + 1
            count = int(starts.max()) + 1
            before = len(starts) // (count * after)
            if np.array_equal(starts, np.tile(np.repeat(np.arange(count), after), before)):
                return dim, before, after
    return None


def _batch_of_one(known: Layout | None, shape: Shape) -> tuple[int | None, int, int]:
    """The same for a pass with one image: as it is for several, else the whole is its own."""
    if known is None or known.batch is None:
        return None, 1, 1
    before, after = known.split[known.batch], known.split[known.batch + 2]
    if len(shape) <= known.batch or shape[known.batch] != before * after:
        return None, 1, 1
    return known.batch, before, after


def _count(total: NDArray[np.int32]) -> int:
    """How many images something depends on."""
    return int(total[0] + total[1] - 2 * ORIGIN) if total[0] else 0


def _arranged(shape: Shape, batch: int | None, before: int, after: int, places: Spans) -> Arranged:
    """What is known of a result whose images and places are."""
    if batch is None:
        split, images, own = (0, *shape), 0, places[0][None]
    else:
        split = (*shape[:batch], before, 0, after, *shape[batch + 1 :])
        images, own = batch + 1, _of_first_image(places[0], batch, before, after)
    reader = _Reader(split, batch, images, own)
    layout = reader.grid()
    if layout is None:
        return Arranged(reader.line(()), tangled=reader.tangled)
    if layout.size is None:
        return Arranged(layout)
    return Arranged(layout, is_map=True)


def _of_first_image(
    places: NDArray[np.int32], at: int, before: int, after: int
) -> NDArray[np.int32]:
    shape = places.shape
    if shape[at] == 1:
        return places.reshape(*shape[:at], 1, 1, 1, *shape[at + 1 :])
    count = shape[at] // (before * after)
    cut = places.reshape(*shape[:at], before, count, after, *shape[at + 1 :])
    return cut.take([0], at + 1)


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads the layout from the places of one image: see ``Layout`` for ``split`` and ``batch``.

    - ``images``: the dimension of ``split`` that counts the images.
    """

    split: Shape
    batch: int | None
    images: int
    places: NDArray[np.int32]

    def grid(self) -> Layout | None:
        """The layout of a map, or of a line of positions; ``None`` for what is neither."""
        wide = [dim for dim, n in enumerate(self.split) if dim != self.images and n != 1]
        ndim = len(self.split) - (1 if self.batch is None else 2)
        if ndim == 4 and len(wide) < 2:
            return self._layout((), torch.zeros(1, dtype=torch.int64), (1, 1), 0)
        varying = [dim for dim in range(len(self.split)) if changes(self.places[None], dim)]
        fewer = [[dim for dim in varying if dim != left] for left in reversed(varying)]
        # Constants that were written into some channels stand nowhere: the others tell. Patches
        # that were joined in the channels differ along these too: then the first counts.
        tried = [*((along, True) for along in fewer), (varying, False)]
        for along, whole in [*tried, *((along, False) for along in fewer)]:
            layout = self._along(along, whole) if along else None
            if layout is not None:
                return self.line(along) if ndim < 4 and 1 in (layout.size or ()) else layout
        return None

    def _along(self, along: Sequence[int], whole: bool) -> Layout | None:
        """The layout, if the positions along these dimensions fill a grid, each once.

        ``whole``: and if there are no others anywhere.
        """
        rest = [dim for dim in range(self.places.ndim) if dim not in along]
        moved = self.places.transpose(*rest, *along)
        lines = moved.reshape(prod(moved.shape[: len(rest)]), -1)
        codes = lines[np.count_nonzero(lines, 1).argmax()]
        where = np.flatnonzero(codes)
        if not where.size or (whole and len(where) < np.count_nonzero(np.unique(lines))):
            return None
        rows, columns = np.divmod(codes[where] - 1, RADIX)
        ys, row = np.unique(rows, return_inverse=True)
        xs, column = np.unique(columns, return_inverse=True)
        cells = row * len(xs) + column
        if len(where) != len(ys) * len(xs) or len(np.unique(cells)) != len(cells):
            return None
        if not whole and _moved_away(lines, codes, ys, xs):
            return None
        order = torch.from_numpy(where[np.argsort(cells)])
        return self._layout(tuple(along), order, (len(ys), len(xs)), len(codes) - len(where))

    def _layout(self, along: Shape, order: Tensor, size: tuple[int, int], apart: int) -> Layout:
        rest = [dim for dim in range(len(self.split)) if dim != self.images and dim not in along]
        inner = prod(self.split[dim] for dim in rest), prod(self.split[dim] for dim in along)
        dims = (self.images, *rest, *along)
        return Layout(self.split, self.batch, dims, inner, along, order, size, apart)

    @cached_property
    def tangled(self) -> bool:
        """Whether positions run along both dimensions of what would be channels and positions."""
        wide = [dim for dim, n in enumerate(self.split) if dim != self.images and n != 1]
        return len(wide) == 2 and all(changes(self.places[None], dim) for dim in wide)

    def line(self, along: Sequence[int]) -> Layout | None:
        """What is no map, with the images first and, of a sequence ``along``, the channels second.

        ``None`` where it is so already.
        """
        rest = [dim for dim in range(len(self.split)) if dim != self.images]
        if self.batch is None:
            kept = rest
        else:  # what is folded into the batch, where something is
            folded = {self.batch, self.batch + 2}
            kept = [dim for dim in rest if dim not in folded or self.split[dim] != 1]
        if not along:
            along = [dim for dim in kept if changes(self.places[None], dim)]
        if len(kept) == 2 and list(along) == kept[:1]:
            kept.reverse()
        elif self.batch == 0 and kept == rest[2:]:
            return None
        ones = [dim for dim in rest if dim not in kept]
        inner = tuple(self.split[dim] for dim in kept)
        return Layout(self.split, self.batch, (self.images, *ones, *kept), inner)


def _moved_away(
    lines: NDArray[np.int32],
    codes: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
) -> bool:
    """Whether other channels show another part of the grid, not its positions between these."""
    both = (lines > 0) & (codes > 0)
    (other_rows, other_columns), (rows, columns) = (np.divmod(v - 1, RADIX) for v in (lines, codes))
    gaps = np.abs(other_rows - rows)[both], np.abs(other_columns - columns)[both]
    return any(
        len(at) > 1 and gap.size and gap.max() >= at[-1] - at[0] + at[1] - at[0]
        for gap, at in zip(gaps, (ys, xs), strict=True)
    )
