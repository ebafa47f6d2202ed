"""Thumbnails of the exemplars' images, what their units look at in them, and the units' maps.

A second, short pass over the images that are listed somewhere; it too goes on where it was stopped.
"""

from __future__ import annotations

import io
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
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
from convscope._atlas.folder import THUMBNAILS, disk_error
from convscope._atlas.geometry import Placed, pixels
from convscope._atlas.thumbnails import SCHEMA
from convscope._data import Dataset
from convscope._errors import AtlasError, ImageError
from convscope._images import Picture, View
from convscope._models import Batch, Model, stacked
from convscope._scan.loading import ahead, usual_workers
from convscope._scan.plan import Plan

THUMBNAIL = 192
ENOUGH = 64  # a crop that the thumbnail shows at so many pixels is not kept beside it
CROP = 128
MAP = 56
_SHOWN = ("top.mean", "top.peak")
_ONLY_NAMED = ("bottom.mean", "bottom.peak")


@dataclass
class Wanted:
    """What is wanted of one image: maps of channels by layer, and crops at positions."""

    channels: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    positions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class Made:
    """One image, decoded once: its values for the network and its rows for the file."""

    image: int
    values: Tensor
    row: tuple[Any, ...]
    crops: list[tuple[Any, ...]]


def make_gallery(
    model: Model,
    dataset: Dataset,
    plan: Plan,
    folder: Path,
    on_images: Callable[[int, int], None],
) -> None:
    """Write ``thumbnails.sqlite``, unless it is there."""
    final, unfinished = folder / THUMBNAILS, folder / f".{THUMBNAILS}.unfinished"
    if final.exists():
        return
    atlas = Atlas(folder)
    wanted = _wanted(atlas)
    try:
        with _database(unfinished) as file:
            done = {image for (image,) in file.execute("select image from images")}
            todo = np.array(sorted(set(wanted) - done), np.int64)
            _fill(model, dataset, plan, atlas, wanted, todo, file, on_images)
            file.execute("pragma journal_mode = delete")
        unfinished.replace(final)
    except sqlite3.OperationalError as error:
        raise AtlasError(
            f"{str(final)!r} cannot be written: {error}. The statistics are complete; make room, "
            "then run the same command again for the pictures"
        ) from None
    except OSError as error:
        raise disk_error(folder, error) from error


class _database:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        self._file = sqlite3.connect(self._path)
        self._file.executescript(SCHEMA)
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _wanted(atlas: Atlas) -> dict[int, Wanted]:
    """By image: all that lists show of it. Images that are only named get a thumbnail."""
    wanted: dict[int, Wanted] = defaultdict(Wanted)
    for layer in atlas.layers:
        for name in _SHOWN:
            images, places = layer.array(f"{name}.image"), layer.array(f"{name}.position")
            for rank, channel in np.argwhere(images >= 0).tolist():
                one = wanted[int(images[rank, channel])]
                one.channels[layer.path].add(channel)
                one.positions[layer.path].add(int(places[rank, channel]))
        named = [layer.array(f"{name}.image") for name in _ONLY_NAMED]
        sampled = layer.array("sample.image")
        for image in np.unique(np.concatenate([sampled, *map(np.ravel, named)])).tolist():
            if image >= 0:
                wanted[image]
    return wanted


def _fill(
    model: Model,
    dataset: Dataset,
    plan: Plan,
    atlas: Atlas,
    wanted: dict[int, Wanted],
    todo: NDArray[np.int64],
    file: sqlite3.Connection,
    on_images: Callable[[int, int], None],
) -> None:
    def make(indices: NDArray[np.int64]) -> list[Made | None]:
        return [_made(model, dataset, plan, atlas, int(k), wanted[int(k)]) for k in indices]

    batches = [todo[k : k + plan.batch] for k in range(0, len(todo), plan.batch)]
    done = len(wanted) - len(todo)
    with model.at_rest():
        for indices, found in ahead(make, batches, usual_workers(dataset)):
            made = [one for one in found if one is not None]
            with file:  # one transaction
                file.executemany(
                    "insert into images values (?,?,?,?,?,?,?,?)", [one.row for one in made]
                )
                crops = [crop for one in made for crop in one.crops]
                file.executemany("insert or ignore into crops values (?,?,?,?,?,?)", crops)
                maps = _maps(model, made, wanted) if made else []
                file.executemany("insert into maps values (?,?,?,?,?,?,?,?,?,?)", maps)
            done += len(indices)
            on_images(done, len(wanted))


