"""What is said of some channels of a layer, as a sentence with its number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

# Every kind, in the order in which a report tells them, and what it is called there.
KINDS = {
    "not finite": "Not finite",
    "dead": "Dead",
    "nearly dead": "Nearly dead",
    "constant": "Constant",
    "saturated": "Saturated",
    "duplicates": "Duplicates",
    "redundant layer": "Redundant layers",
    "always on": "Always on",
    "selective": "Selective",
}
# Kinds that are no defect: worth knowing, nothing to repair.
REMARKS = frozenset({"always on", "selective"})


@dataclass(frozen=True)
class Finding:
    """One finding.

    - ``kind``: of ``KINDS``; ``layer``: its path
    - ``channels``: which ones; empty where it is of the layer as a whole
    - ``sentence``: what was found, with its number; layers and units stand in backquotes
    - ``number``: that number, and ``meaning``: what it counts
    - ``advice``: what one could do about it
    - ``rows``: more numbers, a mapping for each channel (or group, or class)
    """

    kind: str
    layer: str
    channels: tuple[int, ...]
    sentence: str
    number: float
    meaning: str
    advice: str
    rows: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def units(self) -> tuple[str, ...]:
        """The addresses of its channels."""
        return tuple(f"{self.layer}:{channel}" for channel in self.channels)

    @property
    def remark(self) -> bool:
        """Whether it is worth knowing but no defect."""
        return self.kind in REMARKS

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON; an infinite number becomes ``"inf"``."""
        return {
            "kind": self.kind,
            "layer": self.layer,
            "units": list(self.units),
            "sentence": self.sentence.replace("`", ""),
            "number": plain(self.number),
            "meaning": self.meaning,
            "advice": self.advice,
            "rows": [{key: plain(value) for key, value in row.items()} for row in self.rows],
        }


def plain(value: Any) -> Any:
    """A value as JSON has it: there is no infinity, and no NaN."""
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
