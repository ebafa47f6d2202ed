"""What ``attribute`` returns: maps, checks and channels, as numbers, sentences and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._atlas import Atlas, crop_tile
from convscope._attribution.captum_methods import ChannelAttributions, MethodOutput
from convscope._attribution.checks import DELETED_SHARE, DeletionCheck, ParameterRandomization
from convscope._attribution.methods import METHODS
from convscope._io import atomic_file
from convscope._models import InputSummary
from convscope._plot import Section, Sheet, Theme, Tile, image_tile, overlay_tile
from convscope._plot.text import number

_BLOCKS_PER_SIDE = 32  # maps are drawn no finer: pixels of a photograph cannot be distinguished
_EXEMPLARS = 8


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """The map of one method, and how far it can be trusted.

    Attributes:
        method: The method's name.
        output: The map, and what else the method computes.
        deletion: Scores after deleting what the map ranks highest, and the same pattern elsewhere.
        randomization: The parameter randomization test, where it was requested.
    """

    method: str
    output: MethodOutput
    deletion: DeletionCheck
    randomization: ParameterRandomization | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The map, ``(h, w)`` float32: positive raises the target's score, negative lowers it."""
        return self.output.values

    @property
    def title(self) -> str:
        """The method's name in figures."""
        return METHODS[self.method].title

    def sentence(self, score: float) -> str:
        """Summarize the checks in one line.

        Args:
            score: The target's score on the unchanged image.

        Returns:
            The line, without a period.
        """
        if not self.values.any():
            return f"{self.title}: all values are 0; nothing that it varies changes this score"
        parts = [
            f"{self.title}: deleting the top {DELETED_SHARE:.0%} takes the score from "
            f"{number(score)} to {number(self.deletion.top)} (control, the same pattern "
            f"elsewhere: {number(self.deletion.control)})",
            *self._completeness(),
        ]
        if self.randomization:
            verdict = "depends" if self.randomization.depends_on_parameters else "hardly depends"
            parts.append(
                f"{verdict} on the parameters: rank correlation "
                f"{_correlation(self.randomization.correlations[-1])} with "
                f"{self.randomization.stages[-1]}"
            )
        return "; ".join(parts)

    def _completeness(self) -> list[str]:
        gap, change = self.output.completeness_gap, self.output.score_change
        if gap is None or change is None:
            return []
        share = abs(gap / change) if change else float("inf")
        return [f"completeness gap {number(gap)}, {share:.1%} of the change in score"]


