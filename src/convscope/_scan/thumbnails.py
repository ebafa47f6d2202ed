"""Writes the thumbnails of an atlas: a second, short pass over the images that its lists name.

Of each: the whole image, small; the receptive fields of the listed positions, cut from it; and the
feature maps of the channels that list it. This pass, too, resumes where it was stopped.
"""

from __future__ import annotations

import io
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convscope._atlas import Atlas
from convscope._atlas.files import THUMBNAILS, disk_errors
from convscope._atlas.thumbnails import SCHEMA, ResizeCrop, whole_pixels
from convscope._errors import AtlasError, ImageError
from convscope._images import DecodedImage, PreprocessedImage
from convscope._loading import default_workers, prefetch
from convscope._models import Batch, Model, stack_slices
from convscope._scan.plan import ScanJob

_THUMBNAIL_SIDE = 192
_CROP_SIDE = 128
_MAP_SIDE = 56
_SHARP_ENOUGH = 64  # no crop is stored where the thumbnail shows it at this many pixels
_MAX_PNG_SIDE = 48
_LISTS_WITH_MAPS = ("top.mean", "top.peak")
_LISTS_WITHOUT_MAPS = ("bottom.mean", "bottom.peak")


@dataclass
class _ListedImage:
    """Where one image is listed: by layer, the channels that list it, and the positions."""

    channels: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    positions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class _DecodedImage:
    """One image, decoded once: model input, and its rows for the file."""

    image: int
    values: Tensor
    row: tuple[Any, ...]
    crops: list[tuple[Any, ...]]


def write_thumbnails(job: ScanJob, folder: Path, on_images: Callable[[int, int], None]) -> None:
    """Write ``thumbnails.sqlite``, unless it exists.

    Raises:
        AtlasError: The file cannot be written.
    """
    final, unfinished = folder / THUMBNAILS, folder / f".{THUMBNAILS}.unfinished"
    if final.exists():
        return
    writer = _ThumbnailWriter(job, Atlas(folder))
    try:
        with disk_errors(folder):
            with closing(sqlite3.connect(unfinished)) as file:
                file.executescript(SCHEMA)
                writer.fill(file, on_images)
                file.execute("pragma journal_mode = delete")
            unfinished.replace(final)
    except sqlite3.OperationalError as error:
        raise AtlasError(
            f"{str(final)!r} cannot be written: {error}. The statistics are complete; free some "
            "space, then run the same command again to make the thumbnails"
        ) from None


def _listed_images(atlas: Atlas) -> dict[int, _ListedImage]:
    """By index: every image that some list names, and where."""
    listed: dict[int, _ListedImage] = defaultdict(_ListedImage)
    for layer in atlas.layers:
        for name in _LISTS_WITH_MAPS:
            images, positions = layer.array(f"{name}.image"), layer.array(f"{name}.position")
            for rank, channel in np.argwhere(images >= 0).tolist():
                one = listed[int(images[rank, channel])]
                one.channels[layer.path].add(channel)
                one.positions[layer.path].add(int(positions[rank, channel]))
        others = [layer.array(f"{name}.image") for name in _LISTS_WITHOUT_MAPS]
        sampled = layer.array("sample.image")
        for image in np.unique(np.concatenate([sampled, *map(np.ravel, others)])).tolist():
            if image >= 0:
                listed[image]  # a thumbnail, and no more
    return listed


