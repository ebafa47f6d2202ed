"""All checks of all layers of an atlas, and their results as a few sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, open_atlas
from convscope._health.activity import check_activity, check_selectivity
from convscope._health.findings import (
    FEW_IMAGES,
    KINDS,
    MIN_CLASS_IMAGES,
    MIN_IMAGES,
    Finding,
    count_images,
    thresholds,
    to_json,
)
from convscope._health.layer_statistics import LayerStatistics, read_statistics
from convscope._health.similarity import check_duplicates, check_redundancy, ranks
from convscope._similarity import cka_matrix

MAX_CKA_IMAGES = 4096


@dataclass(frozen=True, eq=False)
class ChannelHealth:
    """The health of a network's channels on a dataset.

    Attributes:
        images: Number of images.
        layers: The statistics of each layer.
        findings: What the checks found, ordered by kind and then by layer.
    """

    images: int
    layers: Sequence[LayerStatistics]
    findings: Sequence[Finding]

    def of_kind(self, kind: str) -> list[Finding]:
        """Return the findings of one kind, in the order of the layers.

        Args:
            kind: Such as ``"dead"`` or ``"duplicate"``.

        Returns:
            The findings; empty where there are none.
        """
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def channels(self) -> int:
        """Number of channels in all layers."""
        return sum(layer.channels for layer in self.layers)

    def counts(self) -> dict[str, int]:
        """Return the number of channels (of layers, for ``"redundant"``) of each kind.

        Returns:
            The counts by kind; of duplicates, all but the one to keep of each group.
        """
        found: Counter[str] = Counter()
        for finding in self.findings:
            found[finding.kind] += finding.count
        return {kind: found[kind] for kind in KINDS}

    @cached_property
    def cka(self) -> NDArray[np.float64] | None:
        """Linear CKA between all layers ``(L, L)``; ``None`` for one layer or too few images.

        Debiased (Kornblith et al., ICML 2019; Nguyen et al., ICLR 2021), on means over the map.
        """
        fewest = min((layer.pooled.shape[1] for layer in self.layers), default=0)
        if len(self.layers) < 2 or fewest < MIN_IMAGES:
            return None
        if len({layer.pooled.shape[1] for layer in self.layers}) > 1:
            return None
        return cka_matrix([layer.pooled[:, :MAX_CKA_IMAGES] for layer in self.layers])

    def can_assess(self, layer: LayerStatistics, kind: str) -> bool:
        """Return whether a layer's statistics are enough to find that kind.

        Args:
            layer: One of ``layers``.
            kind: Such as ``"dead"`` or ``"duplicate"``.

        Returns:
            Whether the check was made.
        """
        if kind in ("dead", "nearly dead", "always active"):
            return layer.has_relu
        if kind == "redundant":
            return ranks(layer) is not None
        if kind == "selective":
            classes = layer.classes
            return classes is not None and bool((classes.counts >= MIN_CLASS_IMAGES).any())
        if kind == "duplicate":
            return layer.filter_cosines is not None and layer.pooled.shape[1] >= MIN_IMAGES
        return kind != "saturated" or layer.bounds is not None

    def title(self, model: str) -> str:
        """Return the main result as the title of a report.

        Args:
            model: The model's name.

        Returns:
            Such as ``"3 of 128 channels of net have a defect"``.
        """
        defects = [finding for finding in self.findings if finding.is_defect]
        channels = sum(finding.count for finding in defects if finding.channels)
        if channels:
            verb = "has" if channels == 1 else "have"
            return f"{channels:,} of {self.channels:,} channels of {model} {verb} a defect"
        if defects:
            layers = "One layer" if len(defects) == 1 else f"{len(defects)} layers"
            return f"{layers} of {model} could have fewer channels"
        return f"No defect found in the channels of {model}"

    def sentences(self) -> list[str]:
        """Return what was examined, and what was found.

        Returns:
            Two paragraphs.
        """
        layers = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        first = f"{self.channels:,} channels in {layers} on {count_images(self.images)}."
        if self.images < FEW_IMAGES:
            first += " These are few images: a channel that is inactive on them may be active on "
            first += "others."
        return [first, " ".join(self._results(layers))]

    def _results(self, layers: str) -> Iterator[str]:
        counts = {kind: count for kind, count in self.counts().items() if count}
        defects = [_count_phrase(k, n) for k, n in counts.items() if KINDS[k].is_defect]
        others = [_count_phrase(k, n) for k, n in counts.items() if not KINDS[k].is_defect]
        absent, with_relu = self._absent(), sum(layer.has_relu for layer in self.layers)
        if defects:
            yield f"{_enumerate(_drop_repeated_noun(defects))}."
        if absent:
            yield f"No channel is {_enumerate(absent, 'or')}."
        if others:
            yield f"Not defects: {_enumerate(_drop_repeated_noun(others))}."
        if with_relu < len(self.layers):
            yield (
                f"Dead and always active channels can be identified in {with_relu or 'none'} of "
                f"the {layers}: after the others no ReLU follows directly."
            )

    def _absent(self) -> list[str]:
        """What was checked in some layer and found in none."""
        counts = self.counts()
        names = {"duplicate": "a duplicate of another"}
        return [
            names.get(kind, kind)
            for kind in ("dead", "nearly dead", "constant", "saturated", "duplicate")
            if not counts[kind] and any(self.can_assess(layer, kind) for layer in self.layers)
        ]

    def not_assessed(self) -> list[str]:
        """Return what could not be assessed, and what to do about it.

        Returns:
            Sentences, in which layers stand in backquotes.
        """
        sentences = []
        unbounded = [la.path for la in self.layers if not la.has_relu and la.bounds is None]
        if unbounded:
            sentences.append(
                f"Dead and always active channels of {_some(unbounded)}: no ReLU follows directly, "
                "so a value of zero has no special meaning. Scan the ReLUs as well: "
                "`-l kind=conv -l kind=relu`."
            )
        without_filters = [la.path for la in self.layers if la.filter_cosines is None]
        if without_filters:
            sentences.append(
                f"Duplicates in {_some(without_filters)}: these layers have no filters to compare."
            )
        if self.layers and self.layers[0].pooled.shape[1] < MIN_IMAGES:
            sentences.append(
                "Duplicates, redundancy and similarity of layers: these need means of "
                f"{MIN_IMAGES} images or more, and there are {self.layers[0].pooled.shape[1]}."
            )
        return [*sentences, *self._classes_not_assessed()]

    def _classes_not_assessed(self) -> list[str]:
        classes = self.layers[0].classes if self.layers else None
        if classes is None:
            return [
                "Class selectivity: the images have no labels. Put them in one folder per class."
            ]
        few = int((classes.counts.max(1, initial=0) < MIN_CLASS_IMAGES).sum())
        if not few:
            return []
        return [
            f"Class selectivity: {few:,} of {len(classes.names):,} classes have fewer than "
            f"{MIN_CLASS_IMAGES} images."
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON.

        Returns:
            A dictionary of texts, numbers, lists and dictionaries.
        """
        return {
            "images": self.images,
            "channels": self.channels,
            "counts": self.counts(),
            "findings": [finding.to_dict() for finding in self.findings],
            "layers": [_layer_to_dict(layer) for layer in self.layers],
            "cka": None if self.cka is None else to_json(self.cka.tolist()),
            "not_assessed": [text.replace("`", "") for text in self.not_assessed()],
            "thresholds": thresholds(),
        }


