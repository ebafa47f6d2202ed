"""IDX files: MNIST, Fashion-MNIST, KMNIST."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._data.dataset import Dataset, Subset
from convscope._errors import DatasetError, one_line

_STEMS = {"train": "train", "test": "t10k"}
_FOLDERS = ("", "raw", "MNIST/raw")  # the last as torchvision leaves it


def find_idx_folder(root: Path) -> Path | None:
    """``root`` or the folder below it that holds IDX images."""
    folders = (root / folder for folder in _FOLDERS)
    return next((folder for folder in folders if _splits_in(folder)), None)


def _splits_in(folder: Path) -> list[str]:
    """The splits of which the folder has images."""
    return [split for split, stem in _STEMS.items() if _find_file(folder, stem, "images")]


def _find_file(folder: Path, stem: str, kind: str) -> Path | None:
    suffix = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}[kind]
    names = (f"{stem}-{kind}{mark}{suffix}{zipped}" for mark in "-." for zipped in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


class IdxDataset(Dataset):
    """A folder of IDX files, gzipped or not: ``train-…``, ``t10k-…``, labels optional."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.name = str(root)
        splits = [_IdxSplit(folder, name) for name in _splits_in(folder)]
        sizes = {split.images.shape[1:] for split in splits}
        if len(sizes) > 1 or not sum(len(split.images) for split in splits):
            shapes = ", ".join("×".join(map(str, split.images.shape)) for split in splits)
            raise DatasetError(
                f"{self.name!r} holds IDX images of {shapes}: not images of one size"
            )
        self._images = np.concatenate([split.images for split in splits])
        self.ids = [id for split in splits for id in split.ids]
        self._split_names = np.array([split.name for split in splits for _ in split.ids])
        self._split_labels = {split.name: split.labels for split in splits}
        known = [split.labels for split in splits if split.labels is not None]
        highest = max((int(labels.max(initial=0)) for labels in known), default=-1)
        self._classes = tuple(str(k) for k in range(highest + 1))
        if len(known) == len(splits):
            self.classes, self.labels = self._classes, np.concatenate(known)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._images[index])

    def content_summary(self) -> bytes:
        return str(zlib.crc32(self._images.tobytes())).encode()

    def split(self, name: str) -> Dataset | None:
        chosen = np.flatnonzero(self._split_names == name)
        if not len(chosen):
            return None
        split = Subset(self, chosen, f"{self.name} ({name})")
        split.labels = self._split_labels[name]
        split.classes = () if split.labels is None else self._classes
        return split


class _IdxSplit:
    """The images of one split, and their labels where there are any."""

    def __init__(self, folder: Path, name: str) -> None:
        stem = _STEMS[name]
        images, labels = _find_file(folder, stem, "images"), _find_file(folder, stem, "labels")
        assert images is not None  # the caller looked
        self.name = name
        self.images = read_idx(images, dimensions=3)
        self.ids = [f"{stem}/{i}" for i in range(len(self.images))]
        self.labels = None if labels is None else read_idx(labels, dimensions=1).astype(np.int64)
        if labels and self.labels is not None and len(self.labels) != len(self.images):
            raise DatasetError(
                f"{str(labels)!r} has {len(self.labels)} labels for the {len(self.images)} images "
                f"of {images.name}. Fetch both again"
            )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in one IDX file: two zero bytes, a type, a rank, big-endian sizes, the data."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            raw = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{str(path)!r} cannot be read: {one_line(error)}. Fetch it again"
        ) from None
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise DatasetError(
            f"{str(path)!r} is not an IDX file of {dimensions}-dimensional bytes: it begins with "
            f"{raw[:4]!r}, not {bytes([0, 0, 8, dimensions])!r}. Fetch it again"
        )
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise DatasetError(
            f"{str(path)!r} has {len(raw) - header} bytes of data where its header says "
            f"{math.prod(shape)}. Fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
