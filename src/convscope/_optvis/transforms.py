"""Robustness: the picture is moved a little before every look, so that no exact pixels matter."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

DRAWS = 4  # random numbers a picture needs for one look


@dataclass(frozen=True)
class Transforms:
    """How far a picture is moved before each look; every picture has its own draw.

    - ``turn``: up to so many degrees either way; ``zoom``: up to ×e^±zoom.
    - ``shift``: up to this share of its height and width; mirrored where the picture ends.
    - ``pad``: so much gray at each side, as a share of it, so that nothing hangs on an edge.
    - ``noise``: standard deviation, of pictures 0…1.
    - ``blur``: a 3×3 blur at every ``blur``-th look; 0 for none.
    """

    turn: float = 15.0
    zoom: float = 0.25
    shift: float = 0.1
    noise: float = 0.0
    blur: int = 2
    pad: float = 0.0

    @property
    def moves(self) -> bool:
        return bool(self.turn or self.zoom or self.shift or self.pad)

    def __call__(self, pictures: Tensor, draws: Tensor, noise: Tensor | None, step: int) -> Tensor:
        """One look: ``draws`` ``(N, 4)`` are uniform in 0…1, ``noise`` is normal."""
        if self.blur and step % self.blur == 0:
            pictures = blurred(pictures)
        if self.moves:
            pictures = self._moved(pictures, 2 * draws - 1)
        return pictures if noise is None else pictures + self.noise * noise

    def _moved(self, pictures: Tensor, draws: Tensor) -> Tensor:
        angle, zoom = draws[:, 0] * (self.turn * pi / 180), (draws[:, 1] * self.zoom).exp()
        shift = 2 * self.shift * draws[:, 2:]
        if not self.pad:
            return moved(pictures, angle, zoom, shift)
        zoom = zoom / (1 + 2 * self.pad)
        return moved(pictures - 0.5, angle, zoom, shift, beyond="zeros") + 0.5

    def describe(self) -> str:
        """The same in words; empty where nothing is done."""
        parts = {
            f"turned ±{self.turn:g}°": self.turn,
            f"zoomed ×e^±{self.zoom:g}": self.zoom,
            f"shifted ±{self.shift:.0%}": self.shift,
            f"padded {self.pad:.0%} with gray": self.pad,
            f"noise {self.noise:g}": self.noise,
            f"blurred every {self.blur}. look": self.blur,
        }
        return ", ".join(text for text, on in parts.items() if on)


STILL = Transforms(0, 0, 0, 0, 0)


def moved(
    pictures: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor, beyond: str = "reflection"
) -> Tensor:
    """Turned (radians), zoomed and shifted (``(N, 2)``: y, x; 2 is a whole side); mirrored edges.

    The same as an affine grid, from two vectors instead of a matrix product a pixel.
    """
    height, width = pictures.shape[-2:]
    y = _centers(height, pictures).view(1, -1, 1)
    x = _centers(width, pictures).view(1, 1, -1)
    cos, sin = ((f(angle) / zoom).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    dy, dx = shift[:, 0].view(-1, 1, 1), shift[:, 1].view(-1, 1, 1)
    grid = torch.stack(
        [
            cos * x + (dx - sin * (height / width) * y),
            sin * (width / height) * x + (dy + cos * y),
        ],
        dim=-1,
    )
    return F.grid_sample(pictures, grid, padding_mode=beyond, align_corners=False)


def _centers(count: int, like: Tensor) -> Tensor:
    """Where the middles of so many pixels are, the whole side being −1 to 1."""
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count - 1


def blurred(pictures: Tensor) -> Tensor:
    """A binomial 3×3 blur, edges repeated: shifted sums, six times as fast as a convolution."""
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + padded[:, :, 2:] + 2 * padded[:, :, 1:-1]
    return (rows[..., :-2] + rows[..., 2:] + 2 * rows[..., 1:-1]) / 16
