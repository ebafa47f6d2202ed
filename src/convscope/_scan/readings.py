"""What one batch of a layer's activations is reduced to, while they are in memory.

Measured, beside the convolution that made them: sums and extremes cost little as whole-array
reductions; counting ``x > 0`` does not unless the bits are counted packed; places are looked up
only for what enters a list.
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
PROBES = 8
"""How many positions of each map go into the histogram."""
_AT_ONCE = 1 << 22  # elements gathered in one go


@dataclass
class Reading:
    """One layer's activations for one batch, reduced; ``(N, C)`` but where it says otherwise.

    - ``images``: int64 ``(N,)``, listing indices.
    - ``mean``, ``peak``: float32, what images are ranked by; the mean is taken in float64 and
      rounded once. NaN where the map holds a NaN (or both infinities, for the mean).
    - ``total``, ``square``: float64, Σx and Σx² over positions; ``low``, ``high``: float32,
      extremes. NaN values are left out of these four.
    - ``active``, ``nan``: int64 ``(C,)``, how many values are above zero, and NaN.
    - ``positions``: how many a map has.
    """

    images: Counts
    mean: Floats
    peak: Floats
    total: Doubles
    square: Doubles
    low: Floats
    high: Floats
    active: Counts
    nan: Counts
    positions: int
    maps: Tensor  # (N, C, positions); not to be kept

    @property
    def channels(self) -> int:
        return int(self.mean.shape[1])

    def where(
        self, rows: NDArray[Any], channels: NDArray[Any], *, lowest: bool = False
    ) -> NDArray[np.int32]:
        """The first place of the highest (lowest) value in the maps of some images and channels."""
        images, all_channels, _ = self.maps.shape
        flat = self.maps.reshape(images * all_channels, -1)
        which = np.asarray(rows, np.int64) * all_channels + channels
        if len(which) * 3 > len(flat):
            return np.asarray(_extreme(flat, lowest)[which])
        step = max(1, _AT_ONCE // self.positions)
        parts = [
            _extreme(flat[torch.from_numpy(which[k : k + step]).to(flat.device)], lowest)
            for k in range(0, len(which), step)
        ]
        return np.concatenate([np.empty(0, np.int32), *parts])

    def probed(self) -> Floats:
        """``(N, C, p)``: the values at some positions of each map, other ones for each image."""
        if self.positions <= PROBES:
            return np.asarray(self.maps.cpu().numpy())
        first = mixed(self.images, 1) % np.uint64(self.positions)
        steps = np.arange(PROBES, dtype=np.int64) * self.positions // PROBES
        places = (first.astype(np.int64)[:, None] + steps) % self.positions
        at = torch.from_numpy(places).to(self.maps.device)[:, None]
        return np.asarray(self.maps.gather(2, at.expand(-1, self.channels, -1)).cpu().numpy())


def read(images: Counts, activation: Tensor) -> Reading:
    """Reduce ``activation``, ``(N, C, …)`` float32; where it is no map it has one position."""
    maps = (
        activation.detach().flatten(2) if activation.ndim > 2 else activation.detach()[:, :, None]
    )
    maps = maps.contiguous()
    total, active = (_sums_here if maps.device.type == "cpu" else _sums_there)(maps)
    norm = _array(torch.linalg.vector_norm(maps, dim=2)).astype(np.float64)  # MPS has no doubles
    reading = Reading(
        images=images,
        mean=(total / maps.shape[2]).astype(np.float32),
        peak=_array(maps.amax(2)),
        total=total,
        square=norm * norm,
        low=_array(maps.amin(2)),
        high=np.empty(0, np.float32),
        active=active,
        nan=np.zeros(maps.shape[1], np.int64),
        positions=int(maps.shape[2]),
        maps=maps,
    )
    reading.high = reading.peak
    if not np.isfinite(total).all() or not np.isfinite(reading.square).all():
        _mend(reading)
    return reading


def _sums_here(maps: Tensor) -> tuple[Doubles, Counts]:
    """Σx of each map and how many values of each channel are above zero, on the processor."""
    images, channels, positions = maps.shape
    values = maps.numpy().reshape(images * channels, positions)
    total = np.einsum("ij->i", values, dtype=np.float64).reshape(images, channels)
    bits = np.packbits(values > 0, axis=1)
    active = np.bitwise_count(bits).sum(1, dtype=np.int64).reshape(images, channels).sum(0)
    return total, active


def _sums_there(maps: Tensor) -> tuple[Doubles, Counts]:
    """The same on an accelerator."""
    total = maps.sum(2, dtype=torch.float64 if maps.device.type != "mps" else torch.float32)
    return _array(total).astype(np.float64), _array((maps > 0).sum((0, 2)))


def _mend(reading: Reading) -> None:
    """Reduce the maps that are not finite anew, NaN apart."""
    bad = ~(np.isfinite(reading.total) & np.isfinite(reading.square))
    reading.high = reading.high.copy()
    for row, channel in np.argwhere(bad):
        values = reading.maps[row, channel].cpu().numpy().astype(np.float64)
        known = values[~np.isnan(values)]
        with np.errstate(invalid="ignore", over="ignore"):
            reading.nan[channel] += len(values) - len(known)
            reading.total[row, channel] = known.sum()
            reading.square[row, channel] = (known * known).sum()
            reading.mean[row, channel] = values.mean()
        reading.low[row, channel] = known.min(initial=np.inf)
        reading.high[row, channel] = known.max(initial=-np.inf)


def _array(values: Tensor) -> Any:
    return values.cpu().numpy()


def _extreme(flat: Tensor, lowest: bool) -> NDArray[np.int32]:
    """The first place of the highest (lowest) value in each row."""
    if flat.device.type == "cpu":  # numpy's takes an eighth of the time
        values = flat.numpy()
        return np.asarray(values.argmin(1) if lowest else values.argmax(1), np.int32)
    best = flat.amin(1, keepdim=True) if lowest else flat.amax(1, keepdim=True)
    return np.asarray(_array((flat == best).to(torch.uint8).argmax(1)), np.int32)


def mixed(numbers: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """Numbers that look random, one for each given (splitmix64): the same on every machine."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
