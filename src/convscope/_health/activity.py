"""Checks of single channels: dead, constant, saturated, always active, class-selective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._health.findings import (
    MIN_CLASS_IMAGES,
    NEARLY_DEAD,
    OUTER_FRACTION,
    SATURATED,
    SELECTIVE,
    Finding,
    count_images,
)
from convscope._health.layer_statistics import ClassStatistics, LayerStatistics
from convscope._plot.text import number
from convscope._similarity import effect_sizes

Mask = NDArray[np.bool_]


def channel_states(layer: LayerStatistics) -> dict[str, Mask]:
    """Return a mask ``(C,)`` for each state; a channel has one at most, the most serious."""
    broken = layer.nan > 0
    broken |= ~np.isfinite(layer.minimum) | ~np.isfinite(layer.maximum)
    states = {"not finite": broken}
    share = layer.active / np.maximum(layer.count, 1)
    if layer.has_relu:
        states["dead"] = layer.maximum <= 0
        states["nearly dead"] = share <= NEARLY_DEAD
    states["constant"] = layer.minimum == layer.maximum
    states["saturated"] = saturation(layer) >= SATURATED
    if layer.has_relu:
        states["always active"] = share >= 1 - NEARLY_DEAD
    assigned = np.zeros(layer.channels, bool)
    for kind, mask in states.items():
        states[kind] = mask & ~assigned
        assigned |= mask
    return states


def live_channels(layer: LayerStatistics) -> Mask:
    """Return the channels ``(C,)`` that vary: not dead, nearly dead, constant or broken."""
    states = channel_states(layer)
    still = np.zeros(layer.channels, bool)
    for kind in ("not finite", "dead", "nearly dead", "constant"):
        still |= states.get(kind, False)
    return np.asarray(~still & (np.ptp(layer.rectified_peaks, axis=1) > 0))


def saturation(layer: LayerStatistics) -> NDArray[np.float64]:
    """Return the share of positions ``(C,)`` in the outer parts of a bounded function's range."""
    if layer.bounds is None:
        return np.zeros(layer.channels)
    low, high = layer.bounds
    width = OUTER_FRACTION * (high - low if np.isfinite(low) else high)
    outer = (layer.bin_low >= high - width) | (layer.bin_high <= low + width)
    counts = layer.histogram.astype(np.float64)
    return np.asarray(counts[:, outer].sum(1) / np.maximum(counts.sum(1), 1))


def check_activity(layer: LayerStatistics, images: int) -> Iterator[Finding]:
    """Yield a finding for each state that channels of the layer are in."""
    for kind, mask in channel_states(layer).items():
        channels = np.flatnonzero(mask).tolist()
        if channels:
            sentence, value, measure, advice = _DESCRIPTIONS[kind](layer, channels, images)
            rows = tuple(_row(layer, channel) for channel in channels)
            yield Finding(kind, layer.path, tuple(channels), sentence, value, measure, advice, rows)


def _row(layer: LayerStatistics, channel: int) -> dict[str, Any]:
    return {
        "channel": channel,
        "minimum": float(layer.minimum[channel]),
        "mean": float(layer.mean[channel]),
        "maximum": float(layer.maximum[channel]),
        "positions above zero": int(layer.active[channel]),
        "positions": int(layer.count[channel]),
    }


def _subject(layer: LayerStatistics, channels: list[int], state: str) -> str:
    """``conv1:3`` is in a state, or 2 of 8 channels of ``conv1`` are."""
    if len(channels) == 1:
        return f"`{layer.path}:{channels[0]}` is {state}"
    return f"{len(channels)} of {layer.channels} channels of `{layer.path}` are {state}"


# Sentence, value, what the value measures, advice.
Description = tuple[str, float, str, str]


def _describe_dead(layer: LayerStatistics, channels: list[int], images: int) -> Description:
    reason = ""
    if layer.next_relu:
        highest = float(layer.maximum[channels].max())
        reason = (
            f" (highest value {number(highest)}), so the ReLU that follows, `{layer.next_relu}`, "
            "outputs only zero"
        )
    sentence = _subject(layer, channels, "dead")
    sentence += f": above zero at no position of {count_images(images)}{reason}."
    advice = (
        "On images like these, removing them changes nothing. Channels die in training when a "
        "large step drives their bias far below zero: if you train again, try a lower learning "
        "rate or warm-up, batch normalization before the ReLU, or a leaky ReLU."
    )
    return sentence, float(len(channels)), "number of dead channels", advice


def _describe_nearly_dead(layer: LayerStatistics, channels: list[int], images: int) -> Description:
    active, positions = int(layer.active[channels].max()), int(layer.count[channels].max())
    sentence = _subject(layer, channels, "nearly dead")
    sentence += (
        f": above zero at {'' if len(channels) == 1 else 'no more than '}{active:,} of "
        f"{positions:,} positions in {count_images(images)}."
    )
    advice = (
        "Look at the images that activate them before removing them: by this number a detector of "
        "something rare cannot be told from a useless channel."
    )
    return sentence, active / positions, "highest share of active positions", advice


