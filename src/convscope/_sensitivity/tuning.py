"""Tuning curves: responses to gratings of every orientation and period, and to plain colors."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._sensitivity.responses import ResponseExtractor

ORIENTATIONS = tuple(range(0, 180, 15))
"""Of the stripes, in degrees, counter-clockwise from horizontal; 90 is vertical."""
HUES = tuple(range(0, 360, 30))
"""In degrees of the color circle."""
COLORS = (
    *(colorsys.hsv_to_rgb(hue / 360, 1, 1) for hue in HUES),
    (0.0, 0.0, 0.0),
    (0.5, 0.5, 0.5),
    (1.0, 1.0, 1.0),
)
"""RGB of the hues of ``HUES``, fully saturated, then black, mid-gray and white."""
_PHASES = 4


@dataclass(frozen=True, eq=False)
class TuningCurves:
    """The responses of one layer's channels to gratings and plain colors.

    A response is the highest activation in the middle half of the map.

    Attributes:
        gratings: ``(C, orientations, periods)``, minus the response to mid-gray; mean of four
            phases.
        periods: In pixels of the preprocessed image.
        colors: ``(C, hues + 3)``: to the hues, black, mid-gray and white; ``None`` for models that
            do not take RGB.
    """

    gratings: NDArray[np.float64]
    periods: tuple[int, ...]
    colors: NDArray[np.float64] | None

    def period(self, channel: int) -> int:
        """The period of the grating with the highest response, in pixels."""
        return self.periods[self._best_period(channel)]

    def orientation(self, channel: int) -> tuple[float, float]:
        """The preferred orientation of the stripes, and how selective the channel is for it.

        The circular mean of the responses on the doubled angle, at the preferred period;
        selectivity is the length of the mean vector, 1 − circular variance (Ringach et al.,
        Journal of Neuroscience, 2002).

        Args:
            channel: The channel's number.

        Returns:
            Degrees, 0…180, and selectivity, 0…1; NaN where no grating raises the activation above
            that of mid-gray.
        """
        responses = self.gratings[channel, :, self._best_period(channel)]
        return _circular_mean(np.clip(responses, 0, None), 2 * np.radians(ORIENTATIONS), 2)

    def hue(self, channel: int) -> tuple[float, float]:
        """The preferred hue, and how selective the channel is for it.

        Args:
            channel: The channel's number.

        Returns:
            Degrees of the color circle, 0…360, and selectivity, 0…1; NaN without colors.
        """
        if self.colors is None:
            return np.nan, np.nan
        responses = self.colors[channel, : len(HUES)]
        return _circular_mean(responses - responses.min(), np.radians(HUES), 1)

    def _best_period(self, channel: int) -> int:
        return int(self.gratings[channel].max(0).argmax())


def _circular_mean(
    weights: NDArray[np.float64], angles: NDArray[np.float64], folds: int
) -> tuple[float, float]:
    """Direction in degrees, and length, of the mean vector; angles were multiplied by ``folds``."""
    total = float(weights.sum())
    if not total > 1e-9:
        return np.nan, np.nan
    mean = complex((weights * np.exp(1j * angles)).sum() / total)
    return float(np.degrees(np.angle(mean)) / folds % (360 / folds)), abs(mean)


def measure_tuning(extractor: ResponseExtractor, size: tuple[int, int]) -> dict[str, TuningCurves]:
    """The tuning curves of all layers of an extractor, by path.

    A few hundred gratings and colors of ``size`` are shown.
    """
    channels = extractor.model.input.channels
    gray = extractor.central_peaks(torch.full((1, channels, *size), 0.5))
    periods = grating_periods(size)
    gratings = {
        path: np.zeros((rows.shape[1], len(ORIENTATIONS), len(periods)))
        for path, rows in gray.items()
    }
    for place, orientation in enumerate(ORIENTATIONS):
        images = torch.cat([grating(size, orientation, period, channels) for period in periods])
        for path, rows in extractor.central_peaks(images).items():
            responses = rows.reshape(len(periods), _PHASES, rows.shape[1]).mean(1)
            gratings[path][:, place] = (responses - gray[path]).T
    colors = extractor.central_peaks(color_images(size)) if channels == 3 else {}
    return {
        path: TuningCurves(values, tuple(periods), colors[path].T if path in colors else None)
        for path, values in gratings.items()
    }


def grating_periods(size: tuple[int, int]) -> list[int]:
    """Widths of one stripe pair in pixels: 2, 3, 4, 6, 8, … up to half of the shorter side."""
    periods = sorted({round(2 ** (k / 2) * 2) for k in range(12)})
    return [period for period in periods if period <= max(2, min(size) // 2)]


def grating(size: tuple[int, int], orientation: float, period: float, channels: int) -> Tensor:
    """A sine grating of full contrast around mid-gray in four phases, ``(4, channels, H, W)``."""
    angle = math.radians(orientation)
    rows = torch.arange(size[0], dtype=torch.float32).view(-1, 1)
    columns = torch.arange(size[1], dtype=torch.float32).view(1, -1)
    # stripes run along (cos, −sin) in x and y of the image; brightness changes across them
    across = columns * math.sin(angle) + rows * math.cos(angle)
    phases = torch.arange(_PHASES).view(-1, 1, 1) * (2 * math.pi / _PHASES)
    waves = 0.5 + 0.5 * torch.sin(2 * math.pi * across / period + phases)
    return waves[:, None].expand(-1, channels, -1, -1).contiguous()


def color_images(size: tuple[int, int]) -> Tensor:
    """Plain RGB images of ``COLORS``, ``(hues + 3, 3, H, W)``."""
    colors = torch.tensor(COLORS, dtype=torch.float32)
    return colors[:, :, None, None].expand(-1, 3, *size)
