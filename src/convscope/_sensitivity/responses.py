"""What channels answer: one number a picture, and how far changes move it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._images import Preprocess
from convscope._models import Batch, Model

Responses = dict[str, NDArray[np.float64]]
"""By path: ``(N, C)``, one number for each picture and channel."""
_AT_ONCE = 32


@dataclass(frozen=True)
class Probe:
    """Shows pictures 0…1 to a model and reads one number a channel.

    - ``pool``: ``mean`` or ``peak`` over the positions of a map
    """

    model: Model
    paths: Sequence[str]
    preprocess: Preprocess
    pool: str = "mean"

    def responses(self, pictures: Tensor) -> Responses:
        """The channels' answers to ``(N, C, H, W)``, 0…1, rounded to eight bits like a photo."""
        return self._read(pictures, self._pooled)

    def central(self, pictures: Tensor) -> Responses:
        """The highest answer in the middle half of each map, away from the padded border."""
        return self._read(pictures, _central_peak)

    def _read(self, pictures: Tensor, reduce: object) -> Responses:
        found: dict[str, list[NDArray[np.float64]]] = {path: [] for path in self.paths}
        for part in torch.split(pictures, _AT_ONCE):
            for path, maps in self.model.activations(self._batch(part), self.paths).items():
                assert callable(reduce)
                found[path].append(reduce(maps).cpu().double().numpy())
        return {path: np.concatenate(rows) for path, rows in found.items()}

    def _batch(self, pictures: Tensor) -> Batch:
        levels = (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        values = np.stack([self.preprocess.normalize(picture) for picture in levels])
        names = tuple(f"picture {k}" for k in range(len(levels)))
        return Batch(torch.from_numpy(values), None, names, single=False)

    def _pooled(self, maps: Tensor) -> Tensor:
        flat = maps.reshape(*maps.shape[:2], -1)
        return flat.mean(2) if self.pool == "mean" else flat.amax(2)


def _central_peak(maps: Tensor) -> Tensor:
    if maps.ndim == 4:
        height, width = maps.shape[2:]
        top, left = height // 4, width // 4
        maps = maps[:, :, top : max(top + 1, height - top), left : max(left + 1, width - left)]
    return maps.reshape(*maps.shape[:2], -1).amax(2)


@dataclass
class Effect:
    """How one change moves the channels of one layer, summed up over batches.

    ``invariance`` is 1 − E[(b − a)²] / 2 Var[a]: 1 where the change never matters, 0 where it
    matters as much as showing another picture instead (of equal mean and variance, that is the
    correlation of before and after). −1 at the least; NaN for a channel that never varies.
    """

    squares: NDArray[np.float64]
    shifts: NDArray[np.float64]
    count: int = 0

    def add(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
        self.squares += ((after - before) ** 2).sum(0)
        self.shifts += (after - before).sum(0)
        self.count += len(before)

    def invariance(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(C,)``, given the variance of the answers to unchanged pictures."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 1 - self.squares / self.count / (2 * variance)
        return np.where(np.isnan(variance), np.nan, np.clip(found, -1, 1))

    def shift(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean answer's move, in standard deviations of the answers to unchanged pictures."""
        moved: NDArray[np.float64] = self.shifts / self.count / np.sqrt(variance)
        return moved


@dataclass
class Unchanged:
    """The answers to the pictures as they are."""

    rows: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, found: Responses) -> None:
        for path, one in found.items():
            self.rows.setdefault(path, []).append(one)

    def variances(self) -> Responses:
        """By path ``(C,)``; NaN for a channel that gives one answer to all pictures."""
        return dict(self._variances())

    def _variances(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        for path, rows in self.rows.items():
            values = np.concatenate(rows)
            spread = values.var(0)
            still = spread <= (1e-6 * np.abs(values).max(0, initial=1e-30)) ** 2
            yield path, np.where(still | ~np.isfinite(spread), np.nan, spread)