@dataclass(frozen=True, eq=False)
class AttributionResult:
    """The attribution of one score of a network to one image, by one or several methods.

    Attributes:
        maps: One map per method; ``result["gradcam"]`` is the one of that method.
        target: What is explained: the name of a class, or an address.
        score: The target's value: a logit, or an activation.
        probability: Of a class; ``None`` for a unit.
        layer: Where Grad-CAM and the channels were computed.
        baseline: What the image was compared with, in words.
        input: The preprocessed image, and what was done to it.
        channels: The channels with the largest attributions, where they were requested.
        atlas: Where the channels' exemplars come from, where one was given.
    """

    maps: tuple[AttributionMap, ...]
    target: str
    score: float
    probability: float | None
    layer: str
    baseline: str
    input: InputSummary
    channels: ChannelAttributions | None = None
    atlas: Atlas | None = None

    def __getitem__(self, method: str) -> AttributionMap:
        return next(one for one in self.maps if one.method == method)

    @property
    def best(self) -> AttributionMap:
        """The map whose deletion lowers the score most, compared with its control."""
        return min(self.maps, key=lambda one: one.deletion.top - one.deletion.control)

    def sentence(self) -> str:
        """Summarize target, score and the best map in one line."""
        probability = "" if self.probability is None else f" ({self.probability:.0%})"
        check = self.best.deletion
        return (
            f"{self.input.name}: {self.target}{probability}, score {number(self.score)}; "
            f"{number(check.top)} after deleting the top {DELETED_SHARE:.0%} of the best map "
            f"({self.best.title}), {number(check.control)} after deleting the same pattern "
            "elsewhere"
        )

    def sentences(self) -> list[str]:
        """One line per method, and one for the channels."""
        lines = [one.sentence(self.score) for one in self.maps]
        return [*lines, *([self.channels.sentence()] if self.channels else [])]

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Draw the maps side by side over the image, then channels and checks.

        Args:
            theme: ``light`` or ``dark``.

        Returns:
            The figure.
        """
        tiles = [image_tile(self.input.preprocessed, "preprocessed input")]
        tiles += [self._tile(one.output, one.title, self._deletion_note(one)) for one in self.maps]
        sections = [Section("", tuple(tiles), min(len(tiles), 3))]
        if self.channels:
            sections.append(self._channel_section(self.channels))
            sections += self._exemplar_sections(self.channels)
        sections += self._randomization_sections()
        lines = [*self._lines(), *self.sentences()]
        title = f"{self.input.name} · attribution of {self.target}"
        return Sheet(title, tuple(lines), tuple(sections), cmap="signed", theme=theme, noun="map")

    def _deletion_note(self, one: AttributionMap) -> str:
        return f"deletion {number(self.score)} → {number(one.deletion.top)}"

    def _channel_section(self, channels: ChannelAttributions) -> Section:
        tiles = [
            self._tile(
                MethodOutput(one.values),
                one.address.rpartition(":")[2],
                f"{one.attribution:+.2g}, ablated {-one.score_drop:+.2g}".replace("-", "−"),
            )
            for one in channels.channels
        ]
        heading = f"channels of {channels.layer}, gradient × activation; change in score if ablated"
        return Section(heading, tuple(tiles), 5)

    def _exemplar_sections(self, channels: ChannelAttributions) -> list[Section]:
        """For each listed channel the exemplars of the highest mean activation."""
        if self.atlas is None or channels.layer not in [la.path for la in self.atlas.layers]:
            return []
        sections = []
        for one in channels.channels:
            exemplars = self.atlas.unit(one.address).top("mean", _EXEMPLARS)
            tiles = tuple(tile for tile in map(crop_tile, exemplars) if tile)
            heading = (
                f"{one.address}: highest mean activation among {self.atlas.images:,} dataset images"
            )
            sections += [Section(heading, tiles, len(tiles))] if tiles else []
        return sections

    def _randomization_sections(self) -> list[Section]:
        sections = []
        for one in self.maps:
            if one.randomization:
                test = one.randomization
                notes = map(_correlation, test.correlations)
                tiles = [
                    self._tile(one.output, "trained", ""),
                    *map(self._tile, test.maps, test.stages, notes),
                ]
                heading = f"{one.title}, parameter randomization test"
                sections.append(Section(heading, tuple(tiles), len(tiles)))
        return sections

    def _tile(self, output: MethodOutput, label: str, note: str) -> Tile:
        values = _block_means(output.values)
        return overlay_tile(
            self.input.preprocessed, values, label, note, cmap="signed", opacity=0.9, fade=True
        )

    def _lines(self) -> list[str]:
        probability = "" if self.probability is None else f", probability {self.probability:.1%}"
        height, width = self.input.preprocessed.shape[:2]
        lines = [
            f"model {self.input.model} · score {number(self.score)}{probability} · layer "
            f"{self.layer} · baseline: {self.baseline}",
            *self.input.lines,
            f"red raises the score of {self.target}, blue lowers it, transparent is near 0",
        ]
        finer = any(max(one.values.shape) > _BLOCKS_PER_SIDE for one in self.maps)
        if max(height, width) > _BLOCKS_PER_SIDE and finer:
            lines.append(f"maps of pixels are drawn as means of blocks, {_BLOCKS_PER_SIDE} a side")
        return lines

    def save(self, path: str | Path, *, theme: Theme = "light") -> Path:
        """Write the figure, or all maps where the path ends in ``.npz``.

        Args:
            path: The file; its ending decides the format.
            theme: ``light`` or ``dark``.

        Returns:
            The path.
        """
        path = Path(path)
        if path.suffix != ".npz":
            return self.sheet(theme=theme).save(path)
        arrays: dict[str, Any] = {one.method: one.values for one in self.maps}
        with atomic_file(path) as file:
            np.savez_compressed(file, **arrays)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, ready for JSON."""
        return {
            "image": self.input.name,
            "model": self.input.model,
            "target": self.target,
            "score": self.score,
            "probability": self.probability,
            "layer": self.layer,
            "baseline": self.baseline,
            "methods": [_map_to_dict(one) for one in self.maps],
            "channels": self.channels and _channels_to_dict(self.channels),
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"AttributionResult({self.sentence()})"


def _correlation(value: float) -> str:
    return f"ρ = {value:.2f}".replace("-", "−")


def _map_to_dict(one: AttributionMap) -> dict[str, Any]:
    test = one.randomization
    return {
        "method": one.method,
        "deletion_score": one.deletion.top,
        "deletion_control_score": one.deletion.control,
        "completeness_gap": one.output.completeness_gap,
        "parameter_randomization": test and dict(zip(test.stages, test.correlations, strict=True)),
    }


def _channels_to_dict(channels: ChannelAttributions) -> dict[str, Any]:
    return {
        "layer": channels.layer,
        "joint_score_drop": channels.joint_score_drop,
        "listed": [
            {"address": one.address, "attribution": one.attribution, "score_drop": one.score_drop}
            for one in channels.channels
        ],
    }


def _block_means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map at no more than ``_BLOCKS_PER_SIDE`` positions per side."""
    height, width = values.shape
    factor = max(height, width) / _BLOCKS_PER_SIDE
    if factor <= 1:
        return values
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
