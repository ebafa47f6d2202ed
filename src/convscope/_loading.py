"""From datasets to batches that a model takes; images that cannot be read are counted and left out.

There are two loaders. ``ImageLoader`` reads and prepares images in the caller's thread, batch by
batch: for the few hundred images that most capabilities look at. ``prefetch_batches`` decodes in
other threads, ahead of the network: for scans of whole datasets.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope._data import Dataset, DatasetLike, Item, open_dataset
from convscope._errors import DatasetError, ImageError, UsageError, closest
from convscope._models import Batch, Model

Progress = Callable[[int, int], None]
"""Called with the number of images done, and of all images."""
ImagesLike = DatasetLike | Image.Image
"""What ``open_images`` takes: anything ``open_dataset`` takes, or one image."""
Indices = NDArray[np.int64]
Result = TypeVar("Result")

_BATCHES_AHEAD = 2  # more would only take memory
_IMAGES_PER_TASK = 8
_MAX_WORKERS = 8


@dataclass
class ImageLoader:
    """Some images of a dataset, in order, in batches prepared for a model.

    Attributes:
        model: The model whose preprocessing applies.
        dataset: Where the images come from.
        indices: Which images, int64 ``(N,)``.
        size: The input size, if not the model's own.
        batch_size: The number of images in a batch.
        damaged: Images that could not be read so far: the reason by id.
    """

    model: Model
    dataset: Dataset
    indices: Indices
    size: int | tuple[int, int] | None = None
    batch_size: int = 32
    damaged: dict[str, str] = field(default_factory=dict)

    def batches(
        self, progress: Progress = lambda done, total: None
    ) -> Iterator[tuple[Indices, Batch]]:
        """Batches of images, with the images' indices in the dataset."""
        for start in range(0, len(self.indices), self.batch_size):
            read = list(self._read(self.indices[start : start + self.batch_size]))
            progress(min(start + self.batch_size, len(self.indices)), len(self.indices))
            if read:
                indices = np.array([index for index, _ in read], np.int64)
                yield indices, self.model.prepare([item for _, item in read], size=self.size)

    def _read(self, indices: Indices) -> Iterator[tuple[int, Item]]:
        for index in map(int, indices):
            try:
                yield index, self.dataset.image(index)
            except ImageError as error:
                self.damaged[str(self.dataset.ids[index])] = str(error)

    def display_image(self, index: int) -> Image.Image:
        """The image at ``index`` of the dataset; an array drawn as one."""
        item = self.dataset.image(index)
        if isinstance(item, Image.Image):
            return item
        return Image.fromarray(self.model.preprocessed(self.model.prepare(item))[0])

    def describe(self) -> str:
        """The number of images and their dataset, for a title."""
        total, count = len(self.dataset), len(self.indices) - len(self.damaged)
        of_total = "" if len(self.indices) == total else f" of {total:,}"
        damaged = f" ({len(self.damaged)} damaged, left out)" if self.damaged else ""
        return f"{count:,}{of_total} images of {self.dataset.name}{damaged}"


def open_images(
    model: Model,
    images: ImagesLike,
    *,
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    split: str | None = "test",
) -> ImageLoader:
    """A loader for the images of a dataset, a folder or a list.

    Args:
        model: The model whose preprocessing applies.
        images: Anything ``open_dataset`` takes, or one image.
        first: The number of images, spread evenly over the dataset; by default all.
        size: The input size, if not the model's own.
        split: The split to use, of data that have one of that name.

    Returns:
        The loader.

    Raises:
        DatasetError: There is no image.
    """
    dataset = open_dataset([images] if isinstance(images, Image.Image) else images)
    dataset = (dataset.split(split) if split else None) or dataset
    total = len(dataset)
    if not total:
        raise DatasetError(f"{dataset.name!r} holds no image")
    count = min(first or total, total)
    indices = np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))
    return ImageLoader(model, dataset, indices, size)


@dataclass(frozen=True)
class PreparedBatch:
    """One batch that was decoded ahead.

    Attributes:
        images: The images' indices in the dataset, int64 ``(n,)``.
        values: Model inputs, float32 ``(n, C, H, W)``.
        skipped: Index and reason of each image that could not be read.
    """

    images: Indices
    values: Tensor
    skipped: list[tuple[int, str]]


def default_workers(dataset: Dataset) -> int:
    """The number of decoding threads: the available cores, at most 8; one for a caller's code."""
    if not dataset.thread_safe:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return min(_MAX_WORKERS, len(os.sched_getaffinity(0)))
    return min(_MAX_WORKERS, os.cpu_count() or 1)


