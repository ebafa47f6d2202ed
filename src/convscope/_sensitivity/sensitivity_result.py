"""What ``sensitivity`` returns: layers by path, sentences, and small multiples as figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UnknownLayer, UsageError
from convscope._layers import file_name
from convscope._plot import Section, Sheet, Theme, Tile, map_tiles
from convscope._plot.curves import bar_tile, cell_tiles, curve_tile
from convscope._sensitivity.layer_sensitivity import LayerSensitivity, finite_mean
from convscope._sensitivity.perturbations import PERTURBATIONS
from convscope._sensitivity.tuning import COLORS, ORIENTATIONS

_MAX_TUNING_MAPS = 128
_SCALE = "invariance: 1 = the response never changes, 0 = it changes as much as between two images"
_DRAWN_GRAY = (0.62, 0.62, 0.62)  # mid-gray is hardly seen on a dark ground


@dataclass(frozen=True, eq=False)
class SensitivityResult(Mapping[str, LayerSensitivity]):
    """The sensitivity of the layers of a network, by path.

    Attributes:
        layers: In the order of the network.
        model: The model's title.
        images: Number and name of the images, in words.
        pool: ``mean`` or ``peak``: which number of its map is the response of a channel.
        lines: Facts for the captions of figures.
    """

    layers: tuple[LayerSensitivity, ...]
    model: str
    images: str
    pool: str
    lines: tuple[str, ...]

    def __getitem__(self, path: str) -> LayerSensitivity:
        for one in self.layers:
            if one.layer.path == path:
                return one
        raise UnknownLayer(
            f"Layer {path!r} was not measured. Measured: {', '.join(map(repr, self))}"
        )

    def __iter__(self) -> Iterator[str]:
        return (one.layer.path for one in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def sentence(self) -> str:
        """Name the most and the least sensitive layer, and perturbation, in one line."""
        ordered = sorted(self.layers, key=lambda one: one.mean_invariance)
        most, least = ordered[0], ordered[-1]
        means = {
            name: float(np.mean([one.perturbation_invariance[name] for one in self.layers]))
            for name in self.layers[0].invariance
        }
        strongest, weakest = (f(means, key=lambda name: means[name]) for f in (min, max))
        return (
            f"{self.model}: {most.layer.path} is the most sensitive layer (mean invariance "
            f"{most.mean_invariance:.2f}), {least.layer.path} the least "
            f"({least.mean_invariance:.2f}); responses change most with {strongest} "
            f"({means[strongest]:.2f}), least with {weakest} ({means[weakest]:.2f})"
        )

    def unit_sentence(self, address: str) -> str:
        """Summarize the sensitivity of one channel in one line.

        Args:
            address: ``PATH:CHANNEL`` of a measured layer.

        Returns:
            The line, without a period.

        Raises:
            UsageError: For an address that is not one of a measured unit.
        """
        path, _, channel = address.rpartition(":")
        if not path or not channel.isdigit() or int(channel) >= self[path].layer.channels:
            raise UsageError(f"{address!r} is no unit that was measured. Write PATH:CHANNEL")
        return self[path].sentence(int(channel))

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Draw all layers: the mean invariance to each perturbation, and a curve over its levels.

        Args:
            theme: ``light`` or ``dark``.

        Returns:
            The figure.
        """
        names = tuple(self.layers[0].invariance)
        rows = tuple(self)
        means = np.array([list(one.perturbation_invariance.values()) for one in self.layers])
        tiles = cell_tiles(np.clip(means, 0, 1), low=0.0, high=1.0)
        curves = [_curve(one, name, None) for one in self.layers for name in names]
        sections = [
            Section("invariance, mean over levels", tuple(tiles), len(names), rows, names),
            Section("invariance at each level", tuple(curves), len(names), rows, names),
            *self._factor_sections(),
        ]
        lines = (
            *self.lines,
            _SCALE,
            "curves: invariance 0…1 from the weakest level to the strongest; brightness, contrast "
            "and scale from less to more",
            self.sentence(),
        )
        title = f"{self.model} · sensitivity of its layers"
        return Sheet(title, lines, tuple(sections), theme=theme, noun="cell")

    def _factor_sections(self) -> list[Section]:
        names = tuple(self.layers[0].factors)
        if not names:
            return []
        shares = np.array([[finite_mean(one.factors[n]) for n in names] for one in self.layers])
        tiles = cell_tiles(np.clip(shares, 0, 1), low=0.0, high=1.0)
        heading = "share of the variance explained by each factor, redrawn by itself"
        return [Section(heading, tuple(tiles), len(names), tuple(self), names)]

    def channel_sheet(self, path: str, *, limit: int = 24, theme: Theme = "light") -> Sheet:
        """Draw one layer: a row per channel, a curve per perturbation.

        Args:
            path: The layer's path.
            limit: Number of channels to draw, those whose invariances differ most.
            theme: ``light`` or ``dark``.

        Returns:
            The figure.
        """
        one = self[path]
        chosen = _most_selective(one, limit)
        names, factors = tuple(one.invariance), tuple(one.factors)
        tiles = [
            tile
            for k in chosen
            for tile in (
                *(_curve(one, name, k) for name in names),
                *(_level(float(one.factors[name][k])) for name in factors),
            )
        ]
        lines = [*self.lines, _SCALE, "curves: from the weakest level to the strongest"]
        if factors:
            lines.append("◂: share of the variance explained by this factor, redrawn by itself")
        if len(chosen) < one.layer.channels:
            lines.append(
                f"the {len(chosen)} of {one.layer.channels} channels whose invariances differ most"
            )
        heads = (*names, *(f"◂{name}" for name in factors))
        section = Section("", tuple(tiles), len(heads), tuple(map(str, chosen)), heads)
        title = f"{path} · sensitivity of its channels"
        return Sheet(title, tuple(lines), (section,), theme=theme, noun="curve")

    def tuning_sheet(self, path: str, *, theme: Theme = "light") -> Sheet:
        """Draw the responses of one layer's channels to gratings, and to plain colors.

        Args:
            path: The layer's path.
            theme: ``light`` or ``dark``.

        Returns:
            The figure: a map of orientations × periods, and bars of colors, per channel.
        """
        one = self[path]
        count = min(one.layer.channels, _MAX_TUNING_MAPS)
        maps = np.clip(one.tuning.gratings[:count], 0, None).astype(np.float32)
        labels = [_preference(k, *one.tuning.orientation(k)) for k in range(count)]
        sections = [Section("gratings", tuple(map_tiles(maps, labels=labels)))]
        if one.tuning.colors is not None:
            bars = tuple(_bars(one, one.tuning.colors[k], k) for k in range(count))
            sections.append(Section("plain colors", bars))
        lines = (
            *self.lines[:1],
            "highest activation in the middle half of the map, above that for mid-gray; mean of "
            "four phases",
            f"rows: orientation of the stripes, {ORIENTATIONS[0]}° (horizontal) at the top to "
            f"{ORIENTATIONS[-1]}°, counter-clockwise; columns: period "
            f"{', '.join(map(str, one.tuning.periods))} px of the preprocessed image",
            "label: channel, preferred orientation, selectivity 0…1; bars: hues from red, then "
            "black, gray and white, from the channel's lowest to its highest response",
        )
        title = f"{path} · tuning to gratings and colors"
        if count < one.layer.channels:
            title += f" (first {count} of {one.layer.channels})"
        return Sheet(title, lines, tuple(sections), theme=theme)

    def save(self, path: str | Path, *, theme: Theme = "light") -> list[Path]:
        """Write the overview; into a folder, the figures of every layer too.

        Args:
            path: A file, whose ending decides the format, or a folder.
            theme: ``light`` or ``dark``.

        Returns:
            The files.
        """
        path = Path(path)
        if path.suffix:
            return [self.sheet(theme=theme).save(path)]
        sheets = {"sensitivity": self.sheet(theme=theme)}
        for one in self:
            sheets[f"{file_name(one)}.curves"] = self.channel_sheet(one, theme=theme)
            sheets[f"{file_name(one)}.gratings"] = self.tuning_sheet(one, theme=theme)
        return [sheet.save(path / f"{name}.png") for name, sheet in sheets.items()]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves, ready for JSON."""
        return {
            "model": self.model,
            "images": self.images,
            "pool": self.pool,
            "sentence": self.sentence(),
            "layers": [
                {
                    "path": one.layer.path,
                    "invariance": one.perturbation_invariance,
                    "mean": one.mean_invariance,
                    "channels": one.rows(),
                }
                for one in self.layers
            ],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"SensitivityResult({self.sentence()})"


def _most_selective(one: LayerSensitivity, limit: int) -> list[int]:
    """The channels whose invariances to the perturbations differ most, in order."""
    values = one.channel_invariance
    difference = np.nanmax(values, 0, initial=-1) - np.nanmin(values, 0, initial=1)
    order = np.argsort(-np.nan_to_num(difference, nan=-1), kind="stable")
    return sorted(map(int, order[:limit]))


def _curve(one: LayerSensitivity, name: str, channel: int | None) -> Tile:
    """Invariance over the levels, the unchanged image at its place among them."""
    values = one.invariance[name]
    if channel is None:
        row = np.array([finite_mean(level) for level in values])
    else:
        row = values[:, channel]
    perturbation = PERTURBATIONS[name]
    unchanged = 1.0 if np.isfinite(row).any() else float("nan")
    points = dict(zip(perturbation.levels, row.tolist(), strict=True))
    points[perturbation.identity] = unchanged
    weaker_first = perturbation.identity < max(perturbation.levels)
    return curve_tile([points[level] for level in sorted(points, reverse=not weaker_first)])


def _level(value: float) -> Tile:
    return curve_tile([value, value])


def _preference(channel: int, degrees: float, selectivity: float) -> str:
    return f"{channel}" if np.isnan(degrees) else f"{channel} · {degrees:.0f}° {selectivity:.2f}"


def _bars(one: LayerSensitivity, values: NDArray[np.float64], channel: int) -> Tile:
    drawn = [_DRAWN_GRAY if color == (0.5, 0.5, 0.5) else color for color in COLORS]
    colors = np.round(255 * np.array(drawn)).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    label = _preference(channel, *one.tuning.hue(channel))
    return bar_tile(values.tolist(), colors, low=low, high=high, label=label)
