"""Channels that are off, on, stuck or broken: what their extremes and counts say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._health.evidence import Evidence
from convscope._health.finding import Finding
from convscope._plot.text import number

NEARLY = 1e-4
"""Nearly dead: above zero at this share of positions or fewer; always on: not above, as rarely."""
SATURATED = 0.95
"""Saturated: this share of positions or more in the outer eighth of what the function can give."""
OUTER = 1 / 8

Mask = NDArray[np.bool_]


def states(layer: Evidence) -> dict[str, Mask]:
    """Which channels are in which state; a channel is in one at most, the gravest."""
    broken = layer.nan > 0
    broken |= ~np.isfinite(layer.minimum) | ~np.isfinite(layer.maximum)
    found = {"not finite": broken}
    share = layer.active / np.maximum(layer.count, 1)
    if layer.switches:
        found["dead"] = layer.maximum <= 0
        found["nearly dead"] = share <= NEARLY
    found["constant"] = layer.minimum == layer.maximum
    found["saturated"] = saturation(layer) >= SATURATED
    if layer.switches:
        found["always on"] = share >= 1 - NEARLY
    taken = np.zeros(layer.channels, bool)
    for kind, mask in found.items():
        found[kind] = mask & ~taken
        taken |= mask
    return found


def saturation(layer: Evidence) -> NDArray[np.float64]:
    """The share of positions in the outer eighth of a bounded function's range; 0 for others."""
    if layer.bounds is None:
        return np.zeros(layer.channels)
    low, high = layer.bounds
    width = OUTER * (high - low if np.isfinite(low) else high)
    outer = (layer.low >= high - width) | (layer.high <= low + width)
    counts = layer.histogram.astype(np.float64)
    return np.asarray(counts[:, outer].sum(1) / np.maximum(counts.sum(1), 1))


def judge(layer: Evidence, images: int) -> Iterator[Finding]:
    """The findings of this kind on one layer."""
    for kind, mask in states(layer).items():
        channels = np.flatnonzero(mask).tolist()
        if channels:
            said, count, meaning, advice = _TEXTS[kind](layer, channels, images)
            rows = tuple(_row(layer, channel) for channel in channels)
            yield Finding(kind, layer.path, tuple(channels), said, count, meaning, advice, rows)


def _row(layer: Evidence, channel: int) -> dict[str, Any]:
    return {
        "channel": channel,
        "lowest": float(layer.minimum[channel]),
        "mean": float(layer.mean[channel]),
        "highest": float(layer.maximum[channel]),
        "above zero": int(layer.active[channel]),
        "positions": int(layer.count[channel]),
    }


def _who(layer: Evidence, channels: list[int], one: str, many: str) -> str:
    if len(channels) == 1:
        return f"`{layer.path}:{channels[0]}` {one}"
    return f"{len(channels)} of {layer.channels} channels of `{layer.path}` {many}"


Texts = tuple[str, float, str, str]


def _dead(layer: Evidence, channels: list[int], images: int) -> Texts:
    behind = ""
    if layer.gate:
        highest = float(layer.maximum[channels].max())
        behind = (
            f" (highest value {number(highest)}), so the ReLU behind, `{layer.gate}`, "
            "lets nothing through"
        )
    said = _who(layer, channels, "is dead", "are dead")
    said += f": above zero at no position of {images_of(images)}{behind}."
    advice = (
        "On images like these, removing them changes nothing. Channels die in training when a "
        "large step drives their bias far below zero: if you train again, try a lower learning "
        "rate or warm-up, batch normalization before the ReLU, or a leaky ReLU."
    )
    return said, float(len(channels)), "dead channels", advice


def _nearly(layer: Evidence, channels: list[int], images: int) -> Texts:
    most = int(layer.active[channels].max())
    said = _who(layer, channels, "is nearly dead", "are nearly dead")
    said += (
        f": above zero at {'' if len(channels) == 1 else 'no more than '}{most:,} of "
        f"{int(layer.count[channels].max()):,} positions in {images_of(images)}."
    )
    advice = (
        "Look at the images that do switch them on before removing them: a detector of something "
        "rare and a channel that is of no use look alike in this number."
    )
    return said, most / int(layer.count[channels].max()), "highest share of positions", advice


def _always(layer: Evidence, channels: list[int], images: int) -> Texts:
    least = float((layer.active / np.maximum(layer.count, 1))[channels].min())
    where = "every position" if least == 1 else f"{_percent(least)} of positions"
    said = _who(layer, channels, "is always on", "are always on")
    said += f": above zero at {where} in {images_of(images)}, so the ReLU leaves it as it is."
    if len(channels) > 1:
        said = said.replace("leaves it as it is", "leaves them as they are")
    advice = (
        "No defect: such a channel passes on a linear reading of the layer before. If most of a "
        "layer is like this, the layer adds little beyond a linear one."
    )
    return said, least, "least share of positions above zero", advice


def _constant(layer: Evidence, channels: list[int], images: int) -> Texts:
    value = number(float(layer.maximum[channels[0]]))
    ends = f": {value} at" if len(channels) == 1 else ": each has one value at"
    said = _who(layer, channels, "is constant", "are constant")
    said += f"{ends} every position of {images_of(images)}."
    advice = (
        "It says nothing about the image: it can be removed once its value is added to the next "
        "layer's bias (exact but for zero padding). Normalization whose scale went to 0 does this."
    )
    return said, float(len(channels)), "constant channels", advice


def _saturated(layer: Evidence, channels: list[int], images: int) -> Texts:
    least = float(saturation(layer)[channels].min())
    low, high = layer.bounds or (0.0, 0.0)
    span = f"{number(low)} to {number(high)}" if np.isfinite(low) else f"up to {number(high)}"
    said = _who(layer, channels, "is saturated", "are saturated")
    said += (
        f": {_percent(least)} of positions lie in the outer eighth of what "
        f"{layer.kind} can give ({span}), in {images_of(images)}."
    )
    advice = (
        "Little gradient passes there, so it hardly learns. Smaller weights into the layer "
        "(weight decay, a better initial scale) or normalization before it bring it back."
    )
    return said, least, "least share of positions at an end", advice


def _broken(layer: Evidence, channels: list[int], images: int) -> Texts:
    count = int(layer.nan[channels].sum())
    what = f"{count:,} values that are NaN" if count else "infinite values"
    said = _who(layer, channels, "is not finite", "are not finite")
    said += f": {what} in {images_of(images)}."
    advice = (
        "Everything after it is unreliable. Look for a division by zero or a logarithm of it, half "
        "precision that overflows, or weights that diverged in training."
    )
    return said, float(count or len(channels)), "NaN values" if count else "channels", advice


_TEXTS = {
    "not finite": _broken,
    "dead": _dead,
    "nearly dead": _nearly,
    "constant": _constant,
    "saturated": _saturated,
    "always on": _always,
}


def images_of(count: int) -> str:
    """``1 image``, ``10,000 images``."""
    return f"{count:,} image{'s' * (count != 1)}"


def _percent(share: float) -> str:
    """``97.31 %``: rounded down, never more than it is."""
    return "more than 99.99 %" if 0.9999 < share < 1 else f"{np.floor(1e4 * share) / 100:g} %"
