"""Channels that say the same, and layers that say less than they have channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from convscope._health.evidence import Evidence
from convscope._health.finding import Finding
from convscope._health.switches import states
from convscope._plot.text import number
from convscope._similarity import correlate, effective_rank, expected_rank, group

CORRELATED = 0.98
"""Duplicates: means over the map, and peaks behind the ReLU, correlate so well across images …"""
COSINE = 0.95
"""… and their filters have at least this cosine. Either alone does not make a duplicate."""
ENOUGH_IMAGES = 50
"""Correlations over fewer images are not judged."""
REDUNDANT = 0.25
"""Redundant: the effective rank is this share, or less, of what independent channels would show."""
FEWEST_CHANNELS = 8
"""Of smaller layers no redundancy is said."""


def judge(layer: Evidence) -> Iterator[Finding]:
    """The findings of this kind on one layer."""
    yield from _duplicates(layer)
    yield from _redundant(layer)


def live(layer: Evidence) -> NDArray[np.bool_]:
    """Channels that vary enough to be compared: not dead, nearly dead, constant or broken."""
    found = states(layer)
    still = np.zeros(layer.channels, bool)
    for kind in ("not finite", "dead", "nearly dead", "constant"):
        still |= found.get(kind, False)
    return np.asarray(~still & (np.ptp(layer.heights, axis=1) > 0))


def _duplicates(layer: Evidence) -> Iterator[Finding]:
    groups, alike = twins(layer)
    if not groups:
        return
    rows = tuple(_group_row(layer, members, alike) for members in groups)
    spare = sum(len(members) - 1 for members in groups)
    everyone = tuple(sorted(one for members in groups for one in members))
    least = min(row["correlation"] for row in rows)
    advice = (
        "Keep the first of each group. In the layer that reads them, add the others' weights to "
        "its own, each times its scale, and remove the others: the output stays the same as far as "
        "the correlation is 1. Measure the accuracy afterwards."
    )
    yield Finding(
        "duplicates",
        layer.path,
        everyone,
        _said(layer, groups, rows, spare),
        least,
        "least correlation within a group",
        advice,
        rows,
    )


def twins(layer: Evidence) -> tuple[list[list[int]], NDArray[np.float64]]:
    """Groups of duplicates, the channel to keep first, and the correlations ``(C, C)``."""
    nothing = np.zeros((0, 0))
    if not layer.twins or layer.pooled.shape[1] < ENOUGH_IMAGES:
        return [], nothing
    # Before a ReLU, a filter and its copy with another bias have equal means and unequal fates.
    alike = np.minimum(correlate(layer.pooled), correlate(layer.heights))
    close = np.zeros_like(alike)
    for (i, j), cosine in layer.twins.items():
        if cosine >= COSINE:
            close[i, j] = close[j, i] = alike[i, j]
    still = ~live(layer)
    close[still] = close[:, still] = 0
    return group(close, CORRELATED, worth=layer.deviation), alike


def _group_row(layer: Evidence, members: list[int], alike: NDArray[np.float64]) -> dict[str, Any]:
    first, *others = members
    assert layer.twins is not None
    spread = layer.heights.std(1)
    return {
        "keep": first,
        "others": others,
        "scales": [float(spread[one] / spread[first]) for one in others],
        "correlation": float(alike[first, others].min()),
        "cosine": min(layer.twins[min(first, one), max(first, one)] for one in others),
    }


def _said(
    layer: Evidence, groups: list[list[int]], rows: tuple[dict[str, Any], ...], spare: int
) -> str:
    least = min(row["correlation"] for row in rows)
    bound = " or more" if spare > 1 and least < 0.9995 else ""
    figures = (
        f"correlation {least:.3f}{bound} over {layer.pooled.shape[1]:,} images, "
        f"filters' cosine {min(row['cosine'] for row in rows):.2f}{bound}"
    )
    if len(groups) > 1 or len(groups[0]) > 4:
        return (
            f"{spare} of {layer.channels} channels of `{layer.path}` repeat others, in "
            f"{len(groups)} group{'s' * (len(groups) > 1)}: {figures}."
        )
    first, *others = groups[0]
    *before, last = (f"`{layer.path}:{one}`" for one in others)
    names = f"{', '.join(before)} and {last}" if before else last
    scales = [scale for scale in rows[0]["scales"] if abs(scale - 1) > 0.02]
    scaled = f", {number(scales[0])} × as strong" if len(others) == 1 and scales else ""
    verb = "repeats" if len(others) == 1 else "repeat"
    return f"{names} {verb} `{layer.path}:{first}`{scaled}: {figures}."


def ranks(layer: Evidence) -> tuple[float, float] | None:
    """The effective rank of the live channels, and what independent ones would show.

    Of the maps' peaks: a mean before the ReLU is linear in the layer before, so that its rank
    counts that layer's channels. ``None`` for too few channels or images to say.
    """
    if layer not in _RANKS:
        chosen = live(layer)
        count, images = int(chosen.sum()), layer.heights.shape[1]
        enough = count >= FEWEST_CHANNELS and images >= ENOUGH_IMAGES
        _RANKS[layer] = (
            (effective_rank(layer.heights[chosen]), expected_rank(count, images))
            if enough
            else None
        )
    return _RANKS[layer]


# Two thousand channels take seconds, and the table asks again.
_RANKS: WeakKeyDictionary[Evidence, tuple[float, float] | None] = WeakKeyDictionary()


def _redundant(layer: Evidence) -> Iterator[Finding]:
    found = ranks(layer)
    if found is None or found[0] > REDUNDANT * found[1]:
        return
    rank, expected = found
    said = (
        f"The {int(live(layer).sum())} live channels of `{layer.path}` vary like {number(rank)} "
        f"independent ones (effective rank of their peaks over {layer.heights.shape[1]:,} "
        f"images; independent channels would show {expected:.0f})."
    )
    advice = (
        "A candidate for fewer channels or a low-rank factorization. The number is of the peaks "
        "of the maps: channels may still differ in where they answer, so measure the accuracy."
    )
    row = {"effective rank": rank, "expected of noise": expected, "channels": layer.channels}
    yield Finding(
        "redundant layer",
        layer.path,
        (),
        said,
        rank / expected,
        "effective rank as a share of what independent channels would show",
        advice,
        (row,),
    )
