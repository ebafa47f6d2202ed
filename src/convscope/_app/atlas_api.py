"""Answers of the API on an atlas: statistics, dataset examples as sprites, channel health."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._app.session import Session
from convscope._app.wire import WEBP, Payload, base_name, image_payload, json_payload
from convscope._atlas import Atlas, Exemplar, Exemplars, LayerAtlas, Unit
from convscope._atlas.histogram_bins import HIGH, LOW
from convscope._errors import AtlasError, UnknownLayer, UsageError
from convscope._health import KINDS, ChannelHealth, check_health
from convscope._plot import table
from convscope._similarity import effect_sizes

CELL, ICON, ICONS_IN_ROW = 112, 48, 32
LISTS = ("top.mean", "top.peak", "bottom.mean", "bottom.peak", "random")
VIEWS = ("crop", "whole", "map")
_PERCENTILES = (1, 25, 50, 75, 99)
_MAX_CLASSES, _MAX_SIMILAR, _MAX_PER_PAGE = 10, 5, 200
_MAX_IMAGE = 1 << 62  # larger numbers are no SQLite integers

T = TypeVar("T")


class AtlasApi:
    """Payloads from a session's atlas; what takes long is computed once."""

    def __init__(self, session: Session) -> None:
        self._session, self._cached_for = session, session.atlas
        self._cache: dict[Hashable, object] = {}

    @property
    def atlas(self) -> Atlas:
        """The atlas. Raises ``UnknownLayer`` where there is none."""
        if self._session.atlas is None:
            raise UnknownLayer("No atlas was given. Make one: convscope scan DATASET -o ATLAS")
        return self._session.atlas

    def _layer(self, index: int) -> LayerAtlas:
        path = self._session.layer(index).path
        layer = next((la for la in self.atlas.layers if la.path == path), None)
        if layer is None:
            raise UnknownLayer(f"{path!r} was not scanned, so the atlas has no statistics of it")
        return layer

    def _unit(self, index: int, channel: int) -> Unit:
        layer = self._layer(index)
        if not 0 <= channel < layer.channels:
            raise UnknownLayer(
                f"No channel {channel} in {layer.path!r}: it has {layer.channels}, from 0"
            )
        return Unit(layer, channel)

    def _once(self, key: Hashable, compute: Callable[[], T]) -> T:
        if self._cached_for is not self._session.atlas:  # a scan wrote a new one
            self._cached_for, self._cache = self._session.atlas, {}
        if key not in self._cache:
            self._cache[key] = compute()
        return cast(T, self._cache[key])

    def channel_health(self) -> ChannelHealth:
        """The findings on all channels."""
        return self._once("health", lambda: check_health(self.atlas))

    # Statistics

    def layer(self, index: int) -> Payload:
        """Statistics of a layer, one value for each channel."""
        layer = self._layer(index)
        dead = [f.channels for f in self.channel_health().of_kind("dead") if f.layer == layer.path]
        selectivity, best = self._selectivity(layer)
        return json_payload(
            {
                "channels": layer.channels,
                "mean": layer.mean,
                "maximum": layer.maximum,
                "minimum": layer.minimum,
                "active": layer.active,
                "dead": [int(k) for channels in dead for k in channels],
                "selectivity": selectivity,
                "best_class": best,
                "similar_filters": _similar_filters(layer),
            }
        )

    def _selectivity(
        self, layer: LayerAtlas
    ) -> tuple[NDArray[np.floating], list[str]] | tuple[None, None]:
        """Of each channel: the largest effect size of a class, and the name of that class."""
        if not self.atlas.labeled:
            return None, None
        sums = layer.array("class.sum")
        effects = effect_sizes(layer.array("class.count"), sums, layer.array("mean.square"))
        effects = np.where(np.isnan(effects), -np.inf, effects)
        best = effects.argmax(0)
        names = [self.atlas.classes[int(layer.array("class")[k])] for k in best]
        return effects.max(0), names

    def channel(self, index: int, channel: int) -> Payload:
        """Statistics and dataset examples of a unit, without the pixels."""
        unit = self._unit(index, channel)
        names = ("count", "nan", "mean", "variance", "minimum", "maximum", "active")
        percentiles = zip(_PERCENTILES, unit.percentiles(_PERCENTILES), strict=True)
        return json_payload(
            {
                "address": unit.address,
                **{name: getattr(unit, name) for name in names},
                "percentiles": {str(k): value for k, value in percentiles},
                "histogram": _histogram(unit),
                "classes": _classes(unit),
                "exemplars": {name: _exemplar_list(unit, name) for name in LISTS},
                "provenance": f"{self.atlas.images:,} images of {base_name(self.atlas.dataset)}",
            }
        )

    def health(self) -> Payload:
        """The findings on all channels, by kind."""
        report = self.channel_health()
        return json_payload(
            {
                "images": report.images,
                "channels": report.channels,
                "counts": report.counts(),
                "titles": {name: kind.title for name, kind in KINDS.items()},
                "remarks": sorted(name for name, kind in KINDS.items() if not kind.is_defect),
                "findings": [finding.to_dict() for finding in report.findings],
                "not_assessed": [text.replace("`", "") for text in report.not_assessed()],
            }
        )

    # Images

    def sprite(self, index: int, channel: int, name: str, view: str) -> Payload:
        """The exemplars of a list as one row of cells."""
        if name not in LISTS or view not in VIEWS:
            raise UsageError(f"Lists: {', '.join(LISTS)}; views: {', '.join(VIEWS)}")
        exemplars = exemplars_of(self._unit(index, channel), name)
        sheet = _sheet([_view(one, view) for one in exemplars], CELL, max(len(exemplars), 1))
        return image_payload(sheet, WEBP)

    def icons(self, index: int) -> Payload:
        """The highest-scoring crop of every channel of a layer, as one sheet."""
        layer = self._layer(index)
        return self._once(("icons", layer.path), lambda: _icons(layer))

    def images(self, start: int = 0, count: int = 48) -> Payload:
        """Images of the dataset that have a thumbnail."""
        if start < 0 or not 1 <= count <= _MAX_PER_PAGE:
            raise UsageError(f"start from 0, count 1 to {_MAX_PER_PAGE}")
        indices = self._once("images", self._with_thumbnails)
        page = indices[start : start + count]
        ids, label = self.atlas.ids, self.atlas.label
        return json_payload(
            {
                "total": len(indices),
                "images": [{"index": k, "id": ids[k], "label": label(k)} for k in page],
            }
        )

    def _with_thumbnails(self) -> list[int]:
        if not self.atlas.thumbnails.exists:
            return []
        return self.atlas.thumbnails.images()

    def image(self, index: int) -> Payload:
        """The thumbnail of an image of the dataset."""
        data = self.atlas.thumbnails.encoded(index) if 0 <= index < _MAX_IMAGE else None
        if data is None:
            raise UnknownLayer(f"The atlas has no thumbnail of image {index}")
        kind = "image/png" if data[:4] == b"\x89PNG" else "image/jpeg"
        return Payload(data, kind, immutable=True)

    def thumbnail(self, index: int) -> tuple[Image.Image, str]:
        """The decoded thumbnail of an image, and the image's id."""
        thumbnail = self.atlas.thumbnails.image(index) if 0 <= index < _MAX_IMAGE else None
        if thumbnail is None:
            raise UnknownLayer(f"The atlas has no thumbnail of image {index}")
        return thumbnail, self.atlas.ids[index]


