"""What a network is sensitive to, as numbers and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UnknownLayer, UsageError
from convscope._layers import Layer
from convscope._plot import Sheet, Theme
from convscope._sensitivity.curves import Tuning

FOLLOWS, IGNORES = 0.5, 0.1


@dataclass(frozen=True, eq=False)
class LayerSensitivity:
    """The sensitivity of one layer's channels.

    - ``invariance``: by change, ``(levels, C)``: 1 where it never matters, 0 where it matters as
      much as another picture, NaN for a channel that gives one answer to all
    - ``shift``: by change, ``(levels, C)``: the mean answer's move, in standard deviations
    - ``factors``: on ``shapes``, by factor ``(C,)``: the share of the channel's variance that
      redrawing it alone brings (its total effect, Jansen 1999); empty elsewhere
    - ``tuning``: the answers to gratings and plain colors
    """

    layer: Layer
    invariance: Mapping[str, NDArray[np.float64]]
    shift: Mapping[str, NDArray[np.float64]]
    factors: Mapping[str, NDArray[np.float64]]
    tuning: Tuning

    @property
    def numbers(self) -> NDArray[np.float64]:
        """One invariance number a change and channel: ``(changes, C)``, the mean of its levels."""
        return np.stack([levels.mean(0) for levels in self.invariance.values()])

    def overall(self) -> dict[str, float]:
        """One invariance number a change: the mean of the channels that vary."""
        return {
            name: float(_mean(row)) for name, row in zip(self.invariance, self.numbers, strict=True)
        }

    @property
    def mean(self) -> float:
        """One number for the layer."""
        return float(_mean(np.array(list(self.overall().values()))))

    def sentence(self, channel: int) -> str:
        """What one channel follows and ignores, in one line."""
        address = f"{self.layer.path}:{channel}"
        numbers = self.numbers[:, channel]
        if np.isnan(numbers).all():
            return f"{address} gives one answer to every picture"
        parts = [*self._factor_words(channel)] if self.factors else []
        names = list(self.invariance)
        worst, best = int(np.nanargmin(numbers)), int(np.nanargmax(numbers))
        parts.append(
            f"most sensitive to {names[worst]} ({numbers[worst]:.2f}), least to {names[best]} "
            f"({numbers[best]:.2f})"
        )
        return f"{address}: {', '.join([*parts, *self._tuned_words(channel)])}"

    def _factor_words(self, channel: int) -> list[str]:
        shares = {name: float(values[channel]) for name, values in self.factors.items()}
        ordered = sorted(shares, key=lambda name: -shares[name])
        follows = [f"{name} ({shares[name]:.2f})" for name in ordered if shares[name] >= FOLLOWS]
        ignores = [name for name in ordered if shares[name] <= IGNORES]
        words = [f"follows {' and '.join(follows)}"] if follows else []
        return [*words, *([f"ignores {', '.join(ignores)}"] if ignores else [])]

    def _tuned_words(self, channel: int) -> list[str]:
        words = []
        degrees, selective = self.tuning.orientation(channel)
        if selective >= 0.2:
            words.append(
                f"prefers stripes of {degrees:.0f}° and {self.tuning.period(channel)} px "
                f"(selectivity {selective:.2f})"
            )
        hue, chosen = self.tuning.hue(channel)
        if chosen >= 0.2:
            words.append(f"prefers hue {hue:.0f}° (selectivity {chosen:.2f})")
        return words

    def rows(self) -> list[dict[str, Any]]:
        """One row a channel, for tables and JSON."""
        names = list(self.invariance)
        return [
            {
                "address": f"{self.layer.path}:{k}",
                "invariance": dict(zip(names, map(_plain, self.numbers[:, k]), strict=True)),
                "factors": {n: _plain(v[k]) for n, v in self.factors.items()},
                "orientation": _plain(self.tuning.orientation(k)[0]),
                "orientation_selectivity": _plain(self.tuning.orientation(k)[1]),
                "period": self.tuning.period(k),
                "hue": _plain(self.tuning.hue(k)[0]),
                "hue_selectivity": _plain(self.tuning.hue(k)[1]),
            }
            for k in range(self.layer.channels)
        ]


@dataclass(frozen=True, eq=False)
class Sensitivity(Mapping[str, LayerSensitivity]):
    """What the layers of a network are sensitive to, by path."""

    layers: tuple[LayerSensitivity, ...]
    model: str
    pictures: str
    pool: str
    lines: tuple[str, ...]

    def __getitem__(self, path: str) -> LayerSensitivity:
        for one in self.layers:
            if one.layer.path == path:
                return one
        raise UnknownLayer(
            f"Layer {path!r} was not measured. Measured: {', '.join(map(repr, self))}"
        )

    def __iter__(self) -> Any:
        return (one.layer.path for one in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def sentence(self) -> str:
        """The most and the least sensitive layers, and changes, in one line."""
        ordered = sorted(self.layers, key=lambda one: one.mean)
        least, most = ordered[-1], ordered[0]
        table = {
            name: np.mean([one.overall()[name] for one in self.layers])
            for name in self.layers[0].invariance
        }
        hard, easy = min(table, key=lambda n: table[n]), max(table, key=lambda n: table[n])
        return (
            f"{self.model}: {most.layer.path} is the most sensitive layer (mean invariance "
            f"{most.mean:.2f}), {least.layer.path} the least ({least.mean:.2f}); {hard} matters "
            f"most ({table[hard]:.2f}), {easy} least ({table[easy]:.2f})"
        )

    def unit(self, address: str) -> str:
        """What one channel follows and ignores, in one line."""
        path, _, channel = address.rpartition(":")
        if not path or not channel.isdigit() or int(channel) >= self[path].layer.channels:
            raise UsageError(f"{address!r} is no unit that was measured. Write PATH:CHANNEL")
        return self[path].sentence(int(channel))

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """All layers: a number and a curve for each change."""
        from convscope._sensitivity.sheets import overview

        return overview(self, theme)

    def channels(self, path: str, *, most: int = 24, theme: Theme = "light") -> Sheet:
        """Small multiples of one layer: a row a channel, a curve for each change."""
        from convscope._sensitivity.sheets import of_channels

        return of_channels(self, self[path], most, theme)

    def gratings(self, path: str, *, theme: Theme = "light") -> Sheet:
        """The answers of one layer to gratings, and to plain colors: a picture a channel."""
        from convscope._sensitivity.sheets import of_gratings

        return of_gratings(self, self[path], theme)

    def save(self, path: str | Path, *, theme: Theme = "light") -> list[Path]:
        """Write the overview as a picture; into a folder, every layer's sheets too."""
        from convscope._layers import file_name

        path = Path(path)
        if path.suffix:
            return [self.sheet(theme=theme).save(path)]
        written = [self.sheet(theme=theme).save(path / "sensitivity.png")]
        for one in self:
            written.append(
                self.channels(one, theme=theme).save(path / f"{file_name(one)}.curves.png")
            )
            sheet = self.gratings(one, theme=theme)
            written.append(sheet.save(path / f"{file_name(one)}.gratings.png"))
        return written

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves, for JSON."""
        return {
            "model": self.model,
            "pictures": self.pictures,
            "pool": self.pool,
            "sentence": self.sentence(),
            "layers": [
                {
                    "path": one.layer.path,
                    "invariance": one.overall(),
                    "mean": one.mean,
                    "channels": one.rows(),
                }
                for one in self.layers
            ],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"Sensitivity({self.sentence()})"


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _plain(value: Any) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 4)
