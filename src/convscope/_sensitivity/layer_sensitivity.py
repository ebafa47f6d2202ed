"""The sensitivity of one layer's channels, as numbers and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._layers import Layer
from convscope._sensitivity.tuning import TuningCurves

_HIGH, _LOW = 0.5, 0.1  # shares of explained variance that a sentence mentions
_SELECTIVE = 0.2


@dataclass(frozen=True, eq=False)
class LayerSensitivity:
    """The sensitivity of one layer's channels to perturbations, shape factors and gratings.

    Attributes:
        layer: The layer.
        invariance: By perturbation, ``(levels, C)``: 1 where it never changes the response, 0
            where it changes it as much as another image does, NaN for a channel that responds
            equally to all images.
        shift: By perturbation, ``(levels, C)``: the mean change of the response, in standard
            deviations between images.
        factors: On the procedural shapes, by factor ``(C,)``: the share of the variance between
            images that is explained by redrawing this factor alone (its total effect, Jansen,
            1999); empty on other data.
        tuning: The responses to gratings and plain colors.
    """

    layer: Layer
    invariance: Mapping[str, NDArray[np.float64]]
    shift: Mapping[str, NDArray[np.float64]]
    factors: Mapping[str, NDArray[np.float64]]
    tuning: TuningCurves

    @property
    def channel_invariance(self) -> NDArray[np.float64]:
        """Mean over the levels of each perturbation, ``(perturbations, C)``."""
        return np.stack([levels.mean(0) for levels in self.invariance.values()])

    @property
    def perturbation_invariance(self) -> dict[str, float]:
        """By perturbation, the mean over the channels that vary."""
        rows = zip(self.invariance, self.channel_invariance, strict=True)
        return {name: finite_mean(row) for name, row in rows}

    @property
    def mean_invariance(self) -> float:
        """One number for the layer."""
        return finite_mean(np.array(list(self.perturbation_invariance.values())))

    def sentence(self, channel: int) -> str:
        """Summarize what changes the responses of one channel, and what does not, in one line.

        Args:
            channel: The channel's number.

        Returns:
            The line, without a period.
        """
        address = f"{self.layer.path}:{channel}"
        invariance = self.channel_invariance[:, channel]
        if np.isnan(invariance).all():
            return f"{address} responds equally to every image"
        names = list(self.invariance)
        low, high = int(np.nanargmin(invariance)), int(np.nanargmax(invariance))
        parts = [
            *self._explained_variance(channel),
            f"most sensitive to {names[low]} (invariance {invariance[low]:.2f}), least to "
            f"{names[high]} ({invariance[high]:.2f})",
            *self._preferences(channel),
        ]
        return f"{address}: {'; '.join(parts)}"

    def _explained_variance(self, channel: int) -> list[str]:
        shares = {name: float(values[channel]) for name, values in self.factors.items()}
        ordered = sorted(shares, key=lambda name: -shares[name])
        high = [f"{name} ({shares[name]:.2f})" for name in ordered if shares[name] >= _HIGH]
        low = [name for name in ordered if shares[name] <= _LOW]
        parts = [f"variance explained by {' and '.join(high)}"] if high else []
        return [*parts, *([f"hardly any by {', '.join(low)}"] if low else [])]

    def _preferences(self, channel: int) -> list[str]:
        parts = []
        degrees, selectivity = self.tuning.orientation(channel)
        if selectivity >= _SELECTIVE:
            parts.append(
                f"prefers stripes of {degrees:.0f}° and {self.tuning.period(channel)} px "
                f"(selectivity {selectivity:.2f})"
            )
        hue, selectivity = self.tuning.hue(channel)
        if selectivity >= _SELECTIVE:
            parts.append(f"prefers hue {hue:.0f}° (selectivity {selectivity:.2f})")
        return parts

    def rows(self) -> list[dict[str, Any]]:
        """One row per channel, ready for tables and JSON; ``None`` stands for NaN."""
        invariance = self.channel_invariance
        return [
            {
                "address": f"{self.layer.path}:{k}",
                "invariance": dict(
                    zip(self.invariance, map(_rounded, invariance[:, k]), strict=True)
                ),
                "factors": {name: _rounded(values[k]) for name, values in self.factors.items()},
                "orientation": _rounded(self.tuning.orientation(k)[0]),
                "orientation_selectivity": _rounded(self.tuning.orientation(k)[1]),
                "period": self.tuning.period(k),
                "hue": _rounded(self.tuning.hue(k)[0]),
                "hue_selectivity": _rounded(self.tuning.hue(k)[1]),
            }
            for k in range(self.layer.channels)
        ]


def finite_mean(values: NDArray[np.float64]) -> float:
    """The mean of the finite values; NaN where there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _rounded(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 4)
