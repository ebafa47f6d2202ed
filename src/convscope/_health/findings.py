"""The kinds of findings with their thresholds, and one finding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

NEARLY_DEAD = 1e-4
"""Nearly dead: above zero at this share of positions or fewer. Always active: not above zero as
rarely."""
SATURATED = 0.95
"""Saturated: this share of positions or more in the outer fraction of the function's range …"""
OUTER_FRACTION = 1 / 8
"""… and that fraction, at each end."""
DUPLICATE_CORRELATION = 0.98
"""Duplicates: means over the map, and peaks after the ReLU, correlate this well across images …"""
DUPLICATE_COSINE = 0.95
"""… and their filters have at least this cosine. Either alone does not make a duplicate."""
REDUNDANT = 0.25
"""Redundant: an effective rank of at most this share of what independent channels would have."""
SELECTIVE = 2.0
"""Selective: an effect size (Hedges' g) of one class against all other images of at least this."""
MIN_IMAGES = 50
"""Correlations and ranks are not computed for fewer images."""
MIN_CLASS_IMAGES = 10
"""Classes with fewer images are not assessed."""
FEW_IMAGES = 100
"""Below this number of images the report warns that inactive channels may be active elsewhere."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        title: What a report calls it.
        definition: Which channels or layers count as one, with the thresholds.
        is_defect: Whether it calls for a remedy.
    """

    title: str
    definition: str
    is_defect: bool = True


KINDS = {
    "not finite": Kind("Not finite", "Channels with a value that is NaN or infinite."),
    "dead": Kind(
        "Dead",
        "Channels that are above zero at no position of any image, so that their ReLU outputs "
        "nothing but zero.",
    ),
    "nearly dead": Kind(
        "Nearly dead",
        f"Channels that are above zero at one position in {1 / NEARLY_DEAD:,.0f} or fewer.",
    ),
    "constant": Kind("Constant", "Channels with the same value at every position of every image."),
    "saturated": Kind(
        "Saturated",
        f"Channels of a bounded function with {SATURATED:.0%} or more of their positions in the "
        "outer eighth of its range.",
    ),
    "duplicate": Kind(
        "Duplicate",
        "Channels whose means over the map, and whose peaks after the ReLU, correlate by "
        f"{DUPLICATE_CORRELATION} or more across images, and whose filters have a cosine of "
        f"{DUPLICATE_COSINE} or more. Of each group, the channel that varies most is kept.",
    ),
    "redundant": Kind(
        "Redundant",
        "Layers whose peaks have an effective rank (Roy and Vetterli, 2007) of "
        f"{REDUNDANT:.0%} or less of what the same number of independent channels would have on "
        "the same number of images.",
    ),
    "always active": Kind(
        "Always active",
        "Channels that are at or below zero at one position in "
        f"{1 / NEARLY_DEAD:,.0f} or fewer. Common, and not a defect.",
        is_defect=False,
    ),
    "selective": Kind(
        "Class-selective",
        f"Channels whose mean on one class lies {SELECTIVE:g} or more standard deviations "
        "(Hedges' g) above all other images. Expected in the last layers of a classifier.",
        is_defect=False,
    ),
}
"""Every kind, in the order of a report."""


@dataclass(frozen=True)
class Finding:
    """What one check found in one layer.

    Attributes:
        kind: One of ``KINDS``.
        layer: The layer's path.
        channels: The channels concerned; empty where the layer as a whole is.
        sentence: The finding in words, with its value; layers and units stand in backquotes.
        value: The number that the check rests on.
        measure: What ``value`` measures.
        advice: What could be done about it.
        rows: Further numbers, one dictionary for each channel, group or layer.
    """

    kind: str
    layer: str
    channels: tuple[int, ...]
    sentence: str
    value: float
    measure: str
    advice: str
    rows: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def units(self) -> tuple[str, ...]:
        """The addresses of the channels, such as ``conv1:3``."""
        return tuple(f"{self.layer}:{channel}" for channel in self.channels)

    @property
    def is_defect(self) -> bool:
        """Whether it calls for a remedy; the other findings are for information."""
        return KINDS[self.kind].is_defect

    @property
    def count(self) -> int:
        """Number of channels concerned, 1 for a layer; of duplicates, those that could go."""
        if self.kind == "duplicate":
            return sum(len(row["duplicates"]) for row in self.rows)
        return len(self.channels) or 1

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; an infinite number becomes ``"inf"``.

        Returns:
            A dictionary of texts, numbers and lists.
        """
        return {
            "kind": self.kind,
            "layer": self.layer,
            "units": list(self.units),
            "sentence": self.sentence.replace("`", ""),
            "value": to_json(self.value),
            "measure": self.measure,
            "advice": self.advice,
            "rows": [{key: to_json(value) for key, value in row.items()} for row in self.rows],
        }


def to_json(value: Any) -> Any:
    """Replace what JSON has no number for: NaN by ``None``, infinities by text."""
    if isinstance(value, (list, tuple)):
        return [to_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def thresholds() -> dict[str, float]:
    """Return every threshold by name, for JSON."""
    return {
        "nearly_dead_share_of_positions": NEARLY_DEAD,
        "saturated_share_of_positions": SATURATED,
        "duplicate_correlation": DUPLICATE_CORRELATION,
        "duplicate_cosine": DUPLICATE_COSINE,
        "redundant_share_of_expected_rank": REDUNDANT,
        "selective_hedges_g": SELECTIVE,
        "min_images_of_a_class": float(MIN_CLASS_IMAGES),
    }


def count_images(count: int) -> str:
    """Return ``1 image`` or ``10,000 images``."""
    return f"{count:,} image{'s' * (count != 1)}"
