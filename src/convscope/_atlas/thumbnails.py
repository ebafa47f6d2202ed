"""Thumbnails, crops and maps of the exemplars: one SQLite file.

images  image, height, width, scale_y, scale_x, offset_y, offset_x, thumbnail (JPEG or PNG)
crops   image, top, left, bottom, right (whole original pixels), crop (JPEG or PNG)
maps    layer, channel, image, height, width (of the map as computed), low, high,
        rows, columns (as stored), map (uint8, row by row: low … high; zlib)

A crop is stored only where the thumbnail would show it at too few pixels; else it is cut from the
thumbnail.
"""

from __future__ import annotations

import io
import sqlite3
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SCHEMA = """
create table if not exists images (image integer primary key, height integer, width integer,
    scale_y real, scale_x real, offset_y real, offset_x real, thumbnail blob);
create table if not exists crops (image integer, top integer, "left" integer, bottom integer,
    "right" integer, crop blob, primary key (image, top, "left", bottom, "right"));
create table if not exists maps (layer text, channel integer, image integer, height integer,
    width integer, low real, high real, rows integer, columns integer, map blob,
    primary key (layer, channel, image));
"""

Box = tuple[float, float, float, float]
"""``(top, left, bottom, right)`` in pixels; bottom and right are excluded."""


@dataclass(frozen=True)
class ResizeCrop:
    """How an original image was resized and cropped for the network.

    Attributes:
        height: Of the original image, in pixels.
        width: Of the original image, in pixels.
        scale: Preprocessed pixels per original pixel, ``(y, x)``.
        offset: Where the crop begins in the resized image, ``(y, x)``.
    """

    height: int
    width: int
    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_original(self, box: Box) -> Box:
        """A box of the preprocessed input in original pixels, clipped at the image's borders."""
        (sy, sx), (oy, ox) = self.scale, self.offset
        rows = [min(max((y + oy) / sy, 0.0), float(self.height)) for y in (box[0], box[2])]
        columns = [min(max((x + ox) / sx, 0.0), float(self.width)) for x in (box[1], box[3])]
        return rows[0], columns[0], rows[1], columns[1]


def whole_pixels(box: Box) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, at least one: ``(top, left, bottom, right)``."""
    top, left = int(box[0] + 1e-6), int(box[1] + 1e-6)
    bottom, right = -int(-box[2] // 1), -int(-box[3] // 1)
    return top, left, max(bottom, top + 1), max(right, left + 1)


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A feature map in 8 bits.

    Attributes:
        levels: uint8 ``(rows, columns)``, from ``low`` (0) to ``high`` (255).
        low: The lowest value.
        high: The highest value.
        size: Height and width of the map as computed. A larger map than is stored was reduced by
            max-pooling.
    """

    levels: NDArray[np.uint8]
    low: float
    high: float
    size: tuple[int, int]

    @property
    def values(self) -> NDArray[np.float32]:
        """The activations ``(rows, columns)``, exact to 1/255 of the range."""
        span = self.high - self.low
        return np.asarray(self.low + self.levels.astype(np.float32) * (span / 255), np.float32)


class Thumbnails:
    """Reads the file; where there is none, every look-up gives ``None``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._geometry: dict[int, ResizeCrop | None] = {}

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def _row(self, query: str, *values: Any) -> Any:
        if not self.exists:
            return None
        if not hasattr(self._local, "connection"):  # one for each thread
            uri = f"{self._path.resolve().as_uri()}?mode=ro&immutable=1"
            self._local.connection = sqlite3.connect(uri, uri=True)
        return self._local.connection.execute(query, values).fetchone()

    def images(self) -> list[int]:
        """Indices of the images that have a thumbnail, ascending."""
        if not self._row("select 1"):
            return []
        rows = self._local.connection.execute("select image from images order by image")
        return [int(image) for (image,) in rows]

    def geometry(self, image: int) -> ResizeCrop | None:
        """How an image was resized and cropped."""
        if image not in self._geometry:
            row = self._row(
                "select height, width, scale_y, scale_x, offset_y, offset_x "
                "from images where image = ?",
                int(image),
            )
            self._geometry[image] = row and ResizeCrop(row[0], row[1], row[2:4], row[4:6])
        return self._geometry[image]

    def encoded(self, image: int) -> bytes | None:
        """The thumbnail as stored: JPEG or PNG."""
        row = self._row("select thumbnail from images where image = ?", int(image))
        return None if row is None else bytes(row[0])

    def image(self, image: int) -> Image.Image | None:
        """The thumbnail of the whole image, RGB."""
        data = self.encoded(image)
        return None if data is None else _decoded(data)

    def crop(self, image: int, box: Box) -> Image.Image | None:
        """What is in a box of the original image; cut from the thumbnail where none is stored."""
        top, left, bottom, right = whole_pixels(box)
        row = self._row(
            'select crop from crops where image = ? and top = ? and "left" = ? and '
            'bottom = ? and "right" = ?',
            int(image),
            top,
            left,
            bottom,
            right,
        )
        if row:
            return _decoded(row[0])
        thumbnail, original = self.image(image), self.geometry(image)
        if thumbnail is None or original is None:
            return None
        y, x = thumbnail.height / original.height, thumbnail.width / original.width
        cut = whole_pixels((top * y, left * x, bottom * y, right * x))
        return thumbnail.crop((cut[1], cut[0], cut[3], cut[2]))

    def map(self, layer: str, channel: int, image: int) -> StoredMap | None:
        """The feature map of a channel for an image."""
        row = self._row(
            "select height, width, low, high, rows, columns, map from maps where "
            "layer = ? and channel = ? and image = ?",
            layer,
            int(channel),
            int(image),
        )
        if not row:
            return None
        levels = np.frombuffer(zlib.decompress(row[6]), np.uint8).reshape(row[4], row[5])
        return StoredMap(levels, row[2], row[3], (row[0], row[1]))


def _decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")
