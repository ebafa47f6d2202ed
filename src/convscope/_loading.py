"""Datasets → batches that a model takes; damaged pictures are counted and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._data import Dataset, Item, open_dataset
from convscope._errors import DatasetError, ImageError, UsageError, closest
from convscope._models import Batch, Model

Progress = Callable[[int, int], None]


@dataclass
class ImageLoader:
    """Some pictures of a dataset, in order, as a model sees them.

    - ``indices``: which ones; ``damaged``: those that could not be read, by id, as they are met
    """

    model: Model
    dataset: Dataset
    indices: NDArray[np.int64]
    size: int | tuple[int, int] | None = None
    most: int = 32
    damaged: dict[str, str] = field(default_factory=dict)

    def batches(
        self, progress: Progress = lambda done, of: None
    ) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        """The pictures' indices in the dataset, and the pictures; ``most`` at a time."""
        for start in range(0, len(self.indices), self.most):
            found = list(self._read(self.indices[start : start + self.most]))
            progress(min(start + self.most, len(self.indices)), len(self.indices))
            if found:
                kept = np.array([index for index, _ in found], np.int64)
                batch = self.model.prepare([one for _, one in found], size=self.size)
                yield kept, batch

    def _read(self, indices: NDArray[np.int64]) -> Iterator[tuple[int, Item]]:
        for index in map(int, indices):
            try:
                yield index, self.dataset.image(index)
            except ImageError as error:
                self.damaged[str(self.dataset.ids[index])] = str(error)

    def shown(self, index: int) -> Image.Image:
        """The picture at ``index`` of the dataset; numbers drawn as one."""
        item = self.dataset.image(index)
        if isinstance(item, Image.Image):
            return item
        return Image.fromarray(self.model.preprocessed(self.model.prepare(item))[0])

    def describe(self) -> str:
        """How many pictures of what, for a title."""
        whole, count = len(self.dataset), len(self.indices) - len(self.damaged)
        of = "" if len(self.indices) == whole else f" of {whole:,}"
        bad = f" ({len(self.damaged)} damaged, left out)" if self.damaged else ""
        return f"{count:,}{of} pictures of {self.dataset.name}{bad}"


def feed(
    model: Model,
    images: Any,
    *,
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    split: str | None = "test",
) -> ImageLoader:
    """The pictures of a dataset, a folder or a list; ``first`` so many, spread evenly over it.

    Data that bring a test split give that. Raises ``DatasetError`` where there is no picture.
    """
    source = images if isinstance(images, (str, Path, Dataset)) else _listed(images)
    dataset = open_dataset(source)
    dataset = (dataset.split(split) if split else None) or dataset
    count = len(dataset)
    if not count:
        raise DatasetError(f"{dataset.name!r} holds no picture")
    chosen = min(first or count, count)
    indices = np.unique(np.linspace(0, count - 1, chosen).round().astype(np.int64))
    return ImageLoader(model, dataset, indices, size)


def _listed(images: Any) -> Any:
    """One picture is a list of one."""
    return [images] if isinstance(images, Image.Image) else images


def labels_for(model: Model, dataset: Dataset, outputs: int, what: str) -> NDArray[np.int64]:
    """The dataset's labels as indices of the model's outputs, one a picture.

    Classes are matched by name; where either side has no names, or only numbers, by their order.
    Raises ``DatasetError`` for unlabeled data and for classes that do not match.
    """
    if dataset.labels is None:
        raise DatasetError(
            f"{dataset.name!r} is not labeled, and {what} needs labels. Sort its pictures into a "
            "folder for each class"
        )
    names, known = list(dataset.classes), list(model.input.classes)
    numbered = all(name.isdigit() for name in names)
    if not known or (numbered and not all(name.isdigit() for name in known)):
        if len(names) > outputs:
            raise DatasetError(
                f"{dataset.name!r} has {len(names)} classes and {model.name} {outputs} outputs. "
                "Give data of the classes it was trained on"
            )
        return dataset.labels
    return _by_name(model, dataset, [_plain(name) for name in known])[dataset.labels]


def _by_name(model: Model, dataset: Dataset, known: list[str]) -> NDArray[np.int64]:
    places = {name: place for place, name in reversed(list(enumerate(known)))}
    used = set(np.unique(np.asarray(dataset.labels)).tolist())
    missing = [n for k, n in enumerate(dataset.classes) if k in used and _plain(n) not in places]
    if missing:
        near = closest(missing[0], model.input.classes)
        raise DatasetError(
            f"Classes do not match: {dataset.name!r} has {missing[0]!r} "
            f"({len(missing)} of {len(used)} classes), which {model.name} does not know.{near} "
            "Rename its folders, or name the outputs: --classes FILE"
        )
    return np.array([places.get(_plain(name), -1) for name in dataset.classes], np.int64)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def outputs_of(scores: Any, model: Model) -> int:
    """How many classes a network's output has; raises where it is no classifier's."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise UsageError(
            f"{model.name} returns {tuple(scores.shape[1:])} for a picture, not one score a class"
        )
    return int(scores.shape[1])
