"""From a network's own layout of a result to the standard one, ``N C H W``, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from convscope._models.positions import RADIX, Positions, core, varies


@dataclass(frozen=True, eq=False)
class Layout:
    """How one result is laid out.

    - ``shape``: of the result for one image, its first dimension included.
    - ``along``: the dimensions that the positions run along; the rest are channels. Where the first
      is among them, the windows of an image follow each other in the batch.
    - ``order``: where among the positions each one of the grid stands, row by row.
    - ``size``: height and width of the grid.
    - ``apart``: how many tokens stand outside the grid (class tokens, registers, padding).
    - ``batch``: which dimension counts the images; the others are given with it in front.
    """

    shape: tuple[int, ...]
    along: tuple[int, ...]
    order: Tensor
    size: tuple[int, int]
    apart: int
    batch: int = 0

    @cached_property
    def channels(self) -> int:
        rest = [n for dim, n in enumerate(self.shape) if dim and dim not in self.along]
        return prod(rest)

    @cached_property
    def plain(self) -> bool:
        """Whether the result is in the standard layout already."""
        return self.is_grid(2, 3)

    def is_grid(self, rows: int, columns: int) -> bool:
        """Whether there are four dimensions, of which these two are the height and the width."""
        if (
            self.batch
            or len(self.shape) != 4
            or (self.shape[rows], self.shape[columns]) != self.size
        ):
            return False
        return {rows, columns}.issuperset(self.along) and self._natural

    @cached_property
    def _natural(self) -> bool:
        return not self.apart and bool((self.order.diff() == 1).all())

    def fits(self, result: Tensor) -> bool:
        """Whether a result has the shape that this was determined for."""
        result = result.transpose(0, self.batch)
        return tuple(result.shape[1:]) == self.shape[1:] and (result.shape[0] % self._windows == 0)

    def standard(self, result: Tensor) -> Tensor:
        """``(N, C, H, W)``; positions apart are left out."""
        if self.plain:
            return result
        flat = self._flat(result.transpose(0, self.batch))
        if not self._natural:
            flat = flat.index_select(2, self.order.to(flat.device))
        return flat.reshape(*flat.shape[:2], *self.size)

    def restored(self, standard: Tensor, result: Tensor) -> Tensor:
        """The inverse; what stands apart is taken from ``result``."""
        if self.plain:
            return standard
        result = result.transpose(0, self.batch)
        flat = standard.flatten(2)
        if not self._natural:
            order = self.order.to(flat.device)
            flat = self._flat(result).to(flat.dtype).index_copy(2, order, flat)
        shape = self._split(result)
        moved = flat.reshape([shape[dim] for dim in self._dims])
        back = [self._dims.index(dim) for dim in range(len(self._dims))]
        return moved.permute(back).reshape(result.shape).transpose(0, self.batch)

    @cached_property
    def _windows(self) -> int:
        return self.shape[0] if 0 in self.along else 1

    @cached_property
    def _dims(self) -> list[int]:
        """Batch, channels, positions: of a result whose windows have a dimension of their own."""
        along = [dim + 1 for dim in self.along]
        return [0, *(d for d in range(1, len(self.shape) + 1) if d not in along), *along]

    def _split(self, result: Tensor) -> list[int]:
        return [result.shape[0] // self._windows, self._windows, *result.shape[1:]]

    def _flat(self, result: Tensor) -> Tensor:
        moved = result.reshape(self._split(result)).permute(self._dims)
        positions = prod(self.shape[dim] for dim in self.along)
        return moved.reshape(moved.shape[0], self.channels, positions)


class LayoutFinder:
    """The layouts of results during one pass, from where ``positions`` says elements stand."""

    def __init__(self, positions: Positions | None) -> None:
        self.found: dict[str, Layout] = {}
        self._positions = positions
        self._known: dict[Any, tuple[Tensor, Layout | None]] = {}

    def find(self, address: str, result: Tensor) -> Layout | None:
        """How ``result`` is laid out; ``None`` where it is no map, or positions are not known."""
        code = None if self._positions is None else self._positions.of(result)
        layout = None if code is None else self._of_code(code)
        if layout is not None:
            self.found[address] = layout
        return layout

    def _of_code(self, code: Tensor) -> Layout | None:
        """Most results share their codes, and so their layout, with others."""
        key = (code.data_ptr(), code.shape, code.stride())
        if key not in self._known:
            self._known[key] = code, layout_of(code)  # the codes are kept: their place is the key
        return self._known[key][1]


def layout_of(code: Tensor) -> Layout | None:
    """How a result with these position codes is laid out; ``None`` where it is no map."""
    if code.ndim < 3 or not code.numel() or not bool(core(code).any()):
        return None
    batch = int(code.ndim == 3 and code.shape[1] == 1 and varies(code, 0))  # (tokens, images, …)
    code = code.transpose(0, batch)
    varying = [dim for dim in range(code.ndim) if varies(code, dim)]
    # Patches that were joined in the channels differ along these too: then the first counts.
    fewer = [[dim for dim in varying if dim != left] for left in reversed(varying)]
    for along in [varying, *fewer]:
        layout = _along(code, along)
        if layout is not None:
            return replace(layout, batch=batch)
    return None


def _along(code: Tensor, along: Sequence[int]) -> Layout | None:
    """The layout, if the positions along these dimensions fill a grid, each once."""
    first = tuple(slice(None) if dim in along else 0 for dim in range(code.ndim))
    codes = code[first].flatten().long()
    where = codes.nonzero().flatten()
    rows, columns = (codes[where] - 1) // RADIX, (codes[where] - 1) % RADIX
    ys, row = torch.unique(rows, return_inverse=True)
    xs, column = torch.unique(columns, return_inverse=True)
    cells = row * len(xs) + column
    if len(where) != len(ys) * len(xs) or len(torch.unique(cells)) != len(cells):
        return None
    order = where[torch.argsort(cells)]
    shape = tuple(code.shape)
    return Layout(shape, tuple(along), order, (len(ys), len(xs)), len(codes) - len(where))