def _layer_to_dict(layer: LayerStatistics) -> dict[str, Any]:
    rank, expected = ranks(layer) or (None, None)
    return {
        "path": layer.path,
        "kind": layer.kind,
        "channels": layer.channels,
        "effective_rank": rank,
        "expected_rank": expected,
    }


def _count_phrase(kind: str, count: int) -> str:
    one = count == 1
    phrases = {
        "duplicate": f"{count:,} {'channel repeats another' if one else 'channels repeat others'}",
        "redundant": f"{count:,} {'layer varies' if one else 'layers vary'} like one with far "
        "fewer channels",
        "selective": f"{count:,} {'channel responds' if one else 'channels respond'} to one class",
    }
    return phrases.get(kind, f"{count:,} {'channel is' if one else 'channels are'} {kind}")


def _drop_repeated_noun(phrases: list[str]) -> list[str]:
    """``3 channels are dead``, ``2 are constant``: the noun stands in the first only."""
    return phrases[:1] + [re.sub(" channels? ", " ", text, count=1) for text in phrases[1:]]


def _enumerate(words: list[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _some(paths: Sequence[str], limit: int = 4) -> str:
    named = ", ".join(f"`{path}`" for path in paths[:limit])
    return named if len(paths) <= limit else f"{named} and {len(paths) - limit} more"


def check_health(atlas: Atlas | str | Path) -> ChannelHealth:
    """Check every channel of every layer of an atlas, or of the folder of one.

    Args:
        atlas: What a scan wrote. Nothing else is read: no model and no framework.

    Returns:
        The findings and the statistics they rest on.

    Raises:
        AtlasError: The folder holds no finished atlas.
    """
    opened = atlas if isinstance(atlas, Atlas) else open_atlas(atlas)
    return check_layers(read_statistics(opened), opened.images)


def check_layers(layers: Sequence[LayerStatistics], images: int) -> ChannelHealth:
    """Apply every check to every layer."""
    found = [
        finding
        for layer in layers
        for finding in (
            *check_activity(layer, images),
            *check_duplicates(layer),
            *check_redundancy(layer),
            *check_selectivity(layer),
        )
    ]
    order = list(KINDS)
    return ChannelHealth(
        images, layers, sorted(found, key=lambda finding: order.index(finding.kind))
    )
