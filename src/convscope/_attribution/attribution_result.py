"""Attributions as pictures, numbers and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._atlas import Atlas
from convscope._atlas.pictures import crop_tile
from convscope._attribution.captum_methods import Found
from convscope._attribution.channels import ChannelShares
from convscope._attribution.evidence import COVERED, Covered, Sanity
from convscope._attribution.methods import METHODS
from convscope._models.input_summary import InputSummary
from convscope._plot import Section, Sheet, Theme, Tile, overlay_tile, picture_tile
from convscope._plot.text import number

_CELLS = 32  # no map is drawn finer: single pixels of a photograph cannot be told apart


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """What one method says.

    - ``method``: its name; ``found``: its map, signed; ``covered``: the score without what it marks
    - ``sanity``: what shuffled weights leave of it, where that was asked for
    """

    method: str
    found: Found
    covered: Covered
    sanity: Sanity | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """``(h, w)`` float32: positive speaks for the target, negative against it."""
        return self.found.values

    @property
    def title(self) -> str:
        return METHODS[self.method].title

    def sentence(self, score: float) -> str:
        """What the map is worth, in one line."""
        if not self.values.any():
            return f"{self.title}: zero everywhere, so nothing that it tries moves this score"
        marked, elsewhere = number(self.covered.marked), number(self.covered.elsewhere)
        parts = [
            f"{self.title}: covering the {COVERED:.0%} it marks most takes the score from "
            f"{number(score)} to {marked} (the same pattern elsewhere: {elsewhere})"
        ]
        if self.found.gap is not None and self.found.change is not None:
            part = abs(self.found.gap / self.found.change) if self.found.change else float("inf")
            parts.append(
                f"completeness gap {number(self.found.gap)}, {part:.1%} of the change in score"
            )
        if self.sanity:
            verdict = "follows" if self.sanity.follows else "hardly depends on"
            parts.append(
                f"{verdict} the weights: rank correlation {self.sanity.left[-1]:.2f} with "
                f"{self.sanity.stages[-1]}"
            )
        return "; ".join(parts)


@dataclass(frozen=True, eq=False)
class Attribution:
    """Why a network gives one image this score.

    - ``maps``: one for each method; ``target``: what is explained; ``score``: its value;
      ``probability``: of a class, else ``None``
    - ``layer``: where Grad-CAM looked; ``baseline``: what stands for "nothing", in words
    - ``channels``: which channels carried it, where that was asked for; ``atlas``: what they
      respond to most, where it has their layer
    """

    maps: tuple[AttributionMap, ...]
    target: str
    score: float
    probability: float | None
    layer: str
    baseline: str
    specimen: InputSummary
    channels: ChannelShares | None = None
    atlas: Atlas | None = None

    def __getitem__(self, method: str) -> AttributionMap:
        return next(one for one in self.maps if one.method == method)

    @property
    def best(self) -> AttributionMap:
        """The map whose tenth costs the score most."""
        return min(self.maps, key=lambda one: one.covered.marked - one.covered.elsewhere)

    def sentence(self) -> str:
        """What was found, in one line."""
        sure = "" if self.probability is None else f" ({self.probability:.0%})"
        best = self.best
        marked, elsewhere = number(best.covered.marked), number(best.covered.elsewhere)
        return (
            f"{self.specimen.name}: {self.target}{sure}, score {number(self.score)}; without the "
            f"{COVERED:.0%} of the picture that {best.title} marks most {marked}, "
            f"without the same pattern elsewhere {elsewhere}"
        )

    def sentences(self) -> list[str]:
        """A line for each method, and one for the channels."""
        lines = [one.sentence(self.score) for one in self.maps]
        return [*lines, *([self.channels.sentence()] if self.channels else [])]

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """The methods side by side, laid over the picture."""
        tiles = [picture_tile(self.specimen.preprocessed, "what the model sees")]
        tiles += [self._tile(one.found, one.title, self._note(one)) for one in self.maps]
        sections = [Section("", tuple(tiles), min(len(tiles), 3))]
        if self.channels:
            sections.append(self._channel_section(self.channels))
            sections += self._exemplar_sections(self.channels)
        sections += self._sanity_sections()
        lines = [*self._lines(), *self.sentences()]
        title = f"{self.specimen.name} · why {self.target}"
        return Sheet(title, tuple(lines), tuple(sections), cmap="signed", theme=theme, noun="map")

    def _note(self, one: AttributionMap) -> str:
        return f"{number(self.score)} → {number(one.covered.marked)} without its top {COVERED:.0%}"

    def _channel_section(self, found: ChannelShares) -> Section:
        tiles = [
            self._tile(
                Found(one.values),
                one.address.rpartition(":")[2],
                f"{one.share:+.2g}, silenced {-one.cost:+.2g}".replace("-", "−"),
            )
            for one in found.listed
        ]
        return Section(f"channels of {found.layer}, gradient × activation", tuple(tiles), 5)

    def _exemplar_sections(self, found: ChannelShares) -> list[Section]:
        """For each listed channel the images that it responds to most."""
        if self.atlas is None or found.layer not in [la.path for la in self.atlas.layers]:
            return []
        sections = []
        for one in found.listed:
            tiles = [crop_tile(exemplar) for exemplar in self.atlas[one.address].top("mean", 8)]
            shown = tuple(tile for tile in tiles if tile)
            heading = f"{one.address} is highest on these of {self.atlas.images:,} images"
            sections += [Section(heading, shown, len(shown))] if shown else []
        return sections

    def _sanity_sections(self) -> list[Section]:
        sections = []
        for one in self.maps:
            if one.sanity:
                tiles = [self._tile(one.found, "as trained", "")]
                rows = zip(one.sanity.maps, one.sanity.stages, one.sanity.left, strict=True)
                tiles += [self._tile(found, stage, f"ρ {left:.2f}") for found, stage, left in rows]
                sections.append(Section(f"{one.title}, weights shuffled", tuple(tiles), len(tiles)))
        return sections

    def _tile(self, found: Found, label: str, note: str) -> Tile:
        values = _drawn(found.values)
        return overlay_tile(
            self.specimen.preprocessed, values, label, note, cmap="signed", opacity=0.9, fade=True
        )

    def _lines(self) -> list[str]:
        sure = "" if self.probability is None else f", probability {self.probability:.1%}"
        height, width = self.specimen.preprocessed.shape[:2]
        lines = [
            f"model {self.specimen.model} · score {number(self.score)}{sure} · Grad-CAM at "
            f"{self.layer}",
            *self.specimen.lines,
            f"red speaks for {self.target}, blue against it; the nearer to 0, the more of the "
            f"picture shows; “nothing” is {self.baseline}",
        ]
        if max(height, width) > _CELLS and any(max(m.values.shape) > _CELLS for m in self.maps):
            lines.append(f"maps of pixels are drawn as means over blocks, {_CELLS} to a side")
        return lines

    def save(self, path: str | Path, *, theme: Theme = "light") -> Path:
        """Write the sheet as a picture, or the maps as ``.npz``, by the file's ending."""
        path = Path(path)
        if path.suffix != ".npz":
            return self.sheet(theme=theme).save(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        arrays: dict[str, Any] = {one.method: one.values for one in self.maps}
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        return temporary.replace(path)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, for JSON."""
        return {
            "image": self.specimen.name,
            "model": self.specimen.model,
            "target": self.target,
            "score": self.score,
            "probability": self.probability,
            "layer": self.layer,
            "baseline": self.baseline,
            "methods": [_map_as_dict(one) for one in self.maps],
            "channels": self.channels
            and {
                "layer": self.channels.layer,
                "together": self.channels.together,
                "listed": [
                    {"address": c.address, "share": c.share, "cost": c.cost}
                    for c in self.channels.listed
                ],
            },
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"Attribution({self.sentence()})"


def _map_as_dict(one: AttributionMap) -> dict[str, Any]:
    return {
        "method": one.method,
        "without_its_tenth": one.covered.marked,
        "without_its_tenth_elsewhere": one.covered.elsewhere,
        "completeness_gap": one.found.gap,
        "sanity": one.sanity and dict(zip(one.sanity.stages, one.sanity.left, strict=True)),
    }


def _drawn(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most so many positions to a side; means over blocks where there are more."""
    height, width = values.shape
    factor = max(height, width) / _CELLS
    if factor <= 1:
        return values
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
