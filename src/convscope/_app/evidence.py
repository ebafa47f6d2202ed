"""What is answered from an atlas: statistics, exemplars as sprites, findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from convscope._app.answers import WEBP, Answer, as_json, picture, short
from convscope._app.session import Session
from convscope._atlas import Atlas, Exemplar, Exemplars, LayerAtlas, Unit
from convscope._atlas.histogram_bins import HIGH, LOW
from convscope._errors import AtlasError, UnknownLayer, UsageError
from convscope._health import KINDS, ChannelHealth, check_health
from convscope._plot import table
from convscope._similarity.selectivity import effect_sizes

CELL, ICON, ICONS_IN_ROW = 112, 48, 32
LISTS = ("top.mean", "top.peak", "bottom.mean", "bottom.peak", "random")
VIEWS = ("crop", "whole", "map")
_PERCENTILES = (1, 25, 50, 75, 99)
_CLASSES, _NEIGHBORS, _PER_PAGE = 10, 5, 200


class Evidence:
    """An atlas as it is asked by the app; what took work is kept."""

    def __init__(self, session: Session) -> None:
        self._session, self._of = session, session.atlas
        self._kept: dict[Any, Any] = {}

    @property
    def atlas(self) -> Atlas:
        """The atlas. Raises ``UnknownLayer`` where there is none."""
        if self._session.atlas is None:
            raise UnknownLayer("No atlas was given. Make one: convscope scan DATASET -o ATLAS")
        return self._session.atlas

    def _layer(self, index: int) -> LayerAtlas:
        path = self._session.layer(index).path
        found = next((la for la in self.atlas.layers if la.path == path), None)
        if found is None:
            raise UnknownLayer(f"{path!r} was not scanned, so the atlas has nothing of it")
        return found

    def _unit(self, index: int, channel: int) -> Unit:
        layer = self._layer(index)
        if not 0 <= channel < layer.channels:
            raise UnknownLayer(
                f"No channel {channel} in {layer.path!r}: it has {layer.channels}, from 0"
            )
        return Unit(layer, channel)

    def _once(self, key: Any, make: Any) -> Any:
        if self._of is not self._session.atlas:  # one was made meanwhile
            self._of, self._kept = self._session.atlas, {}
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def examination(self) -> ChannelHealth:
        found: ChannelHealth = self._once("findings", lambda: check_health(self.atlas))
        return found

    # Statistics

    def layer(self, index: int) -> Answer:
        """The columns of a layer's channels."""
        layer = self._layer(index)
        dead = [f.channels for f in self.examination().of_kind("dead") if f.layer == layer.path]
        size, best = self._selectivity(layer)
        return as_json(
            {
                "channels": layer.channels,
                "mean": layer.mean,
                "maximum": layer.maximum,
                "minimum": layer.minimum,
                "active": layer.active,
                "dead": [int(k) for channels in dead for k in channels],
                "selectivity": size,
                "best_class": best,
                "neighbors": _neighbors(layer),
            }
        )

    def _selectivity(self, layer: LayerAtlas) -> tuple[Any, Any]:
        """Of each channel: the largest effect size of a class, and which class that is."""
        if not self.atlas.labeled:
            return None, None
        sums = layer.array("class.sum")
        found = effect_sizes(layer.array("class.count"), sums, layer.array("mean.square"))
        usable = np.where(np.isnan(found), -np.inf, found)
        best = usable.argmax(0)
        names = [self.atlas.classes[int(layer.array("class")[k])] for k in best]
        return usable.max(0), names

    def channel(self, index: int, channel: int) -> Answer:
        """Everything the atlas knows of a unit but the pictures."""
        unit = self._unit(index, channel)
        names = ("count", "nan", "mean", "variance", "minimum", "maximum", "active")
        percentiles = zip(_PERCENTILES, unit.percentiles(_PERCENTILES), strict=True)
        return as_json(
            {
                "address": unit.address,
                **{name: getattr(unit, name) for name in names},
                "percentiles": {str(k): value for k, value in percentiles},
                "histogram": _histogram(unit),
                "classes": _classes(unit),
                "lists": {name: _list(unit, name) for name in LISTS},
                "provenance": f"{self.atlas.images:,} images of {short(self.atlas.dataset)}",
            }
        )

    def findings(self) -> Answer:
        """What is to be said of the channels."""
        found = self.examination()
        return as_json(
            {
                "images": found.images,
                "channels": found.channels,
                "counts": found.counts(),
                "titles": {name: kind.title for name, kind in KINDS.items()},
                "remarks": sorted(name for name, kind in KINDS.items() if not kind.is_defect),
                "findings": [one.to_dict() for one in found.findings],
                "not_assessed": [text.replace("`", "") for text in found.not_assessed()],
            }
        )

    # Pictures

    def sprite(self, index: int, channel: int, name: str, view: str) -> Answer:
        """One row of cells: the exemplars of a list, in order."""
        if name not in LISTS or view not in VIEWS:
            raise UsageError(f"Lists: {', '.join(LISTS)}; views: {', '.join(VIEWS)}")
        found = listed(self._unit(index, channel), name)
        row = _row([_seen(one, view) for one in found], CELL, max(len(found), 1))
        return picture(row, WEBP)

    def icons(self, index: int) -> Answer:
        """The best crop of every channel of a layer."""
        layer = self._layer(index)
        answer: Answer = self._once(("icons", layer.path), lambda: _icons(layer))
        return answer

    def images(self, start: int = 0, count: int = 48) -> Answer:
        """Images of the dataset that have a thumbnail."""
        if start < 0 or not 1 <= count <= _PER_PAGE:
            raise UsageError(f"start from 0, count 1 to {_PER_PAGE}")
        known = self._once("images", self._known)
        page = known[start : start + count]
        ids, label = self.atlas.ids, self.atlas.label
        return as_json(
            {
                "total": len(known),
                "images": [{"image": k, "id": ids[k], "label": label(k)} for k in page],
            }
        )

    def _known(self) -> list[int]:
        if not self.atlas.thumbnails.exists:
            return []
        return self.atlas.thumbnails.images()

    def image(self, index: int) -> Answer:
        """The thumbnail of an image."""
        data = self.atlas.thumbnails.encoded(index) if 0 <= index < 1 << 62 else None
        if data is None:
            raise UnknownLayer(f"The atlas has no thumbnail of image {index}")
        kind = "image/png" if data[:4] == b"\x89PNG" else "image/jpeg"
        return Answer(data, kind, lasting=True)

    def thumbnail(self, index: int) -> tuple[Image.Image, str]:
        """The same as a picture, with its name."""
        found = self.atlas.thumbnails.image(index) if 0 <= index < 1 << 62 else None
        if found is None:
            raise UnknownLayer(f"The atlas has no thumbnail of image {index}")
        return found, self.atlas.ids[index]