def _made(
    model: Model, dataset: Dataset, plan: Plan, atlas: Atlas, index: int, wanted: Wanted
) -> Made | None:
    try:
        batch = model.prepare(dataset.image(index), size=plan.size)
    except ImageError:  # it was readable when it was scanned
        return None
    view = batch.views[0] if batch.views is not None else _drawn(model, batch)
    original = view.original.image
    placed = Placed(original.height, original.width, view.scale, view.offset)
    row = (
        index,
        original.height,
        original.width,
        *view.scale,
        *view.offset,
        _encoded(original, THUMBNAIL),
    )
    return Made(index, batch.values, row, list(_crops(atlas, index, view, placed, wanted)))


def _drawn(model: Model, batch: Batch) -> View:
    """Numbers as a picture of themselves, at their own size."""
    picture = Image.fromarray(model.preprocessed(batch)[0])
    return View(Picture(picture, "array"), picture, (1.0, 1.0), (0.0, 0.0))


def _crops(
    atlas: Atlas, index: int, view: View, placed: Placed, wanted: Wanted
) -> Iterator[tuple[Any, ...]]:
    boxes = set()
    for path, positions in wanted.positions.items():
        layer = atlas.layer(path)
        for place in positions:
            seen = layer.seen_box(divmod(place, layer.map_size[1]))
            if seen is not None:
                boxes.add(pixels(placed.to_original(seen)))
    image = view.original.image
    reduced = min(1.0, THUMBNAIL / max(image.size))
    for top, left, bottom, right in sorted(boxes):
        if max(bottom - top, right - left) * reduced >= ENOUGH:
            continue
        cut = image.crop((left, top, right, bottom))
        yield index, top, left, bottom, right, _encoded(cut, CROP)


def _encoded(image: Image.Image, longest: int) -> bytes:
    """PNG for what is tiny, where every pixel counts; else JPEG."""
    image = image.convert("RGB")
    if max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    if max(image.size) <= 48:
        image.save(stream, "png", compress_level=1)
    else:
        image.save(stream, "jpeg", quality=88)
    return stream.getvalue()


def _maps(model: Model, made: list[Made], wanted: dict[int, Wanted]) -> list[tuple[Any, ...]]:
    """The maps of the wanted channels, as rows."""
    values = torch.cat([one.values for one in made])
    paths = sorted({path for one in made for path in wanted[one.image].channels})
    rows: list[tuple[Any, ...]] = []

    def keep(path: str, activation: Tensor) -> None:
        pairs = [
            (k, channel)
            for k, one in enumerate(made)
            for channel in sorted(wanted[one.image].channels.get(path, ()))
        ]
        if not pairs:
            return
        where = torch.tensor(pairs, device=activation.device)
        chosen = _as_maps(activation[where[:, 0], where[:, 1]], model.input.depth)
        size, levels, low, high = _levels(chosen)
        rows.extend(
            (
                path,
                channel,
                made[k].image,
                *size,
                float(low[n]),
                float(high[n]),
                *levels.shape[1:],
                zlib.compress(levels[n].tobytes(), 1),
            )
            for n, (k, channel) in enumerate(pairs)
        )

    names = tuple(str(one.image) for one in made)
    if paths:
        model.stream(Batch(values, None, names, single=False), paths, keep)
    return rows


def _as_maps(chosen: Tensor, depth: int) -> Tensor:
    """``(P, H, W)``: features have one position, slices of volumes stand below each other."""
    if depth and chosen.ndim == 4:
        return torch.as_tensor(stacked(chosen, depth))
    if chosen.ndim == 1:
        return chosen[:, None, None]
    return chosen[:, None] if chosen.ndim == 2 else chosen.flatten(1, -2)


def _levels(maps: Tensor) -> tuple[tuple[int, int], NDArray[np.uint8], Any, Any]:
    """Size, uint8 levels ``(P, h, w)`` of maps reduced to at most 56×56, and their ends."""
    size = (int(maps.shape[1]), int(maps.shape[2]))
    if max(size) > MAP:
        height, width = (min(side, max(1, round(side * MAP / max(size)))) for side in size)
        maps = F.adaptive_max_pool2d(maps[:, None], (height, width))[:, 0]
    values = maps.cpu().numpy()
    known = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    low, high = known.min((1, 2)), known.max((1, 2))
    span = np.maximum(high - low, 1e-30)[:, None, None]
    levels = np.rint((known - low[:, None, None]) / span * 255).astype(np.uint8)
    return size, levels, low, high
