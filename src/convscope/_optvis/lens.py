"""From pictures 0…1 to what a model takes: its own normalization, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope._models import Batch, Model


class Lens:
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
