"""Thumbnails, crops and maps of the exemplars: one SQLite file.

images  image, height, width, scale_y, scale_x, offset_y, offset_x, thumbnail (JPEG or PNG)
crops   image, top, left, bottom, right (whole original pixels), crop (JPEG or PNG)
maps    layer, channel, image, height, width (of the map as computed), low, high,
        rows, columns (as kept), map (uint8, row by row: low … high; zlib)

A crop that the thumbnail shows well enough is not kept: it is cut from there.
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

from convscope._atlas.geometry import Box, Placed, pixels

SCHEMA = """
create table if not exists images (image integer primary key, height integer, width integer,
    scale_y real, scale_x real, offset_y real, offset_x real, thumbnail blob);
create table if not exists crops (image integer, top integer, "left" integer, bottom integer,
    "right" integer, crop blob, primary key (image, top, "left", bottom, "right"));
create table if not exists maps (layer text, channel integer, image integer, height integer,
    width integer, low real, high real, rows integer, columns integer, map blob,
    primary key (layer, channel, image));
"""


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A map in 8 bits: ``levels`` uint8 ``(rows, columns)`` from ``low`` to ``high``.

    ``size``: of the map as computed; a larger one was reduced, each block to its highest value.
    """

    levels: NDArray[np.uint8]
    low: float
    high: float
    size: tuple[int, int]

    @property
    def values(self) -> NDArray[np.float32]:
        """As numbers again, to 1/255 of the span."""
        span = self.high - self.low
        return np.asarray(self.low + self.levels.astype(np.float32) * (span / 255), np.float32)


class Thumbnails:
    """Reads the file; where it is not there, there are no pictures."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()
        self._views: dict[int, Placed | None] = {}

    @property
    def there(self) -> bool:
        return self._path.exists()

    def _row(self, question: str, *values: Any) -> Any:
        if not self.there:
            return None
        if not hasattr(self._own, "connection"):  # one for each thread
            uri = f"{self._path.resolve().as_uri()}?mode=ro&immutable=1"
            self._own.connection = sqlite3.connect(uri, uri=True)
        return self._own.connection.execute(question, values).fetchone()

    def images(self) -> list[int]:
        """Indices of the images that have a thumbnail, ascending."""
        if not self._row("select 1"):
            return []
        found = self._own.connection.execute("select image from images order by image")
        return [int(image) for (image,) in found]

    def view(self, image: int) -> Placed | None:
        """How an image was resized and cropped."""
        if image not in self._views:
            row = self._row(
                "select height, width, scale_y, scale_x, offset_y, offset_x "
                "from images where image = ?",
                int(image),
            )
            self._views[image] = row and Placed(row[0], row[1], (row[2], row[3]), (row[4], row[5]))
        return self._views[image]

    def bytes_of(self, image: int) -> bytes | None:
        """The thumbnail as it is kept: JPEG or PNG."""
        row = self._row("select thumbnail from images where image = ?", int(image))
        return None if row is None else bytes(row[0])

    def image(self, image: int) -> Image.Image | None:
        """The whole image, small, RGB."""
        data = self.bytes_of(image)
        return None if data is None else _decoded(data)

    def crop(self, image: int, box: Box) -> Image.Image | None:
        """What is in a box of the original; from the thumbnail where no crop was kept."""
        top, left, bottom, right = pixels(box)
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
        whole, view = self.image(image), self.view(image)
        if whole is None or view is None:
            return None
        y, x = whole.height / view.height, whole.width / view.width
        cut = pixels((top * y, left * x, bottom * y, right * x))
        return whole.crop((cut[1], cut[0], cut[3], cut[2]))

    def map(self, layer: str, channel: int, image: int) -> StoredMap | None:
        """A channel's map of an image."""
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
