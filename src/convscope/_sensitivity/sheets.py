"""Sensitivity as small multiples."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convscope._plot import Section, Sheet, Theme, Tile, map_tiles
from convscope._plot.curves import bar_tile, cell_tiles, curve_tile
from convscope._sensitivity.changes import CHANGES
from convscope._sensitivity.stimuli import HUES, ORIENTATIONS

if TYPE_CHECKING:
    from convscope._sensitivity.result import LayerSensitivity, Sensitivity

_MOST_MAPS = 128
_READ = "invariance: 1 = the change never matters, 0 = it matters as much as another picture"


def overview(found: Sensitivity, theme: Theme) -> Sheet:
    """A matrix of numbers, layers by changes, and below it the curves they are the means of."""
    names = tuple(found.layers[0].invariance)
    rows = tuple(one.layer.path for one in found.layers)
    numbers = np.array([[one.overall()[name] for name in names] for one in found.layers])
    tiles = cell_tiles(np.clip(numbers, 0, 1), low=0.0, high=1.0)
    curves = [_curve(one, name, None) for one in found.layers for name in names]
    sections = [
        Section("invariance, mean of all strengths", tuple(tiles), len(names), rows, names),
        Section("… at each strength", tuple(curves), len(names), rows, names),
    ]
    sections += _factor_sections(found)
    lines = (
        *found.lines,
        _READ,
        "curves: invariance 0…1 from the weakest change to the "
        "strongest; brightness, contrast and scale from less to more",
        found.sentence(),
    )
    title = f"{found.model} · what its layers are sensitive to"
    return Sheet(title, lines, tuple(sections), theme=theme, noun="cell")


def _factor_sections(found: Sensitivity) -> list[Section]:
    if not found.layers[0].factors:
        return []
    names = tuple(found.layers[0].factors)
    rows = tuple(one.layer.path for one in found.layers)
    numbers = np.array([[_mean(one.factors[name]) for name in names] for one in found.layers])
    tiles = cell_tiles(np.clip(numbers, 0, 1), low=0.0, high=1.0)
    heading = "known factors: share of the variance that redrawing this one alone brings"
    return [Section(heading, tuple(tiles), len(names), rows, names)]


def of_channels(found: Sensitivity, one: LayerSensitivity, most: int, theme: Theme) -> Sheet:
    """The channels that differ most from one another, each a row of curves."""
    names, numbers = tuple(one.invariance), one.numbers
    spread = np.nan_to_num(
        np.nanmax(numbers, 0, initial=-1) - np.nanmin(numbers, 0, initial=1), nan=-1
    )
    chosen = np.sort(np.argsort(-spread, kind="stable")[:most])
    tiles = [_curve(one, name, int(k)) for k in chosen for name in names]
    heads = names
    if one.factors:
        wide = [_share(float(one.factors[f][k])) for k in chosen for f in one.factors]
        tiles = _beside(tiles, len(names), wide, len(one.factors))
        heads = (*names, *(f"◂{name}" for name in one.factors))
    rows = tuple(str(int(k)) for k in chosen)
    lines = [
        *found.lines,
        _READ,
        "curves: invariance 0…1 from the weakest change to the strongest",
    ]
    if one.factors:
        lines.append("◂: known factors; the bar is the share of variance that redrawing it brings")
    if len(chosen) < one.layer.channels:
        lines.append(
            f"the {len(chosen)} of {one.layer.channels} channels whose sensitivities differ most"
        )
    section = Section("", tuple(tiles), len(heads), rows, heads)
    title = f"{one.layer.path} · what each channel is sensitive to"
    return Sheet(title, tuple(lines), (section,), theme=theme, noun="curve")


def of_gratings(found: Sensitivity, one: LayerSensitivity, theme: Theme) -> Sheet:
    """Orientation × period for each channel, and bars for plain colors."""
    tuning, count = one.tuning, min(one.layer.channels, _MOST_MAPS)
    maps = np.clip(tuning.gratings[:count], 0, None).astype(np.float32)
    tiles = map_tiles(maps, labels=[_tuned(one, k) for k in range(count)])
    sections = [Section("gratings", tuple(tiles))]
    if tuning.plain is not None:
        sections.append(Section("plain colors", tuple(_bars(one, k) for k in range(count))))
    lines = (
        *found.lines[:1],
        "the highest answer in the middle half of the map, above that to mid-gray, mean of four "
        "phases",
        f"rows: orientation of the stripes, {ORIENTATIONS[0]}° (lying) at the top to "
        f"{ORIENTATIONS[-1]}°, counter-clockwise; columns: period "
        f"{', '.join(map(str, tuning.periods))} px of what the model sees",
        "label: channel, preferred orientation, selectivity 0…1; bars: hues from red, then black, "
        "gray and white, from the channel's lowest to its highest answer",
    )
    title = f"{one.layer.path} · tuning to gratings and colors"
    if count < one.layer.channels:
        title += f" (first {count} of {one.layer.channels})"
    return Sheet(title, lines, tuple(sections), theme=theme)


def _tuned(one: LayerSensitivity, channel: int) -> str:
    degrees, selective = one.tuning.orientation(channel)
    return f"{channel}" if np.isnan(degrees) else f"{channel} · {degrees:.0f}° {selective:.2f}"


def _bars(one: LayerSensitivity, channel: int) -> Tile:
    assert one.tuning.plain is not None
    values = one.tuning.plain[channel]
    mixed = [colorsys.hsv_to_rgb(hue / 360, 1, 1) for hue in HUES] + [
        (0.0,) * 3,
        (0.62,) * 3,
        (1.0,) * 3,
    ]
    colors = np.round(255 * np.array(mixed)).astype(np.uint8)
    hue, selective = one.tuning.hue(channel)
    label = f"{channel}" if np.isnan(hue) else f"{channel} · {hue:.0f}° {selective:.2f}"
    low, high = float(values.min()), float(values.max())
    return bar_tile(values.tolist(), colors, low=low, high=high, label=label)


def _curve(one: LayerSensitivity, name: str, channel: int | None) -> Tile:
    """Invariance over the strengths, the unchanged picture at its place among them."""
    values = one.invariance[name]
    row = values[:, channel] if channel is not None else _means(values)
    levels = CHANGES[name].levels
    middle = {"brightness": 0.0, "contrast": 1.0, "scale": 1.0, "JPEG": 100.0}.get(name, 0.0)
    ordered = sorted([*zip(levels, row.tolist(), strict=True), (middle, _whole(row))])
    if name == "JPEG":
        ordered.reverse()
    return curve_tile([value for _, value in ordered])


def _whole(row: NDArray[np.float64]) -> float:
    return 1.0 if np.isfinite(row).any() else float("nan")


def _share(value: float) -> Tile:
    return curve_tile([value, value])


def _beside(left: list[Tile], across: int, right: list[Tile], more: int) -> list[Tile]:
    """Two blocks of equally many rows as one."""
    rows = len(left) // across
    return [
        tile
        for k in range(rows)
        for tile in (*left[k * across : (k + 1) * across], *right[k * more : (k + 1) * more])
    ]


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([_mean(row) for row in values])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
