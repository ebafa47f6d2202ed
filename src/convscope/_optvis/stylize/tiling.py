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

from convscope._errors import ModelError, UsageError
from convscope._optvis.objectives import BoundObjective, Objective
from convscope._optvis.optimizer import no_gradient
from convscope._optvis.params import Size
from convscope._optvis.stylize.source_image import octave_sizes
from convscope._optvis.transforms import Normalizer

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


def mirrored_indices(length: int, shift: int, device: torch.device) -> Tensor:
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
    rows = mirrored_indices(picture.shape[-2], shift[0], picture.device)
    columns = mirrored_indices(picture.shape[-1], shift[1], picture.device)
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


_LEAST, _SHARE = 32, 0.45  # shorter side of the smallest octave; as a share of the model's size
_MOST = 10  # octaves
_MARGIN = 64


class TiledObjective:
    """A look of the network at a tile, and what it can look at."""

    def __init__(self, lens: Normalizer, wanted: Objective) -> None:
        self.lens, self.wanted = lens, wanted
        self.goal: BoundObjective = wanted.bind(lens.model)
        if self.goal.placed:
            raise UsageError(
                f"{wanted} names a position, and a dream is everywhere. Take the "
                "channel: PATH:CHANNEL"
            )
        self.device = torch.device("cpu")

    def __call__(self, tile: Tensor) -> Tensor:
        model, layers = self.lens.model, self.goal.layers
        score = self.goal.score(model.activations(self.lens.batch(tile), layers, grad=True))
        if not score.requires_grad:
            raise no_gradient(model, layers)
        self.device = score.device
        return score.sum()

    def value(self, picture: Tensor, tiling: Tiling) -> float:
        """The score of a picture as it is."""
        return gradient(picture, (0, 0), tiling, self)[0]

    def runs(self, size: Size) -> ModelError | None:
        """What the network says of a gray picture of this size; ``None`` where it takes it."""
        gray = torch.full((1, self.lens.model.input.channels, *size), 0.5, requires_grad=True)
        try:
            score = self(gray)
        except ModelError as error:
            return error
        if bool(torch.isfinite(score)):
            return None
        return ModelError(
            f"{self.wanted} of {self.lens.model.name} is {float(score.detach()):g} on a gray "
            "picture. Its weights may hold NaN or infinity: load others, or take an earlier layer"
        )

    def tiling(self, size: Size, side: int) -> Tiling:
        """Tiles that the network takes: of any size, or of the only one that it knows."""
        free = (min(size[0], side), min(size[1], side))
        said = self.runs(free)
        own = self.lens.model.input.size
        if said is None:
            return Tiling((side, side), min(_MARGIN, side // 4))
        if own is None or self.runs(own) is not None:
            raise said
        if size[0] < own[0] or size[1] < own[1]:
            raise ModelError(
                f"A picture of {size[0]}×{size[1]} (height×width) is too small: "
                f"{self.lens.model.name} takes {own[0]}×{own[1]}. Enlarge it: size={max(own)}, or "
                f"--size {own[0]}x{own[1]}"
            )
        return Tiling(own, min(own) // 4, fixed=True)

    def sizes(
        self, size: Size, count: int | None, scale: float, tiling: Tiling
    ) -> tuple[Size, ...]:
        """DreamPlan that the network takes, the largest being the picture's."""
        own = self.lens.model.input.size
        least = max(_LEAST, round(_SHARE * min(own))) if own else 2 * _LEAST
        sizes = octave_sizes(size, count or _MOST, scale, 2 if count or tiling.fixed else least)
        if tiling.fixed:
            return tuple(s for s in sizes if s[0] >= tiling.side[0] and s[1] >= tiling.side[1])
        while len(sizes) > 1 and self.runs(sizes[0]) is not None:
            sizes = sizes[1:]
        return tuple(sizes)
