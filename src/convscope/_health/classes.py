"""Channels that answer to one class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._health.evidence import ByClass, Evidence
from convscope._health.finding import Finding
from convscope._health.likeness import live
from convscope._plot.text import number
from convscope._similarity import effect_sizes

SELECTIVE = 2.0
"""Selective: the class's mean lies so many deviations (Hedges' g) or more above all others'."""
ENOUGH = 10
"""Classes with fewer images are not judged."""


def judge(layer: Evidence) -> Iterator[Finding]:
    """The channels of one layer that stand out for one class, as one finding."""
    if layer.by_class is None:
        return
    of = layer.by_class
    effect = effects(of)
    best = np.argmax(np.where(np.isnan(effect), -np.inf, effect), axis=0)
    size = effect[best, np.arange(layer.channels)]
    chosen = np.flatnonzero((size >= SELECTIVE) & live(layer))
    order = chosen[np.argsort(-size[chosen], kind="stable")].tolist()
    if order:
        yield _finding(layer, of, best, size, order)


def effects(of: ByClass) -> NDArray[np.float64]:
    """Hedges' g ``(classes, channels)``; NaN for classes with too few images, or a lone one."""
    found = effect_sizes(of.counts, of.sums, of.squares)
    found[of.counts < ENOUGH] = np.nan
    if len(of.names) < 2:
        found[:] = np.nan
    return found


def _finding(
    layer: Evidence,
    of: ByClass,
    best: NDArray[np.intp],
    size: NDArray[np.float64],
    order: list[int],
) -> Finding:
    total, images = of.sums.sum(0), of.counts.sum(0)
    rows: list[dict[str, Any]] = []
    for channel in order:
        k = int(best[channel])
        n = int(of.counts[k, channel])
        rows.append(
            {
                "channel": channel,
                "class": of.names[k],
                "g": float(size[channel]),
                "n": n,
                "of": int(images[channel]),
                "mean": float(of.sums[k, channel] / n),
                "elsewhere": float((total[channel] - of.sums[k, channel]) / (images[channel] - n)),
            }
        )
    first = rows[0]
    strongest = (
        f"`{layer.path}:{first['channel']}` answers to “{first['class']}”: mean "
        f"{number(first['mean'])} there and {number(first['elsewhere'])} elsewhere, "
        f"g = {number(first['g'])} (n = {first['n']:,} of {first['of']:,} images)."
    )
    if len(order) > 1:
        strongest = (
            f"{len(order)} of {layer.channels} channels of `{layer.path}` answer to one "
            f"class each. Most clearly, {strongest}"
        )
    advice = (
        "A handle on that class. Look at what the channel really answers to – the thing, or a "
        "background that comes with it – before trusting it; if that class fails, look here first."
    )
    return Finding(
        "selective",
        layer.path,
        tuple(order),
        strongest,
        float(first["g"]),
        "highest effect size (Hedges' g)",
        advice,
        tuple(rows),
    )
