"""From an optimized image to the input of the model: random augmentation, then normalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._images.ops import affine, binomial_blur
from convscope._models import Batch, Model

DRAWS = 4  # random numbers per image and step: angle, zoom, two shifts


@dataclass(frozen=True)
class Transforms:
    """Random augmentation of the image at each optimization step, drawn anew for every image.

    It makes the result robust: without it, optimization finds high-frequency patterns that lose
    their activation with any small change.
    Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017.

    Args:
        rotate: Maximum rotation in either direction, in degrees.
        zoom: Maximum zoom: a factor between e^-zoom and e^zoom.
        shift: Maximum shift, as a share of height and width; mirrored at the border.
        noise: Standard deviation of Gaussian noise, for pixels in 0…1.
        blur: Apply a 3×3 binomial blur at every ``blur``-th step; 0 for none.
        pad: Gray border on each side, as a share of height and width.
    """

    rotate: float = 15.0
    zoom: float = 0.25
    shift: float = 0.1
    noise: float = 0.0
    blur: int = 2
    pad: float = 0.0

    def __call__(self, images: Tensor, draws: Tensor, noise: Tensor | None, step: int) -> Tensor:
        """Augment images ``(N, C, H, W)`` for one step.

        Args:
            images: Pixels in 0…1, ``(N, C, H, W)``.
            draws: Uniform random numbers in 0…1, ``(N, 4)``.
            noise: Standard normal numbers ``(N, C, H, W)``, or ``None``.
            step: Index of the step, from 0.

        Returns:
            Images ``(N, C, H, W)``.
        """
        if self.blur and step % self.blur == 0:
            images = binomial_blur(images)
        if self.rotate or self.zoom or self.shift or self.pad:
            images = self._affine(images, 2 * draws - 1)
        return images if noise is None else images + self.noise * noise

    def _affine(self, images: Tensor, draws: Tensor) -> Tensor:
        angle, zoom = draws[:, 0] * (self.rotate * pi / 180), (draws[:, 1] * self.zoom).exp()
        shift = 2 * self.shift * draws[:, 2:]
        if not self.pad:
            return affine(images, angle, zoom, shift)
        zoom = zoom / (1 + 2 * self.pad)
        return affine(images - 0.5, angle, zoom, shift, padding="zeros") + 0.5

    def describe(self) -> str:
        """Return the augmentation in words; empty where there is none."""
        parts = {
            f"rotation ±{self.rotate:g}°": self.rotate,
            f"zoom ×e^±{self.zoom:g}": self.zoom,
            f"shift ±{self.shift:.0%}": self.shift,
            f"gray padding {self.pad:.0%}": self.pad,
            f"noise σ {self.noise:g}": self.noise,
            f"blur every {self.blur} steps" if self.blur > 1 else "blur": self.blur,
        }
        return ", ".join(text for text, used in parts.items() if used)


class Normalizer:
    """Between images ``(N, C, H, W)``, 0…1 in RGB order, and the input of a model, with gradients.

    It applies the model's own normalization, and never resizes or crops.
    """

    def __init__(self, model: Model) -> None:
        preprocess = model.input.preprocess
        self.model = model
        self._flip = preprocess.order == "BGR" and model.input.channels == 3
        self._scale = preprocess.scale
        self._mean, self._std = _column(preprocess.mean), _column(preprocess.std)

    def to_batch(self, images: Tensor) -> Batch:
        """Normalize images for ``Model.activations``."""
        ordered = images.flip(1) if self._flip else images
        mean, std = self._mean.to(images.device), self._std.to(images.device)
        values = torch.addcmul(-mean / std, ordered, self._scale / std)
        names = tuple(f"image {k}" for k in range(len(images)))
        return Batch(values, None, names, single=False)

    def to_images(self, values: Tensor) -> Tensor:
        """Undo the normalization of a model's input."""
        pixels = (values * self._std + self._mean) / self._scale
        return (pixels.flip(1) if self._flip else pixels).clamp(0, 1)


def _column(numbers: float | Sequence[float] | NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.asarray(numbers, np.float32).reshape(1, -1, 1, 1))