def _describe_always_active(
    layer: LayerStatistics, channels: list[int], images: int
) -> Description:
    share = float((layer.active / np.maximum(layer.count, 1))[channels].min())
    where = "every position" if share == 1 else f"{_percent(share)} of positions"
    them = "it" if len(channels) == 1 else "them"
    sentence = _subject(layer, channels, "always active")
    sentence += (
        f": above zero at {where} in {count_images(images)}, so the ReLU leaves {them} unchanged."
    )
    advice = (
        "Not a defect: such a channel is a linear function of the previous layer. If most channels "
        "of a layer are like this, the layer adds little beyond a linear one."
    )
    return sentence, share, "lowest share of positions above zero", advice


def _describe_constant(layer: LayerStatistics, channels: list[int], images: int) -> Description:
    value = number(float(layer.maximum[channels[0]]))
    sentence = _subject(layer, channels, "constant")
    sentence += f": {value} at" if len(channels) == 1 else ": each has a single value at"
    sentence += f" every position of {count_images(images)}."
    advice = (
        "It carries no information about the image: it can be removed once its value is added to "
        "the next layer's bias (exact except for zero padding). A normalization whose scale went "
        "to 0 has this effect."
    )
    return sentence, float(len(channels)), "number of constant channels", advice


def _describe_saturated(layer: LayerStatistics, channels: list[int], images: int) -> Description:
    share = float(saturation(layer)[channels].min())
    low, high = layer.bounds or (0.0, 0.0)
    bounds = f"{number(low)} to {number(high)}" if np.isfinite(low) else f"up to {number(high)}"
    sentence = _subject(layer, channels, "saturated")
    sentence += (
        f": {_percent(share)} of positions lie in the outer eighth of the range of {layer.kind} "
        f"({bounds}), in {count_images(images)}."
    )
    advice = (
        "Little gradient flows there, so the channel hardly learns. Smaller weights into the layer "
        "(weight decay, a better initial scale) or normalization before it help."
    )
    return sentence, share, "lowest share of saturated positions", advice


def _describe_not_finite(layer: LayerStatistics, channels: list[int], images: int) -> Description:
    count = int(layer.nan[channels].sum())
    values = f"{count:,} NaN values" if count else "infinite values"
    sentence = f"{_subject(layer, channels, 'not finite')}: {values} in {count_images(images)}."
    advice = (
        "Everything computed from it is unreliable. Look for a division by zero or a logarithm of "
        "zero, an overflow in half precision, or weights that diverged in training."
    )
    measure = "number of NaN values" if count else "number of channels"
    return sentence, float(count or len(channels)), measure, advice


_DESCRIPTIONS = {
    "not finite": _describe_not_finite,
    "dead": _describe_dead,
    "nearly dead": _describe_nearly_dead,
    "constant": _describe_constant,
    "saturated": _describe_saturated,
    "always active": _describe_always_active,
}


def _percent(share: float) -> str:
    """``97.31 %``: rounded down, never more than it is."""
    return "more than 99.99 %" if 0.9999 < share < 1 else f"{np.floor(1e4 * share) / 100:g} %"


def check_selectivity(layer: LayerStatistics) -> Iterator[Finding]:
    """Yield one finding for the channels that respond to one class far more than to the others."""
    if layer.classes is None:
        return
    effects = class_effects(layer.classes)
    best = np.argmax(np.where(np.isnan(effects), -np.inf, effects), axis=0)
    size = effects[best, np.arange(layer.channels)]
    chosen = np.flatnonzero((size >= SELECTIVE) & live_channels(layer))
    order = chosen[np.argsort(-size[chosen], kind="stable")].tolist()
    if order:
        rows = [_class_row(layer.classes, k, int(best[k]), float(size[k])) for k in order]
        yield _describe_selective(layer, order, rows)


def class_effects(classes: ClassStatistics) -> NDArray[np.float64]:
    """Return Hedges' g ``(K, C)`` of each class against the others.

    NaN for classes with too few images, and where there is only one class.
    """
    effects = effect_sizes(classes.counts, classes.sums, classes.squares)
    effects[classes.counts < MIN_CLASS_IMAGES] = np.nan
    if len(classes.names) < 2:
        effects[:] = np.nan
    return effects


def _class_row(classes: ClassStatistics, channel: int, best: int, effect: float) -> dict[str, Any]:
    count, total = int(classes.counts[best, channel]), int(classes.counts[:, channel].sum())
    others = float(classes.sums[:, channel].sum() - classes.sums[best, channel])
    return {
        "channel": channel,
        "class": classes.names[best],
        "g": effect,
        "images of the class": count,
        "images": total,
        "mean": float(classes.sums[best, channel] / count),
        "mean of the others": others / (total - count),
    }


def _describe_selective(
    layer: LayerStatistics, channels: list[int], rows: list[dict[str, Any]]
) -> Finding:
    first = rows[0]
    sentence = (
        f"`{layer.path}:{first['channel']}` responds to “{first['class']}”: mean "
        f"{number(first['mean'])} on this class and {number(first['mean of the others'])} on the "
        f"others, g = {number(first['g'])} (n = {first['images of the class']:,} of "
        f"{first['images']:,} images)."
    )
    if len(channels) > 1:
        sentence = (
            f"{len(channels)} of {layer.channels} channels of `{layer.path}` respond to one class "
            f"each. The most selective: {sentence}"
        )
    advice = (
        "If this class fails, look here first. Check what the channel responds to – the object, or "
        "a background that comes with it – before relying on it."
    )
    return Finding(
        "selective",
        layer.path,
        tuple(channels),
        sentence,
        float(first["g"]),
        "largest effect size (Hedges' g)",
        advice,
        tuple(rows),
    )
