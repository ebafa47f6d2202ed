"""The images of a training, in memory: the split to train on, and the one to test on."""

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

from convscope._data import Dataset, DatasetLike, split_dataset
from convscope._errors import ConvscopeError, DatasetError
from convscope._images import Preprocess

Normalize = Callable[[Tensor], Tensor]
_MAX_BYTES = 6 * 2**30
_SAMPLE = 5000  # images that mean and standard deviation are computed on


@dataclass(frozen=True, eq=False)
class TrainingSplit:
    """All images of a split.

    Attributes:
        name: The name of the split.
        images: uint8 ``(N, C, H, W)``.
        labels: ``(N,)``.
        skipped: Number of images that could not be read.
    """

    name: str
    images: Tensor
    labels: Tensor
    skipped: int

    def to_dict(self) -> dict[str, Any]:
        """Return its description in the metadata."""
        description: dict[str, Any] = {"name": self.name, "images": len(self.labels)}
        return description | ({"skipped": self.skipped} if self.skipped else {})

    def checksum(self) -> int:
        """Return the same for the same images and labels in the same order."""
        return zlib.crc32(self.labels.numpy().data, zlib.crc32(self.images.numpy().data))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Both splits, the names of the classes, and the preprocessing."""

    train: TrainingSplit
    test: TrainingSplit
    classes: tuple[str, ...]
    preprocess: Preprocess

    @property
    def channels(self) -> int:
        """Number of channels of the images: 1 or 3."""
        return int(self.train.images.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return int(self.train.images.shape[2]), int(self.train.images.shape[3])


def read_training_data(
    dataset: DatasetLike, size: int | tuple[int, int] | None, seed: int
) -> TrainingData:
    """Read all images into memory.

    Raises:
        DatasetError: The data are not labeled, too few or too many, or not images.
    """
    train, test = split_dataset(dataset, seed=seed)
    channels, height_width = _image_shape(train, size)
    splits = [_read_split(split, channels, height_width) for split in (train, test)]
    if len(splits[0].labels) < 2:
        raise DatasetError(f"{train.name} leaves one image to train on. Give at least three")
    return TrainingData(
        splits[0], splits[1], tuple(train.classes), _normalization(splits[0].images)
    )


def _image_shape(split: Dataset, size: int | tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    """Channels, and height and width, of all images: those of the first, or ``size``."""
    first = split.image(0)
    if not isinstance(first, Image.Image):
        raise DatasetError(
            f"{split.name} holds floats, and training takes images, which it scales and normalizes "
            "itself. Leave ToTensor and Normalize out of its transform"
        )
    height_width = (size, size) if isinstance(size, int) else size or (first.height, first.width)
    return 1 if first.mode == "L" else 3, height_width


def _read_split(split: Dataset, channels: int, size: tuple[int, int]) -> TrainingSplit:
    if split.labels is None:
        raise DatasetError(
            f"{split.name} is not labeled: training needs one sub-folder per class, or IDX labels"
        )
    if len(split) * channels * size[0] * size[1] > _MAX_BYTES:
        raise DatasetError(
            f"{split.name} at {size[0]}×{size[1]} is more than {_MAX_BYTES // 2**30} GiB. "
            f"Train on smaller images: --size {min(size) // 2}"
        )
    preprocess = Preprocess(size=size)
    pixels = np.zeros((len(split), channels, *size), np.uint8)
    readable = np.ones(len(split), bool)
    for index in range(len(split)):
        try:
            image = np.asarray(preprocess.view(split.image(index), channels).pixels)
        except ConvscopeError:
            readable[index] = False
            continue
        pixels[index] = image if image.ndim == 2 else np.moveaxis(image, 2, 0)
    if not readable.any():
        raise DatasetError(f"No image of {split.name} could be read")
    images, labels = torch.from_numpy(pixels[readable]), torch.from_numpy(split.labels[readable])
    return TrainingSplit(Path(split.name).name, images, labels, int((~readable).sum()))


def _normalization(images: Tensor) -> Preprocess:
    """Mean and standard deviation per channel, of a sample of the images."""
    sample = images[:: max(1, len(images) // _SAMPLE)].double() / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)
    return Preprocess(
        size=(int(images.shape[2]), int(images.shape[3])),
        mean=tuple(round(float(m), 4) for m in mean),
        std=tuple(round(float(s), 4) for s in std),
    )


def normalizer(preprocess: Preprocess) -> Normalize:
    """Return the function from uint8 images to the input of the network."""
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))

    def normalize(images: Tensor) -> Tensor:
        values = (images.float() / 255 - mean) / std
        return values.contiguous(memory_format=torch.channels_last)

    return normalize
