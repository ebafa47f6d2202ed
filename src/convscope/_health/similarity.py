"""Checks of channels against each other: duplicate channels, redundant layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from convscope._health.activity import live_channels
from convscope._health.findings import (
    DUPLICATE_CORRELATION,
    DUPLICATE_COSINE,
    MIN_IMAGES,
    REDUNDANT,
    Finding,
    count_images,
)
from convscope._health.layer_statistics import LayerStatistics
from convscope._plot.text import number
from convscope._similarity import correlate, effective_rank, expected_rank, group

MIN_CHANNELS = 8
"""Layers with fewer live channels are not checked for redundancy."""


def check_duplicates(layer: LayerStatistics) -> Iterator[Finding]:
    """Yield one finding for the channels of a layer that repeat others."""
    groups, correlations = duplicate_groups(layer)
    if not groups:
        return
    rows = [_group_row(layer, members, correlations) for members in groups]
    advice = (
        "Keep the first of each group. In the next layer, add the weights of its duplicates to its "
        "own, each times its scale, and remove the duplicates: the output stays the same as far as "
        "the correlation is 1. Measure the accuracy afterwards."
    )
    yield Finding(
        "duplicate",
        layer.path,
        tuple(sorted(channel for members in groups for channel in members)),
        _describe_duplicates(layer, groups, rows),
        min(row["correlation"] for row in rows),
        "lowest correlation within a group",
        advice,
        tuple(rows),
    )


def duplicate_groups(layer: LayerStatistics) -> tuple[list[list[int]], NDArray[np.float64]]:
    """Return groups of duplicates, the channel to keep first, and the correlations ``(C, C)``."""
    if not layer.filter_cosines or layer.pooled.shape[1] < MIN_IMAGES:
        return [], np.zeros((0, 0))
    # Before a ReLU, a filter and its copy with another bias have equal means up to a constant, but
    # what the ReLU passes on differs.
    correlations = np.minimum(correlate(layer.pooled), correlate(layer.rectified_peaks))
    candidates = np.zeros_like(correlations)
    for (i, j), cosine in layer.filter_cosines.items():
        if cosine >= DUPLICATE_COSINE:
            candidates[i, j] = candidates[j, i] = correlations[i, j]
    still = ~live_channels(layer)
    candidates[still] = candidates[:, still] = 0
    return group(candidates, DUPLICATE_CORRELATION, priority=layer.std), correlations


def _group_row(
    layer: LayerStatistics, members: list[int], correlations: NDArray[np.float64]
) -> dict[str, Any]:
    first, *others = members
    assert layer.filter_cosines is not None
    std = layer.rectified_peaks.std(1)
    return {
        "keep": first,
        "duplicates": others,
        "scales": [float(std[one] / std[first]) for one in others],
        "correlation": float(correlations[first, others].min()),
        "cosine": min(layer.filter_cosines[min(first, one), max(first, one)] for one in others),
    }


def _describe_duplicates(
    layer: LayerStatistics, groups: list[list[int]], rows: list[dict[str, Any]]
) -> str:
    count = sum(len(members) - 1 for members in groups)
    correlation = min(row["correlation"] for row in rows)
    bound = " or more" if count > 1 and correlation < 0.9995 else ""
    values = (
        f"correlation {correlation:.3f}{bound} over {count_images(layer.pooled.shape[1])}, "
        f"cosine of the filters {min(row['cosine'] for row in rows):.2f}{bound}"
    )
    if len(groups) > 1 or len(groups[0]) > 4:
        return (
            f"{count} of {layer.channels} channels of `{layer.path}` repeat others, in "
            f"{len(groups)} group{'s' * (len(groups) > 1)}: {values}."
        )
    first, *others = groups[0]
    *before, last = (f"`{layer.path}:{one}`" for one in others)
    names = f"{', '.join(before)} and {last}" if before else last
    scales = [scale for scale in rows[0]["scales"] if abs(scale - 1) > 0.02]
    scaled = f", {number(scales[0])} × as strong" if len(others) == 1 and scales else ""
    verb = "repeats" if len(others) == 1 else "repeat"
    return f"{names} {verb} `{layer.path}:{first}`{scaled}: {values}."


def ranks(layer: LayerStatistics) -> tuple[float, float] | None:
    """Return the effective rank of the live channels, and that of independent channels.

    The rank is of the maps' peaks: a mean before the ReLU is linear in the previous layer, so its
    rank would count that layer's channels. ``None`` for too few channels or images.
    """
    if layer not in _RANKS:
        live = live_channels(layer)
        count, images = int(live.sum()), layer.rectified_peaks.shape[1]
        enough = count >= MIN_CHANNELS and images >= MIN_IMAGES
        _RANKS[layer] = (
            (effective_rank(layer.rectified_peaks[live]), expected_rank(count, images))
            if enough
            else None
        )
    return _RANKS[layer]


# A report needs them several times, and of two thousand channels they take seconds.
_RANKS: WeakKeyDictionary[LayerStatistics, tuple[float, float] | None] = WeakKeyDictionary()


def check_redundancy(layer: LayerStatistics) -> Iterator[Finding]:
    """Yield a finding where a layer's channels vary like far fewer independent ones."""
    found = ranks(layer)
    if found is None or found[0] > REDUNDANT * found[1]:
        return
    rank, expected = found
    sentence = (
        f"The {int(live_channels(layer).sum())} live channels of `{layer.path}` vary like "
        f"{number(rank)} independent ones (effective rank of their peaks over "
        f"{count_images(layer.rectified_peaks.shape[1])}; independent channels would have "
        f"{expected:.0f})."
    )
    advice = (
        "A candidate for fewer channels or a low-rank factorization. The rank is of the maps' "
        "peaks: channels may still differ in where they respond, so measure the accuracy."
    )
    row = {"effective rank": rank, "expected rank": expected, "channels": layer.channels}
    yield Finding(
        "redundant",
        layer.path,
        (),
        sentence,
        rank / expected,
        "effective rank as a share of that of independent channels",
        advice,
        (row,),
    )