def exemplars_of(unit: Unit, name: str) -> Exemplars:
    """The exemplars of a unit in one of ``LISTS``."""
    if name == "random":
        return unit.random()
    end, by = name.split(".")
    return unit.top(by) if end == "top" else unit.bottom(by)  # type: ignore[arg-type]


def _exemplar_list(unit: Unit, name: str) -> dict[str, object]:
    exemplars = exemplars_of(unit, name)
    return {"note": exemplars.tie_note(), "exemplars": [_exemplar(one) for one in exemplars]}


def _exemplar(one: Exemplar) -> dict[str, object]:
    view = one.layer.atlas.thumbnails.geometry(one.image)
    return {
        "rank": one.rank,
        "image": one.image,
        "id": one.id,
        "label": one.label,
        "score": one.score,
        "position": one.position,
        "crop": one.crop_box,
        "original_size": None if view is None else (view.height, view.width),
    }


def _histogram(unit: Unit) -> dict[str, object]:
    counts = unit.layer.histogram[unit.channel]
    filled = np.flatnonzero(counts)
    return {"low": LOW[filled], "high": HIGH[filled], "counts": counts[filled]}


def _classes(unit: Unit) -> list[dict[str, object]] | None:
    if not unit.layer.atlas.labeled:
        return None
    try:
        ranked = unit.class_means()[:_MAX_CLASSES]
    except AtlasError:
        return None
    return [{"class": name, "mean": mean, "images": count} for name, mean, count in ranked if count]


def _similar_filters(layer: LayerAtlas) -> list[list[int]] | None:
    """For each channel the channels with the most similar filters, most similar first."""
    if layer.kernel_cosine is None:
        return None
    cosine = layer.kernel_cosine.astype(np.float32)
    np.fill_diagonal(cosine, -np.inf)
    count = min(_MAX_SIMILAR, len(cosine) - 1)
    return [[int(k) for k in row] for row in np.argsort(-cosine, 1, kind="stable")[:, :count]]


def _icons(layer: LayerAtlas) -> Payload:
    best = [next(iter(Unit(layer, k).top("peak", 1)), None) for k in range(layer.channels)]
    crops = [None if one is None else _view(one, "crop") for one in best]
    return image_payload(_sheet(crops, ICON, ICONS_IN_ROW), WEBP)


def _view(one: Exemplar, view: str) -> Image.Image | None:
    if view == "map":
        stored = one.map()
        if stored is None:
            return None
        return Image.fromarray(table("magma")[stored.levels])
    return one.crop() if view == "crop" else one.thumbnail()


def _sheet(images: Sequence[Image.Image | None], cell: int, columns: int) -> Image.Image:
    """Fit images into the cells of a transparent sheet."""
    rows = -(-max(len(images), 1) // columns)
    sheet = Image.new("RGBA", (columns * cell, rows * cell), (0, 0, 0, 0))
    for k, image in enumerate(images):
        if image is not None:
            factor = cell / max(image.size)
            size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
            filter = Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BICUBIC
            y, x = divmod(k, columns)
            corner = (x * cell + (cell - size[0]) // 2, y * cell + (cell - size[1]) // 2)
            sheet.paste(image.convert("RGB").resize(size, filter), corner)
    return sheet
