"""What a network takes, and how it looks at it: whole, in tiles, at which sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from convscope._errors import ModelError, UsageError
from convscope._optvis.climb import no_gradient
from convscope._optvis.lens import Lens
from convscope._optvis.objectives import Goal, Objective
from convscope._optvis.params import Size
from convscope._optvis.repainting.canvas import octaves_of
from convscope._optvis.repainting.tiling import Tiling, gradient

_LEAST, _SHARE = 32, 0.45  # shorter side of the smallest octave; as a share of the model's size
_MOST = 10  # octaves
_MARGIN = 64


class Look:
    """A look of the network at a tile, and what it can look at."""

    def __init__(self, lens: Lens, wanted: Objective) -> None:
        self.lens, self.wanted = lens, wanted
        self.goal: Goal = wanted.bind(lens.model)
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
        """Octaves that the network takes, the largest being the picture's."""
        own = self.lens.model.input.size
        least = max(_LEAST, round(_SHARE * min(own))) if own else 2 * _LEAST
        sizes = octaves_of(size, count or _MOST, scale, 2 if count or tiling.fixed else least)
        if tiling.fixed:
            return tuple(s for s in sizes if s[0] >= tiling.side[0] and s[1] >= tiling.side[1])
        while len(sizes) > 1 and self.runs(sizes[0]) is not None:
            sizes = sizes[1:]
        return tuple(sizes)
