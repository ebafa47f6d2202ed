"""The pictures of a training, in memory: what is learned from, and what is tested on."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convscope._data import Dataset, split_dataset
from convscope._errors import ConvscopeError, DatasetError
from convscope._images import Preprocess

Normalize = Callable[[Tensor], Tensor]
_MEMORY_LIMIT = 6 * 2**30


@dataclass(frozen=True, eq=False)
class Part:
    """All pictures of a dataset as uint8 ``(N, C, H, W)``, and their labels.

    ``skipped`` counts those that could not be read.
    """

    name: str
    images: Tensor
    labels: Tensor
    skipped: int

    def to_dict(self) -> dict[str, Any]:
        """What the metadata says of it."""
        said: dict[str, Any] = {"name": self.name, "images": len(self.labels)}
        return said | ({"skipped": self.skipped} if self.skipped else {})

    def checksum(self) -> int:
        """The same for the same pictures and labels in the same order."""
        return zlib.crc32(self.labels.numpy().data, zlib.crc32(self.images.numpy().data))


@dataclass(frozen=True, eq=False)
class Material:
    """Both parts, the names of the classes, and what is done to a picture."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    preprocess: Preprocess

    @property
    def channels(self) -> int:
        """Of the pictures: 1 or 3."""
        return int(self.train.images.shape[1])

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return int(self.train.images.shape[2]), int(self.train.images.shape[3])


def read_material(
    dataset: str | Path | Dataset, size: int | tuple[int, int] | None, seed: int
) -> Material:
    """Read all pictures; those of the test part are never trained on."""
    train, test = split_dataset(dataset, seed=seed)
    shape = _shape(train, size)
    learned, tested = _read(train, *shape), _read(test, *shape)
    if len(learned.labels) < 2:
        raise DatasetError(f"{train.name} leaves one picture to train on. Give at least three")
    return Material(learned, tested, tuple(train.classes), _statistics(learned.images))


def _shape(part: Dataset, size: int | tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    """Channels and sides that all pictures get: those of the first, unless ``size`` says else."""
    first = part.image(0)
    if not isinstance(first, Image.Image):
        raise DatasetError(
            f"{part.name} holds floats, and training here takes pictures: it scales and normalizes "
            "them itself. Leave ToTensor and Normalize out of its transform"
        )
    sides = (size, size) if isinstance(size, int) else size or (first.height, first.width)
    return 1 if first.mode == "L" else 3, sides


def _read(part: Dataset, channels: int, sides: tuple[int, int]) -> Part:
    if part.labels is None:
        raise DatasetError(
            f"{part.name} is not labeled: training needs one sub-folder per class, or IDX labels"
        )
    if len(part) * channels * sides[0] * sides[1] > _MEMORY_LIMIT:
        raise DatasetError(
            f"{part.name} at {sides[0]}×{sides[1]} is more than {_MEMORY_LIMIT // 2**30} GiB. "
            f"Train on smaller pictures: --size {min(sides) // 2}"
        )
    shape = Preprocess(size=sides)
    pixels = np.zeros((len(part), channels, *sides), np.uint8)
    kept = np.ones(len(part), bool)
    for index in range(len(part)):
        try:
            seen = np.asarray(shape.view(part.image(index), channels).seen)
        except ConvscopeError:
            kept[index] = False
            continue
        pixels[index] = seen if seen.ndim == 2 else np.moveaxis(seen, 2, 0)
    if not kept.any():
        raise DatasetError(f"No image of {part.name} could be read")
    images, labels = torch.from_numpy(pixels[kept]), torch.from_numpy(part.labels[kept])
    return Part(Path(part.name).name, images, labels, int((~kept).sum()))


def _statistics(images: Tensor) -> Preprocess:
    """Mean and standard deviation per channel, over a sample of the training pictures."""
    sample = images[:: max(1, len(images) // 5000)].double() / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)
    return Preprocess(
        size=(int(images.shape[2]), int(images.shape[3])),
        mean=tuple(round(float(m), 4) for m in mean),
        std=tuple(round(float(s), 4) for s in std),
    )


def normalizer(preprocess: Preprocess) -> Normalize:
    """From uint8 pictures to what the network is given."""
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))

    def normalize(pixels: Tensor) -> Tensor:
        values = (pixels.float() / 255 - mean) / std
        return values.contiguous(memory_format=torch.channels_last)

    return normalize
