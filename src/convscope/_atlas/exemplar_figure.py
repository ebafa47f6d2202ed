"""The figure of a unit's exemplars: receptive fields, feature maps over them, whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._atlas.exemplars import Exemplar, Exemplars
from convscope._atlas.reader import LayerAtlas
from convscope._atlas.thumbnails import Box, whole_pixels
from convscope._errors import AtlasError, untrained_note
from convscope._plot import Frame, Section, Sheet, Theme, Tile, image_tile, overlay_tile
from convscope._plot.text import number


def exemplar_sheet(
    exemplars: Exemplars,
    layer: LayerAtlas,
    channel: int,
    *,
    columns: int | None = None,
    cmap: str = "magma",
    theme: Theme = "light",
) -> Sheet:
    """The exemplars of one channel as a figure.

    Raises:
        AtlasError: No image is ranked, or the atlas has no thumbnails yet.
    """
    address = f"{layer.path}:{channel}"
    if not exemplars:
        raise AtlasError(f"No image is ranked for {address}: all its feature maps contain NaN")
    crops = [tile for one in exemplars if (tile := crop_tile(one)) is not None]
    if not crops:
        raise AtlasError(
            f"{str(layer.atlas.folder)!r} has no thumbnails for {address}. Run its scan again to "
            "make them"
        )
    wide = columns or (len(exemplars) if len(exemplars) < 10 else None)
    sections = [Section("receptive field of the position", tuple(crops), wide)]
    overlays = _overlay_tiles(exemplars, cmap)
    if overlays:
        sections.append(Section("feature map over the receptive field", tuple(overlays), wide))
    whole = [tile for one in exemplars if (tile := _whole_tile(one)) is not None]
    sections.append(Section("whole image, receptive field framed", tuple(whole), wide))
    return Sheet(
        exemplars.name,
        tuple(_lines(exemplars, layer, channel)),
        tuple(sections),
        cmap=cmap,
        theme=theme,
        noun="map",
        group="row",
    )


def _lines(exemplars: Exemplars, layer: LayerAtlas, channel: int) -> list[str]:
    atlas = layer.atlas
    shape = "×".join(map(str, layer.shape))
    field = f" · receptive field {layer.receptive_field}" if layer.receptive_field else ""
    mean, low, high = (
        number(float(values[channel])) for values in (layer.mean, layer.minimum, layer.maximum)
    )
    lines = [
        f"model {atlas.model} · {layer.kind} {shape}{field}",
        f"{atlas.images:,} images of {atlas.dataset} · over all of them: mean {mean}, range {low} "
        f"to {high}, {layer.active[channel]:.1%} of the values above 0",
    ]
    drawn = atlas.manifest["dataset"].get("drawn")
    lines += [f"the inputs are arrays, drawn as images: {drawn}"] if drawn else []
    untrained = untrained_note(atlas.manifest["model"].get("untrained", ""))
    lines += [untrained] if untrained else []
    return lines + ([exemplars.tie_note()] if exemplars.arbitrary else [])


def crop_tile(one: Exemplar) -> Tile | None:
    """The receptive field of an exemplar, titled with image and score; ``None`` without one."""
    crop = one.crop()
    if crop is None:
        return None
    return image_tile(np.asarray(crop), _short_id(one), number(one.score))


def _short_id(one: Exemplar) -> str:
    """The end of an id, with the label: titles are narrow."""
    name = one.id.rsplit("/", 1)[-1]
    name = name.rsplit(".", 1)[0] if "." in name else name
    label = f" {one.label}" if one.label else ""
    return f"{name[-16:]}{label}"


def _overlay_tiles(exemplars: Sequence[Exemplar], cmap: str) -> list[Tile]:
    """Crops with the feature maps over them, all in one color range."""
    maps = [(one, one.map(), one.crop()) for one in exemplars]
    known = [(one, map, crop) for one, map, crop in maps if map is not None and crop is not None]
    if not known:
        return []
    span = (min(map.low for _, map, _ in known), max(map.high for _, map, _ in known))
    if not span[0] < span[1]:
        return []
    return [_overlay_tile(one, map.values, crop, span, cmap) for one, map, crop in known]


def _overlay_tile(
    one: Exemplar,
    values: NDArray[np.float32],
    crop: Image.Image,
    span: tuple[float, float],
    cmap: str,
) -> Tile:
    title = f"at {one.position[0]},{one.position[1]}"
    return overlay_tile(np.asarray(crop), _cropped_map(one, values), title, cmap=cmap, range=span)


def _cropped_map(one: Exemplar, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of a map that lies over the crop: one value for each preprocessed pixel there."""
    atlas = one.layer.atlas
    box, original = one.crop_box, atlas.thumbnails.geometry(one.image)
    if box is None or original is None:
        return values
    height, width = atlas.manifest["settings"]["size"]
    (sy, sx), (oy, ox) = original.scale, original.offset
    top, left, bottom, right = whole_pixels(box)
    rows = _cells(top * sy - oy, bottom * sy - oy, height, len(values))
    columns = _cells(left * sx - ox, right * sx - ox, width, values.shape[1])
    return np.ascontiguousarray(values[rows][:, columns])


def _cells(start: float, end: float, pixels: int, cells: int) -> NDArray[np.intp]:
    """Which cell of the map lies over each of the pixels from ``start`` to ``end``."""
    steps = np.arange(round(start), max(round(end), round(start) + 1)) + 0.5
    return np.asarray(np.clip(steps * cells // pixels, 0, cells - 1), np.intp)


def _whole_tile(one: Exemplar) -> Tile | None:
    thumbnail, original = one.thumbnail(), one.layer.atlas.thumbnails.geometry(one.image)
    if thumbnail is None or original is None:
        return None
    pixels = np.asarray(thumbnail)
    tile = image_tile(pixels, _short_id(one), f"image {one.image}")
    box = one.crop_box
    if box is None:
        return tile
    y, x = pixels.shape[0] / original.height, pixels.shape[1] / original.width
    return replace(tile, frames=(_frame(box, y, x, pixels.shape[:2]),))


def _frame(box: Box, y: float, x: float, size: tuple[int, ...]) -> Frame:
    top, left, bottom, right = whole_pixels((box[0] * y, box[1] * x, box[2] * y, box[3] * x))
    bottom, right = min(bottom, size[0]), min(right, size[1])
    return Frame(min(top, bottom - 1), min(left, right - 1), bottom, right)
