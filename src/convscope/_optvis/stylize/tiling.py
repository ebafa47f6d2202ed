"""Images of any size in tiles: the gradient of the whole in bounded memory.

Tiles overlap by a margin, and only the inner part of each tile's gradient is used, so that no seam
is visible. At every step the image is shifted relative to the tiles.
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
from convscope._optvis.optimizer import no_gradient, not_finite
from convscope._optvis.params import Size
from convscope._optvis.stylize.source_image import octave_sizes
from convscope._optvis.transforms import Normalizer

STRIDE = 32  # tiles start at multiples of it, so that their positions are those of the whole


class Span(NamedTuple):
    """Along one side: a tile (``start`` to ``stop``), and its inner part (``low`` to ``high``)."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True)
class Tiling:
    """Tiles of at most about ``side`` (height, width), overlapping by 2 × ``margin``.

    With ``fixed`` they have exactly that size, for networks that take no other.
    """

    side: Size
    margin: int
    fixed: bool = False

    def tiles(self, size: Size) -> list[tuple[Span, Span]]:
        """Rows and columns of each tile of an image of this size."""
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
    """The indices of a side shifted by ``shift``, mirrored at the border.

    Wrapping around would put a false edge where the two ends meet, and it would be amplified.
    """
    index = (torch.arange(length, device=device) + shift) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def gradient(
    image: Tensor, shift: tuple[int, int], tiling: Tiling, objective: Callable[[Tensor], Tensor]
) -> tuple[float, Tensor]:
    """The score of ``image`` and its gradient; ``objective`` gives the score of a tile.

    Scores are means over positions, so a tile counts by its area.
    """
    rows = mirrored_indices(image.shape[-2], shift[0], image.device)
    columns = mirrored_indices(image.shape[-1], shift[1], image.device)
    shifted = image.detach()[..., rows, :][..., columns]
    whole, total, area = torch.zeros_like(shifted), 0.0, shifted.shape[-2] * shifted.shape[-1]
    for y, x in tiling.tiles((shifted.shape[-2], shifted.shape[-1])):
        tile = shifted[..., y.start : y.stop, x.start : x.stop].clone().requires_grad_()
        score = objective(tile)
        own = torch.autograd.grad(score, tile)[0] * (tile.shape[-2] * tile.shape[-1] / area)
        inner = own[..., y.low - y.start : y.high - y.start, x.low - x.start : x.high - x.start]
        whole[..., y.low : y.high, x.low : x.high] = inner
        total += float(score.detach()) * (y.high - y.low) * (x.high - x.low) / area
    unshifted = torch.zeros_like(whole).index_add_(3, columns, whole)
    return total, torch.zeros_like(whole).index_add_(2, rows, unshifted)


_MIN_SIDE, _SHARE = 32, 0.45  # shorter side of the smallest octave; share of the model's size
_MAX_OCTAVES = 10
_MARGIN = 64


class TiledObjective:
    """An objective on tiles, and the sizes that the network takes."""

    def __init__(self, normalizer: Normalizer, objective: Objective) -> None:
        self.normalizer, self.objective = normalizer, objective
        self.bound: BoundObjective = objective.bind(normalizer.model)
        if self.bound.has_position:
            raise UsageError(
                f"{objective} names a position, and DeepDream maximizes at every position. Take "
                "the channel: PATH:CHANNEL"
            )
        self.device = torch.device("cpu")

    def __call__(self, tile: Tensor) -> Tensor:
        model, layers = self.normalizer.model, self.bound.layers
        batch = self.normalizer.to_batch(tile)
        score = self.bound.score(model.activations(batch, layers, grad=True))
        if not score.requires_grad:
            raise no_gradient(model, layers)
        self.device = score.device
        return score.sum()

    def value(self, image: Tensor, tiling: Tiling) -> float:
        """The score of an image as it is."""
        return gradient(image, (0, 0), tiling, self)[0]

    def error_at(self, size: Size) -> ModelError | None:
        """The error of a gray image of this size; ``None`` where the network takes it."""
        gray = torch.full((1, self.normalizer.model.input.channels, *size), 0.5, requires_grad=True)
        try:
            score = self(gray)
        except ModelError as error:
            return error
        if bool(torch.isfinite(score)):
            return None
        value, name = float(score.detach()), self.normalizer.model.name
        return not_finite(f"{self.objective} of {name} is {value:g}", "an earlier layer")

    def tiling(self, size: Size, side: int) -> Tiling:
        """Tiles that the network takes: of any size, or of the only size that it takes."""
        free = (min(size[0], side), min(size[1], side))
        error = self.error_at(free)
        own = self.normalizer.model.input.size
        if error is None:
            return Tiling((side, side), min(_MARGIN, side // 4))
        if own is None or self.error_at(own) is not None:
            raise error
        if size[0] < own[0] or size[1] < own[1]:
            raise ModelError(
                f"An image of {size[0]}×{size[1]} (height×width) is too small: "
                f"{self.normalizer.model.name} takes {own[0]}×{own[1]}. Enlarge it: "
                f"size={max(own)}, or --size {own[0]}x{own[1]}"
            )
        return Tiling(own, min(own) // 4, fixed=True)

    def sizes(
        self, size: Size, count: int | None, scale: float, tiling: Tiling
    ) -> tuple[Size, ...]:
        """Sizes of octaves that the network takes, the largest being the image's."""
        own = self.normalizer.model.input.size
        minimum = max(_MIN_SIDE, round(_SHARE * min(own))) if own else 2 * _MIN_SIDE
        sizes = octave_sizes(
            size, count or _MAX_OCTAVES, scale, 2 if count or tiling.fixed else minimum
        )
        if tiling.fixed:
            return tuple(s for s in sizes if s[0] >= tiling.side[0] and s[1] >= tiling.side[1])
        while len(sizes) > 1 and self.error_at(sizes[0]) is not None:
            sizes = sizes[1:]
        return tuple(sizes)
