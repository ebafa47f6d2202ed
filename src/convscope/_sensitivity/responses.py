"""Responses of channels: one number per image, and how far perturbations move it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._images import Preprocess
from convscope._models import Batch, Model

Responses = dict[str, NDArray[np.float64]]
"""By path: ``(N, C)``, one number for each image and channel."""
_IMAGES_PER_PASS = 32


@dataclass(frozen=True)
class ResponseExtractor:
    """From images, 0…1, to one number per channel.

    Attributes:
        pool: ``mean`` or ``peak`` over the positions of a map.
    """

    model: Model
    paths: Sequence[str]
    preprocess: Preprocess
    pool: str = "mean"

    def responses(self, images: Tensor) -> Responses:
        """The responses to ``(N, C, H, W)``, 0…1, rounded to eight bits as image files are."""
        return self._extract(images, _mean if self.pool == "mean" else _peak)

    def central_peaks(self, images: Tensor) -> Responses:
        """The highest activation in the middle half of each map, away from the padded border."""
        return self._extract(images, _central_peak)

    def _extract(self, images: Tensor, reduce: Callable[[Tensor], Tensor]) -> Responses:
        batches: dict[str, list[NDArray[np.float64]]] = {path: [] for path in self.paths}
        for some in torch.split(images, _IMAGES_PER_PASS):
            for path, maps in self.model.activations(self._batch(some), self.paths).items():
                batches[path].append(reduce(maps).cpu().double().numpy())
        return {path: np.concatenate(rows) for path, rows in batches.items()}

    def _batch(self, images: Tensor) -> Batch:
        levels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        values = np.stack([self.preprocess.normalize(image) for image in levels])
        names = tuple(f"image {k}" for k in range(len(levels)))
        return Batch(torch.from_numpy(values), None, names, single=False)


def _mean(maps: Tensor) -> Tensor:
    return maps.reshape(*maps.shape[:2], -1).mean(2)


def _peak(maps: Tensor) -> Tensor:
    return maps.reshape(*maps.shape[:2], -1).amax(2)


def _central_peak(maps: Tensor) -> Tensor:
    if maps.ndim == 4:
        height, width = maps.shape[2:]
        top, left = height // 4, width // 4
        maps = maps[:, :, top : max(top + 1, height - top), left : max(left + 1, width - left)]
    return _peak(maps)


@dataclass
class PerturbationEffect:
    """How far one perturbation moves the responses of one layer, summed up over batches.

    With a the response to an image and b that to the perturbed image, ``invariance`` is
    1 − E[(b − a)²] / 2 Var[a]: 1 where the perturbation never matters, 0 where it matters as much
    as showing another image (where a and b have equal mean and variance, it is their correlation).
    At least −1; NaN for a channel that never varies.

    Attributes:
        squared_changes: Σ (b − a)², ``(C,)``.
        changes: Σ (b − a), ``(C,)``.
        count: Number of images.
    """

    squared_changes: NDArray[np.float64]
    changes: NDArray[np.float64]
    count: int = 0

    def add(self, original: NDArray[np.float64], perturbed: NDArray[np.float64]) -> None:
        """Add a batch of responses, both ``(N, C)``."""
        change = perturbed - original
        self.squared_changes += (change**2).sum(0)
        self.changes += change.sum(0)
        self.count += len(original)

    def invariance(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(C,)``, given the variance of the responses to unchanged images."""
        with np.errstate(divide="ignore", invalid="ignore"):
            invariance = 1 - self.squared_changes / self.count / (2 * variance)
        return np.where(np.isnan(variance), np.nan, np.clip(invariance, -1, 1))

    def shift(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean change in standard deviations of the responses to unchanged images, ``(C,)``."""
        shift: NDArray[np.float64] = self.changes / self.count / np.sqrt(variance)
        return shift


@dataclass
class OriginalResponses:
    """The responses to the unchanged images, collected over batches."""

    rows: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, responses: Responses) -> None:
        for path, one in responses.items():
            self.rows.setdefault(path, []).append(one)

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(map(len, next(iter(self.rows.values()), [])))

    def variances(self) -> Responses:
        """By path ``(C,)``; NaN for a channel that responds equally to all images."""
        return {path: _variance(np.concatenate(rows)) for path, rows in self.rows.items()}


def _variance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    variance = values.var(0)
    constant = variance <= (1e-6 * np.abs(values).max(0, initial=1e-30)) ** 2
    return np.where(constant | ~np.isfinite(variance), np.nan, variance)
