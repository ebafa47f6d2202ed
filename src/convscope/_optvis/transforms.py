"""Robustness: the picture is moved a little before every look, so that no exact pixels matter."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope._images.ops import affine, binomial_blur
from convscope._models import Batch, Model

DRAWS = 4  # random numbers a picture needs for one look


@dataclass(frozen=True)
class Transforms:
    """How far a picture is moved before each look; every picture has its own draw.

    - ``turn``: up to so many degrees either way; ``zoom``: up to ×e^±zoom.
    - ``shift``: up to this share of its height and width; mirrored_indices where the picture ends.
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
            pictures = binomial_blur(pictures)
        if self.moves:
            pictures = self._moved(pictures, 2 * draws - 1)
        return pictures if noise is None else pictures + self.noise * noise

    def _moved(self, pictures: Tensor, draws: Tensor) -> Tensor:
        angle, zoom = draws[:, 0] * (self.turn * pi / 180), (draws[:, 1] * self.zoom).exp()
        shift = 2 * self.shift * draws[:, 2:]
        if not self.pad:
            return affine(pictures, angle, zoom, shift)
        zoom = zoom / (1 + 2 * self.pad)
        return affine(pictures - 0.5, angle, zoom, shift, padding="zeros") + 0.5

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


class Normalizer:
    """Shows pictures ``(N, C, H, W)``, 0…1 in the order red, green, blue, to a model."""

    def __init__(self, model: Model) -> None:
        preprocess = model.input.preprocess
        self.model = model
        self._flip = preprocess.order == "BGR" and model.input.channels == 3
        self._scale = preprocess.scale
        self._mean, self._std = (self._column(getattr(preprocess, k)) for k in ("mean", "std"))

    @staticmethod
    def _column(numbers: Any) -> Tensor:
        return torch.from_numpy(np.asarray(numbers, np.float32).reshape(1, -1, 1, 1))

    def batch(self, pictures: Tensor) -> Batch:
        """Normalized, ready for ``Model.activations``."""
        ordered = pictures.flip(1) if self._flip else pictures
        mean, std = self._mean.to(pictures.device), self._std.to(pictures.device)
        values = torch.addcmul(-mean / std, ordered, self._scale / std)
        names = tuple(f"picture {k}" for k in range(len(pictures)))
        return Batch(values, None, names, single=False)

    def image(self, values: Tensor) -> Tensor:
        """The inverse: pictures 0…1 from a model's input."""
        pixels = (values * self._std + self._mean) / self._scale
        return (pixels.flip(1) if self._flip else pixels).clamp(0, 1)
