"""The classical tuning curves: what orientation, period and hue a channel prefers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convscope._sensitivity.responses import Probe
from convscope._sensitivity.stimuli import HUES, ORIENTATIONS, blank, colors, grating, periods


@dataclass(frozen=True, eq=False)
class Tuning:
    """The answers of one layer's channels to gratings and plain colors.

    - ``gratings``: ``(C, orientations, periods)``, above the answer to mid-gray
    - ``periods``: in pixels of what the model sees
    - ``plain``: ``(C, hues + 3)``, to the hues, black, mid-gray and white; ``None`` for gray models
    """

    gratings: NDArray[np.float64]
    periods: tuple[int, ...]
    plain: NDArray[np.float64] | None

    def period(self, channel: int) -> int:
        """The period of the grating it answers most."""
        return self.periods[int(self.gratings[channel].max(0).argmax())]

    def orientation(self, channel: int) -> tuple[float, float]:
        """The preferred orientation of the stripes in degrees, and how selective it is, 0…1.

        The mean direction of the answers on the doubled angle, at the preferred period; the
        selectivity is its length, 1 − circular variance (Ringach et al., 2002). NaN where no
        grating raises the channel above mid-gray.
        """
        best = int(self.gratings[channel].max(0).argmax())
        answers = np.clip(self.gratings[channel, :, best], 0, None)
        return _direction(answers, 2 * np.radians(ORIENTATIONS), 2)

    def hue(self, channel: int) -> tuple[float, float]:
        """The preferred hue in degrees of the color circle, and how selective it is, 0…1."""
        if self.plain is None:
            return np.nan, np.nan
        answers = self.plain[channel, : len(HUES)]
        return _direction(answers - answers.min(), np.radians(HUES), 1)


def _direction(
    answers: NDArray[np.float64], angles: NDArray[np.float64], folds: int
) -> tuple[float, float]:
    total = float(answers.sum())
    if not total > 1e-9:
        return np.nan, np.nan
    mean = complex((answers * np.exp(1j * angles)).sum() / total)
    return float(np.degrees(np.angle(mean)) / folds % (360 / folds)), abs(mean)


def tune(probe: Probe, size: tuple[int, int]) -> dict[str, Tuning]:
    """Show gratings and colors of one size; a pass over a few hundred small pictures."""
    channels = probe.model.input.channels
    nothing = probe.central(blank(size, channels))
    widths = periods(size)
    found = {
        path: np.zeros((rows.shape[1], len(ORIENTATIONS), len(widths)))
        for path, rows in nothing.items()
    }
    for place, orientation in enumerate(ORIENTATIONS):
        waves = torch.cat([grating(size, orientation, width, channels) for width in widths])
        for path, rows in probe.central(waves).items():
            answers = rows.reshape(len(widths), -1, rows.shape[1]).mean(1)
            found[path][:, place] = (answers - nothing[path]).T
    plain = probe.central(colors(size)) if channels == 3 else {}
    return {
        path: Tuning(values, tuple(widths), plain[path].T if path in plain else None)
        for path, values in found.items()
    }
