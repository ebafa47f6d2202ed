"""All findings on a network's channels, from an atlas alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, open_atlas
from convscope._health import classes, likeness, switches
from convscope._health.evidence import Evidence, gather
from convscope._health.finding import KINDS, Finding, plain
from convscope._similarity import cka_matrix

FEW_IMAGES = 100
"""With fewer, what is off may be on elsewhere: the report says so."""
MOST_COMPARED = 4096
"""Layers are compared on so many images at most."""


@dataclass(frozen=True, eq=False)
class Examination:
    """What is known of every layer, and what is to be said of it."""

    images: int
    layers: Sequence[Evidence]
    findings: Sequence[Finding]

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind, in the order of the layers."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def channels(self) -> int:
        return sum(layer.channels for layer in self.layers)

    def counts(self) -> dict[str, int]:
        """How many channels (layers, for a redundant one) each kind concerns.

        Of duplicates those that could go: all but one of each group.
        """
        found: Counter[str] = Counter()
        for finding in self.findings:
            found[finding.kind] += concerned(finding)
        return {kind: found[kind] for kind in KINDS}

    @cached_property
    def alignment(self) -> NDArray[np.float64] | None:
        """CKA between all layers ``(L, L)``; ``None`` for one layer, or too few images."""
        least = min((layer.pooled.shape[1] for layer in self.layers), default=0)
        if len(self.layers) < 2 or least < likeness.ENOUGH_IMAGES:
            return None
        same = len({layer.pooled.shape[1] for layer in self.layers}) == 1
        return cka_matrix([la.pooled[:, :MOST_COMPARED] for la in self.layers]) if same else None

    def unjudged(self) -> list[str]:
        """What could not be judged, and what to do about it."""
        said = []
        open_ended = [la.path for la in self.layers if not la.switches and la.bounds is None]
        if open_ended:
            said.append(
                f"On and off: {_some(open_ended)}. No ReLU follows directly, so zero decides "
                "nothing there. Scan the ReLUs as well: `-l kind=conv -l kind=relu`."
            )
        bare = [la.path for la in self.layers if la.twins is None]
        if bare:
            said.append(f"Duplicates: {_some(bare)}. No filters of their own to compare.")
        if self.layers and self.layers[0].pooled.shape[1] < likeness.ENOUGH_IMAGES:
            said.append(
                "Duplicates, redundancy, likeness of layers: they take means of "
                f"{likeness.ENOUGH_IMAGES} images or more, and there are "
                f"{self.layers[0].pooled.shape[1]}."
            )
        return [*said, *self._unjudged_classes()]

    def _unjudged_classes(self) -> list[str]:
        of = self.layers[0].by_class if self.layers else None
        if of is None:
            return ["Classes: the images have none. Put them in a folder for each class."]
        few = int((of.counts.max(1, initial=0) < classes.ENOUGH).sum())
        if not few:
            return []
        return [f"Classes: {few:,} of {len(of.names):,} have fewer than {classes.ENOUGH} images."]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        ranks = {layer.path: likeness.ranks(layer) for layer in self.layers}
        return {
            "images": self.images,
            "channels": self.channels,
            "counts": self.counts(),
            "findings": [finding.to_dict() for finding in self.findings],
            "layers": [
                {
                    "path": la.path,
                    "kind": la.kind,
                    "channels": la.channels,
                    "effective_rank": (ranks[la.path] or (None, None))[0],
                    "expected_rank": (ranks[la.path] or (None, None))[1],
                }
                for la in self.layers
            ],
            "cka": None if self.alignment is None else plain(self.alignment.tolist()),
            "not_judged": [text.replace("`", "") for text in self.unjudged()],
            "thresholds": thresholds(),
        }


def concerned(finding: Finding) -> int:
    """How many channels a finding is about; of duplicates, how many could go."""
    if finding.kind == "duplicates":
        return sum(len(row["others"]) for row in finding.rows)
    return len(finding.channels) or 1


def _some(paths: Sequence[str], most: int = 4) -> str:
    named = ", ".join(f"`{path}`" for path in paths[:most])
    return named if len(paths) <= most else f"{named} and {len(paths) - most} more"


def thresholds() -> dict[str, float]:
    """What counts as what, by name."""
    return {
        "nearly_dead_share_of_positions": switches.NEARLY,
        "saturated_share_of_positions": switches.SATURATED,
        "duplicates_correlation": likeness.CORRELATED,
        "duplicates_cosine": likeness.COSINE,
        "redundant_share_of_expected_rank": likeness.REDUNDANT,
        "selective_hedges_g": classes.SELECTIVE,
        "images_of_a_class": float(classes.ENOUGH),
    }


def examine(atlas: Atlas | str) -> Examination:
    """Judge every channel of every layer of an atlas (or of the folder of one).

    Nothing is loaded but the atlas: no model, no framework.
    """
    opened = atlas if isinstance(atlas, Atlas) else open_atlas(atlas)
    return judge(gather(opened), opened.images)


def judge(layers: Sequence[Evidence], images: int) -> Examination:
    """The findings on some layers, sorted by kind and then by layer."""
    found = [
        finding
        for layer in layers
        for finding in (
            *switches.judge(layer, images),
            *likeness.judge(layer),
            *classes.judge(layer),
        )
    ]
    order = list(KINDS)
    return Examination(images, layers, sorted(found, key=lambda one: order.index(one.kind)))
