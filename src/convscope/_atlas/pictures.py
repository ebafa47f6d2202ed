"""Pictures of exemplars: what a unit looks at, its map over that, and where in the image it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._atlas.exemplars import Exemplar, Exemplars
from convscope._atlas.geometry import Box, pixels
from convscope._atlas.unit import Unit
from convscope._errors import AtlasError, untrained_note
from convscope._plot import Frame, Section, Sheet, Theme, Tile, overlay_tile, picture_tile
from convscope._plot.text import number


def exemplar_sheet(
    unit: Unit,
    found: Exemplars,
    *,
    columns: int | None = None,
    cmap: str = "magma",
    theme: Theme = "light",
) -> Sheet:
    """The exemplars of a unit: crops, the same with the map over them, whole images.

    Raises ``AtlasError`` where the atlas has no pictures yet.
    """
    if not found:
        raise AtlasError(f"No image is ranked for {unit.address}: all its maps hold NaN")
    crops = [tile for one in found if (tile := crop_tile(one)) is not None]
    if not crops:
        raise AtlasError(
            f"{str(unit.layer.atlas.folder)!r} has no pictures of {unit.address}. Run its scan "
            "again to make them"
        )
    wide = columns or (len(found) if len(found) < 10 else None)
    sections = [Section("what the position looks at", tuple(crops), wide)]
    mapped = _mapped(found, cmap)
    if mapped:
        sections.append(Section("its map laid over that", tuple(mapped), wide))
    whole = [tile for one in found if (tile := _whole(one)) is not None]
    sections.append(Section("the whole images, that part framed", tuple(whole), wide))
    return Sheet(
        found.name,
        tuple(_lines(unit, found)),
        tuple(sections),
        cmap=cmap,
        theme=theme,
        noun="map",
        group="row",
    )


def _lines(unit: Unit, found: Exemplars) -> list[str]:
    layer, atlas = unit.layer, unit.layer.atlas
    shape = "×".join(map(str, layer.shape))
    field = f" · looks at {layer.receptive_field}" if layer.receptive_field else ""
    lines = [
        f"model {atlas.model} · {layer.kind} {shape}{field}",
        f"{atlas.images:,} images of {atlas.dataset} · over all of them mean {number(unit.mean)}, "
        f"{number(unit.minimum)} to {number(unit.maximum)}, {unit.active:.1%} above 0",
    ]
    drawn = atlas.manifest["dataset"].get("drawn")
    lines += [f"the images are numbers: {drawn}"] if drawn else []
    untrained = untrained_note(atlas.manifest["model"].get("untrained", ""))
    lines += [untrained] if untrained else []
    return lines + ([found.sentence()] if found.arbitrary else [])


def crop_tile(one: Exemplar) -> Tile | None:
    """What the position looks at, with image and score; ``None`` without its picture."""
    crop = one.crop()
    if crop is None:
        return None
    return picture_tile(np.asarray(crop), _short(one), number(one.score))


def _short(one: Exemplar) -> str:
    """The end of an id: titles are narrow."""
    name = one.id.rsplit("/", 1)[-1]
    name = name.rsplit(".", 1)[0] if "." in name else name
    label = f" {one.label}" if one.label else ""
    return f"{name[-16:]}{label}"


def _mapped(found: Sequence[Exemplar], cmap: str) -> list[Tile]:
    """Crops with the maps over them, all in one range of colors."""
    maps = [(one, one.map(), one.crop()) for one in found]
    known = [(one, map, crop) for one, map, crop in maps if map is not None and crop is not None]
    if not known:
        return []
    span = (min(map.low for _, map, _ in known), max(map.high for _, map, _ in known))
    if not span[0] < span[1]:
        return []
    return [_laid_over(one, map.values, crop, span, cmap) for one, map, crop in known]


def _laid_over(
    one: Exemplar,
    values: NDArray[np.float32],
    crop: Image.Image,
    span: tuple[float, float],
    cmap: str,
) -> Tile:
    part = _part_of_map(one, values)
    place = f"{one.position[0]},{one.position[1]}"
    return overlay_tile(np.asarray(crop), part, f"at {place}", cmap=cmap, range=span)


def _part_of_map(one: Exemplar, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The piece of a map that lies over the crop: one value for each seen pixel there."""
    atlas = one.unit.layer.atlas
    box, view = one.crop_box, atlas.thumbnails.view(one.image)
    if box is None or view is None:
        return values
    height, width = atlas.manifest["settings"]["size"]
    (sy, sx), (oy, ox) = view.scale, view.offset
    top, left, bottom, right = pixels(box)
    seen = (top * sy - oy, left * sx - ox, bottom * sy - oy, right * sx - ox)
    rows = _cells(seen[0], seen[2], height, len(values))
    columns = _cells(seen[1], seen[3], width, values.shape[1])
    return np.ascontiguousarray(values[rows][:, columns])


def _cells(start: float, end: float, seen: int, cells: int) -> NDArray[np.intp]:
    """Which cell of the map lies over each seen pixel from ``start`` to ``end``."""
    steps = np.arange(round(start), max(round(end), round(start) + 1)) + 0.5
    return np.asarray(np.clip(steps * cells // seen, 0, cells - 1), np.intp)


def _whole(one: Exemplar) -> Tile | None:
    thumbnail, view = one.thumbnail(), one.unit.layer.atlas.thumbnails.view(one.image)
    if thumbnail is None or view is None:
        return None
    picture = np.asarray(thumbnail)
    tile = picture_tile(picture, _short(one), f"image {one.image}")
    box = one.crop_box
    if box is None:
        return tile
    y, x = picture.shape[0] / view.height, picture.shape[1] / view.width
    return replace(tile, frames=(_frame(box, y, x, picture.shape[:2]),))


def _frame(box: Box, y: float, x: float, size: tuple[int, ...]) -> Frame:
    top, left, bottom, right = pixels((box[0] * y, box[1] * x, box[2] * y, box[3] * x))
    bottom, right = min(bottom, size[0]), min(right, size[1])
    return Frame(min(top, bottom - 1), min(left, right - 1), bottom, right)
