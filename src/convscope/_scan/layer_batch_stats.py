"""What one batch of a layer's activations is reduced to while it is in memory.

Measured beside the convolution that computes the activations: sums and extremes cost little as
whole-array reductions; counting ``x > 0`` does too only if the bits are packed before they are
counted; positions are looked up only for what enters a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Counts = NDArray[np.int64]
SAMPLED_POSITIONS = 8
"""The number of positions of each map that go into the histogram."""
_MAX_GATHERED = 1 << 22  # elements gathered at once


@dataclass
class LayerBatchStats:
    """Statistics of one layer for one batch of images; ``(N, C)`` unless stated otherwise.

    Attributes:
        images: Indices into the dataset, int64 ``(N,)``.
        mean: Of each map, float32: images are ranked by it. Summed in float64 and rounded once; NaN
            where the map contains a NaN or both infinities.
        peak: The highest value of each map, float32: images are ranked by it; NaN where the map
            contains a NaN.
        sum: Σx over positions, float64, NaN left out.
        square: Σx² over positions, float64, NaN left out.
        minimum: float32, NaN left out.
        maximum: float32, NaN left out.
        active: The number of values above zero, int64 ``(C,)``.
        nan: The number of NaN values, int64 ``(C,)``.
        positions: The number of positions of a map.
        maps: The activations ``(N, C, positions)``; must not outlive the batch.
    """

    images: Counts
    mean: Floats
    peak: Floats
    sum: Doubles
    square: Doubles
    minimum: Floats
    maximum: Floats
    active: Counts
    nan: Counts
    positions: int
    maps: Tensor

    @property
    def channels(self) -> int:
        return int(self.mean.shape[1])

    def extreme_positions(
        self, rows: NDArray[Any], channels: NDArray[Any], *, lowest: bool = False
    ) -> NDArray[np.int32]:
        """The first position of the highest (lowest) value, for pairs of image and channel."""
        images, all_channels, _ = self.maps.shape
        flat = self.maps.reshape(images * all_channels, -1)
        which = np.asarray(rows, np.int64) * all_channels + channels
        if len(which) * 3 > len(flat):
            return np.asarray(_first_extreme(flat, lowest)[which])
        step = max(1, _MAX_GATHERED // self.positions)
        pieces = [
            _first_extreme(flat[torch.from_numpy(which[k : k + step]).to(flat.device)], lowest)
            for k in range(0, len(which), step)
        ]
        return np.concatenate([np.empty(0, np.int32), *pieces])

    def sampled_values(self) -> Floats:
        """``(N, C, p)``: the values at some positions of each map, other ones for each image."""
        if self.positions <= SAMPLED_POSITIONS:
            return np.asarray(self.maps.cpu().numpy())
        first = hash_indices(self.images, 1) % np.uint64(self.positions)
        steps = np.arange(SAMPLED_POSITIONS, dtype=np.int64) * self.positions // SAMPLED_POSITIONS
        positions = (first.astype(np.int64)[:, None] + steps) % self.positions
        at = torch.from_numpy(positions).to(self.maps.device)[:, None]
        return np.asarray(self.maps.gather(2, at.expand(-1, self.channels, -1)).cpu().numpy())


def compute_batch_stats(images: Counts, activation: Tensor) -> LayerBatchStats:
    """Reduce ``activation``, ``(N, C, …)`` float32; features ``(N, C)`` have one position."""
    activation = activation.detach()
    maps = (activation.flatten(2) if activation.ndim > 2 else activation[:, :, None]).contiguous()
    total, active = (_sum_on_cpu if maps.device.type == "cpu" else _sum_on_accelerator)(maps)
    norm = _array(torch.linalg.vector_norm(maps, dim=2)).astype(np.float64)  # MPS has no doubles
    peak = _array(maps.amax(2))
    stats = LayerBatchStats(
        images=images,
        mean=(total / maps.shape[2]).astype(np.float32),
        peak=peak,
        sum=total,
        square=norm * norm,
        minimum=_array(maps.amin(2)),
        maximum=peak,
        active=active,
        nan=np.zeros(maps.shape[1], np.int64),
        positions=int(maps.shape[2]),
        maps=maps,
    )
    if not np.isfinite(total).all() or not np.isfinite(stats.square).all():
        _exclude_nan(stats)
    return stats


def _sum_on_cpu(maps: Tensor) -> tuple[Doubles, Counts]:
    """Σx of each map, and the number of values above zero of each channel."""
    images, channels, positions = maps.shape
    values = maps.numpy().reshape(images * channels, positions)
    total = np.einsum("ij->i", values, dtype=np.float64).reshape(images, channels)
    bits = np.packbits(values > 0, axis=1)
    active = np.bitwise_count(bits).sum(1, dtype=np.int64).reshape(images, channels).sum(0)
    return total, active


def _sum_on_accelerator(maps: Tensor) -> tuple[Doubles, Counts]:
    total = maps.sum(2, dtype=torch.float64 if maps.device.type != "mps" else torch.float32)
    return _array(total).astype(np.float64), _array((maps > 0).sum((0, 2)))


def _exclude_nan(stats: LayerBatchStats) -> None:
    """Recompute the statistics of maps that are not finite, NaN left out and counted."""
    not_finite = ~(np.isfinite(stats.sum) & np.isfinite(stats.square))
    stats.maximum = stats.maximum.copy()
    for row, channel in np.argwhere(not_finite):
        values = stats.maps[row, channel].cpu().numpy().astype(np.float64)
        known = values[~np.isnan(values)]
        with np.errstate(invalid="ignore", over="ignore"):
            stats.nan[channel] += len(values) - len(known)
            stats.sum[row, channel] = known.sum()
            stats.square[row, channel] = (known * known).sum()
            stats.mean[row, channel] = values.mean()
        stats.minimum[row, channel] = known.min(initial=np.inf)
        stats.maximum[row, channel] = known.max(initial=-np.inf)


def _array(values: Tensor) -> Any:
    return values.cpu().numpy()


def _first_extreme(flat: Tensor, lowest: bool) -> NDArray[np.int32]:
    """The first position of the highest (lowest) value in each row."""
    if flat.device.type == "cpu":  # numpy takes an eighth of torch's time
        values = flat.numpy()
        return np.asarray(values.argmin(1) if lowest else values.argmax(1), np.int32)
    best = flat.amin(1, keepdim=True) if lowest else flat.amax(1, keepdim=True)
    return np.asarray(_array((flat == best).to(torch.uint8).argmax(1)), np.int32)


def hash_indices(indices: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """A pseudo-random number for each index (splitmix64), the same on every machine."""
    with np.errstate(over="ignore"):
        z = indices.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