def listed(unit: Unit, name: str) -> Exemplars:
    """One of ``LISTS``."""
    if name == "random":
        return unit.random()
    end, by = name.split(".")
    return unit.top(by) if end == "top" else unit.bottom(by)  # type: ignore[arg-type]


def _list(unit: Unit, name: str) -> dict[str, Any]:
    found = listed(unit, name)
    return {"note": found.tie_note(), "exemplars": [_exemplar(one) for one in found]}


def _exemplar(one: Exemplar) -> dict[str, Any]:
    view = one.layer.atlas.thumbnails.geometry(one.image)
    return {
        "rank": one.rank,
        "image": one.image,
        "id": one.id,
        "label": one.label,
        "score": one.score,
        "position": one.position,
        "crop": one.crop_box,
        "original": None if view is None else (view.height, view.width),
    }


def _histogram(unit: Unit) -> dict[str, Any]:
    counts = unit.layer.histogram[unit.channel]
    held = np.flatnonzero(counts)
    return {"low": LOW[held], "high": HIGH[held], "counts": counts[held]}


def _classes(unit: Unit) -> list[dict[str, Any]] | None:
    if not unit.layer.atlas.labeled:
        return None
    try:
        found = unit.class_means()[:_CLASSES]
    except AtlasError:
        return None
    return [{"class": name, "mean": mean, "images": count} for name, mean, count in found if count]


def _neighbors(layer: LayerAtlas) -> list[list[int]] | None:
    """Of each channel those with the most similar filters, most similar first."""
    cosine = layer.kernel_cosine
    if cosine is None:
        return None
    alike = cosine.astype(np.float32)
    np.fill_diagonal(alike, -np.inf)
    count = min(_NEIGHBORS, len(alike) - 1)
    return [[int(k) for k in row] for row in np.argsort(-alike, 1, kind="stable")[:, :count]]


def _icons(layer: LayerAtlas) -> Answer:
    best = [next(iter(Unit(layer, k).top("peak", 1)), None) for k in range(layer.channels)]
    pictures = [None if one is None else _seen(one, "crop") for one in best]
    return picture(_row(pictures, ICON, ICONS_IN_ROW), WEBP)


def _seen(one: Exemplar, view: str) -> Image.Image | None:
    if view == "map":
        stored = one.map()
        if stored is None:
            return None
        return Image.fromarray(table("magma")[stored.levels])
    return one.crop() if view == "crop" else one.thumbnail()


def _row(pictures: Sequence[Image.Image | None], cell: int, columns: int) -> Image.Image:
    """Pictures fitted into the cells of a transparent sheet."""
    rows = -(-max(len(pictures), 1) // columns)
    sheet = Image.new("RGBA", (columns * cell, rows * cell), (0, 0, 0, 0))
    for k, one in enumerate(pictures):
        if one is not None:
            factor = cell / max(one.size)
            size = (max(1, round(one.width * factor)), max(1, round(one.height * factor)))
            how = Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BICUBIC
            y, x = divmod(k, columns)
            at = (x * cell + (cell - size[0]) // 2, y * cell + (cell - size[1]) // 2)
            sheet.paste(one.convert("RGB").resize(size, how), at)
    return sheet