def prefetch_batches(
    model: Model,
    dataset: Dataset,
    size: tuple[int, int],
    batches: Iterable[Indices],
    workers: int | None = None,
) -> Iterator[PreparedBatch]:
    """Batches in order, each decoded and preprocessed while earlier ones are computed.

    Args:
        model: The model whose preprocessing applies.
        dataset: Where the images come from.
        size: Height and width of the input.
        batches: The images' indices, batch by batch.
        workers: The number of decoding threads.
    """

    def prepare(indices: Indices) -> list[Tensor | str]:
        return [_prepared(model, dataset, int(index), size) for index in indices]

    for indices, results in prefetch(prepare, batches, workers or default_workers(dataset)):
        read = [k for k, result in enumerate(results) if isinstance(result, Tensor)]
        values = [result for result in results if isinstance(result, Tensor)]
        skipped = [
            (int(index), result)
            for index, result in zip(indices, results, strict=True)
            if isinstance(result, str)
        ]
        yield PreparedBatch(indices[read], torch.cat(values) if values else torch.empty(0), skipped)


def _prepared(model: Model, dataset: Dataset, index: int, size: tuple[int, int]) -> Tensor | str:
    """An image as model input, or the reason why it cannot be."""
    try:
        return model.prepare(dataset.image(index), size=size).values
    except ImageError as error:
        return str(error)


def prefetch(
    work: Callable[[Indices], list[Result]], batches: Iterable[Indices], workers: int
) -> Iterator[tuple[Indices, list[Result]]]:
    """Apply ``work`` to each batch, in several threads, a few batches ahead; in order."""
    with ThreadPoolExecutor(workers, "decode") as pool:
        waiting: deque[tuple[Indices, list[Future[list[Result]]]]] = deque()
        try:
            for indices in batches:
                starts = range(0, len(indices), _IMAGES_PER_TASK)
                tasks = [pool.submit(work, indices[k : k + _IMAGES_PER_TASK]) for k in starts]
                waiting.append((indices, tasks))
                if len(waiting) > _BATCHES_AHEAD:
                    yield _gathered(*waiting.popleft())
            while waiting:
                yield _gathered(*waiting.popleft())
        finally:  # also where the consumer stops in the middle
            pool.shutdown(wait=True, cancel_futures=True)


def _gathered(indices: Indices, tasks: list[Future[list[Result]]]) -> tuple[Indices, list[Result]]:
    return indices, [result for task in tasks for result in task.result()]


def match_labels(model: Model, dataset: Dataset, outputs: int, purpose: str) -> Indices:
    """The dataset's labels as indices of the model's outputs, one for each image.

    Classes are matched by name; where either side has no names, or only numbers, by their order.

    Args:
        model: A classifier.
        dataset: Labeled images.
        outputs: The number of the model's classes.
        purpose: What needs the labels, for the message.

    Returns:
        Indices of outputs, int64 ``(N,)``.

    Raises:
        DatasetError: The data have no labels, or their classes do not match the model's.
    """
    if dataset.labels is None:
        raise DatasetError(
            f"{dataset.name!r} is not labeled, and {purpose} needs labels. Sort its images into a "
            "folder for each class"
        )
    names, known = list(dataset.classes), list(model.input.classes)
    numbered = all(name.isdigit() for name in names)
    if not known or (numbered and not all(name.isdigit() for name in known)):
        if len(names) > outputs:
            raise DatasetError(
                f"{dataset.name!r} has {len(names)} classes and {model.name} {outputs} outputs. "
                "Give data with the classes it was trained on"
            )
        return dataset.labels
    return _match_by_name(model, dataset, [_normalized(name) for name in known])[dataset.labels]


def _match_by_name(model: Model, dataset: Dataset, known: list[str]) -> Indices:
    outputs = {name: output for output, name in reversed(list(enumerate(known)))}
    used = set(np.unique(np.asarray(dataset.labels)).tolist())
    missing = [
        name
        for k, name in enumerate(dataset.classes)
        if k in used and _normalized(name) not in outputs
    ]
    if missing:
        near = closest(missing[0], model.input.classes)
        raise DatasetError(
            f"Classes do not match: {dataset.name!r} has {missing[0]!r} "
            f"({len(missing)} of {len(used)} classes), which {model.name} does not have.{near} "
            "Rename its folders, or name the outputs: --classes FILE"
        )
    return np.array([outputs.get(_normalized(name), -1) for name in dataset.classes], np.int64)


def _normalized(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def class_count(logits: Any, model: Model) -> int:
    """The number of classes of a network's output ``(N, classes)``.

    Raises:
        UsageError: The network is not a classifier.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise UsageError(
            f"{model.name} returns {tuple(logits.shape[1:])} for an image, not one score per class"
        )
    return int(logits.shape[1])
