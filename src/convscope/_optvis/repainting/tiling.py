"""Pictures of any size looked at in tiles: the gradient of the whole in bounded memory.

Tiles overlap by a margin, and only the inner part of each tile's gradient is used, so that what
stands across a seam is seen from both sides. With every look the picture is shifted against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from convscope._optvis.params import Size

STRIDE = 32  # tiles start at multiples of it, so that their positions are those of the whole


class Span(NamedTuple):
    """Along one side: what a tile sees (``start`` to ``stop``), and what it answers for."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True)
class Tiling:
    """Tiles of at most about ``side`` (height, width), overlapping by 2 × ``margin``.

    ``fixed``: of exactly that size, for networks that take no other.
    """

    side: Size
    margin: int
    fixed: bool = False

    def of(self, size: Size) -> list[tuple[Span, Span]]:
        rows, columns = (self._spans(n, side) for n, side in zip(size, self.side, strict=True))
        return list(product(rows, columns))

    def _spans(self, length: int, side: int) -> list[Span]:
        if length <= side:
            return [Span(0, length, 0, length)]
        margin = min(self.margin, (side - 1) // 4)
        count = ceil((length - 2 * margin) / (side - 2 * margin))
        if self.fixed:
            starts = [round(k * (length - side) / (count - 1)) for k in range(count)]
            stops = [start + side for start in starts]
        else:
            step = ceil((length - 2 * margin) / count / STRIDE) * STRIDE
            starts = list(range(0, length - 2 * margin, step))
            stops = [min(start + step + 2 * margin, length) for start in starts]
            stops[-1] = length
        cuts = [0, *((a + b) // 2 for a, b in zip(stops[:-1], starts[1:], strict=True)), length]
        return [Span(*four) for four in zip(starts, stops, cuts[:-1], cuts[1:], strict=True)]


def mirrored(length: int, shift: int, device: torch.device) -> Tensor:
    """The indices of a side shifted by ``shift``: what enters is the picture in a mirror.

    Wrapping round would put a false edge where the two ends meet, and a dream would grow along it.
    """
    index = (torch.arange(length, device=device) + shift) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def gradient(
    picture: Tensor, shift: tuple[int, int], tiling: Tiling, look: Callable[[Tensor], Tensor]
) -> tuple[float, Tensor]:
    """The score of ``picture`` and its gradient; ``look`` gives the score of a tile.

    Scores are means over positions, so a tile counts by its area.
    """
    rows = mirrored(picture.shape[-2], shift[0], picture.device)
    columns = mirrored(picture.shape[-1], shift[1], picture.device)
    moved = picture.detach()[..., rows, :][..., columns]
    found, total, area = torch.zeros_like(moved), 0.0, moved.shape[-2] * moved.shape[-1]
    for y, x in tiling.of((moved.shape[-2], moved.shape[-1])):
        tile = moved[..., y.start : y.stop, x.start : x.stop].clone().requires_grad_()
        score = look(tile)
        own = torch.autograd.grad(score, tile)[0] * (tile.shape[-2] * tile.shape[-1] / area)
        inner = own[..., y.low - y.start : y.high - y.start, x.low - x.start : x.high - x.start]
        found[..., y.low : y.high, x.low : x.high] = inner
        total += float(score.detach()) * (y.high - y.low) * (x.high - x.low) / area
    back = torch.zeros_like(found).index_add_(3, columns, found)
    return total, torch.zeros_like(found).index_add_(2, rows, back)