class _ThumbnailWriter:
    def __init__(self, job: ScanJob, atlas: Atlas) -> None:
        self._model, self._dataset, self._plan = job.model, job.dataset, job.plan
        self._atlas = atlas
        self._listed = _listed_images(atlas)

    def fill(self, file: sqlite3.Connection, on_images: Callable[[int, int], None]) -> None:
        """Write all images that are not in the file yet."""
        done = {image for (image,) in file.execute("select image from images")}
        missing = np.array(sorted(set(self._listed) - done), np.int64)
        size = self._plan.batch
        batches = [missing[k : k + size] for k in range(0, len(missing), size)]
        count = len(self._listed) - len(missing)
        with self._model.eval_frozen():
            for indices, results in prefetch(self._decode, batches, default_workers(self._dataset)):
                self._write(file, [image for image in results if image is not None])
                count += len(indices)
                on_images(count, len(self._listed))

    def _write(self, file: sqlite3.Connection, images: list[_DecodedImage]) -> None:
        with file:  # one transaction
            file.executemany(
                "insert into images values (?,?,?,?,?,?,?,?)", [image.row for image in images]
            )
            crops = [crop for image in images for crop in image.crops]
            file.executemany("insert or ignore into crops values (?,?,?,?,?,?)", crops)
            maps = self._map_rows(images) if images else []
            file.executemany("insert into maps values (?,?,?,?,?,?,?,?,?,?)", maps)

    def _decode(self, indices: NDArray[np.int64]) -> list[_DecodedImage | None]:
        return [self._decode_one(int(index)) for index in indices]

    def _decode_one(self, index: int) -> _DecodedImage | None:
        try:
            batch = self._model.prepare(self._dataset.image(index), size=self._plan.size)
        except ImageError:  # it could be read when it was scanned
            return None
        view = batch.views[0] if batch.views is not None else _drawn(self._model, batch)
        original = view.original.image
        geometry = ResizeCrop(original.height, original.width, view.scale, view.offset)
        row = (
            index,
            original.height,
            original.width,
            *view.scale,
            *view.offset,
            _encoded(original, _THUMBNAIL_SIDE),
        )
        crops = list(self._crop_rows(index, original, geometry))
        return _DecodedImage(index, batch.values, row, crops)

    def _crop_rows(
        self, index: int, original: Image.Image, geometry: ResizeCrop
    ) -> Iterator[tuple[Any, ...]]:
        boxes = set()
        for path, positions in self._listed[index].positions.items():
            layer = self._atlas.layer(path)
            for position in positions:
                box = layer.input_box(divmod(position, layer.map_size[1]))
                if box is not None:
                    boxes.add(whole_pixels(geometry.to_original(box)))
        reduced = min(1.0, _THUMBNAIL_SIDE / max(original.size))
        for top, left, bottom, right in sorted(boxes):
            if max(bottom - top, right - left) * reduced < _SHARP_ENOUGH:
                crop = original.crop((left, top, right, bottom))
                yield index, top, left, bottom, right, _encoded(crop, _CROP_SIDE)

    def _map_rows(self, images: list[_DecodedImage]) -> list[tuple[Any, ...]]:
        """The feature maps of the channels that list these images."""
        channels = [self._listed[image.image].channels for image in images]
        rows: list[tuple[Any, ...]] = []

        def consume(path: str, activation: Tensor) -> None:
            pairs = [
                (k, c) for k, by_path in enumerate(channels) for c in sorted(by_path.get(path, ()))
            ]
            if not pairs:
                return
            at = torch.tensor(pairs, device=activation.device)
            maps = _as_maps(activation[at[:, 0], at[:, 1]], self._model.input.depth)
            for (k, channel), row in zip(pairs, _encoded_maps(maps), strict=True):
                rows.append((path, channel, images[k].image, *row))

        paths = sorted({path for by_path in channels for path in by_path})
        if paths:
            values = torch.cat([image.values for image in images])
            names = tuple(str(image.image) for image in images)
            self._model.stream(Batch(values, None, names, single=False), paths, consume)
        return rows


def _drawn(model: Model, batch: Batch) -> PreprocessedImage:
    """An array drawn as an image, at its own size."""
    image = Image.fromarray(model.preprocessed(batch)[0])
    return PreprocessedImage(DecodedImage(image, "array"), image, (1.0, 1.0), (0.0, 0.0))


def _encoded(image: Image.Image, side: int) -> bytes:
    """PNG for tiny images, where every pixel counts; else JPEG."""
    image = image.convert("RGB")
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    if max(image.size) <= _MAX_PNG_SIDE:
        image.save(stream, "png", compress_level=1)
    else:
        image.save(stream, "jpeg", quality=88)
    return stream.getvalue()


def _as_maps(values: Tensor, depth: int) -> Tensor:
    """``(P, H, W)``: features have one position; the slices of a volume are stacked."""
    if depth and values.ndim == 4:
        return torch.as_tensor(stack_slices(values, depth))
    if values.ndim == 1:
        return values[:, None, None]
    return values[:, None] if values.ndim == 2 else values.flatten(1, -2)


def _encoded_maps(maps: Tensor) -> Iterator[tuple[Any, ...]]:
    """Of each map ``(P, H, W)``: height, width, minimum, maximum, rows, columns, uint8 levels.

    Larger maps are reduced to at most 56×56; the levels are compressed.
    """
    size = (int(maps.shape[1]), int(maps.shape[2]))
    if max(size) > _MAP_SIDE:
        height, width = (min(side, max(1, round(side * _MAP_SIDE / max(size)))) for side in size)
        maps = F.adaptive_max_pool2d(maps[:, None], (height, width))[:, 0]
    values = maps.cpu().numpy()
    known = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    low, high = known.min((1, 2)), known.max((1, 2))
    span = np.maximum(high - low, 1e-30)[:, None, None]
    levels = np.rint((known - low[:, None, None]) / span * 255).astype(np.uint8)
    for k, one in enumerate(levels):
        yield *size, float(low[k]), float(high[k]), *one.shape, zlib.compress(one.tobytes(), 1)
