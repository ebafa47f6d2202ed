"""Datasets that live in Python already: sequences, and torch Datasets."""

from __future__ import annotations

import importlib
import inspect
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._data.base import Dataset, Item
from convscope._errors import (
    DatasetError,
    ImageError,
    MissingDependency,
    UsageError,
    closest,
    one_line,
)
from convscope._images import decode


class Wrapped(Dataset):
    """Any sequence of pictures, or of ``(picture, label)`` pairs, such as a torch Dataset.

    A picture is what ``decode`` takes; floats are taken as ready for the model. Labels are read
    from ``targets`` or ``labels`` where the sequence has them; else every pair is asked for its
    own, which may decode every picture.
    """

    parallel = False  # the caller's code may not be meant for it

    def __init__(self, items: Any, name: str = "") -> None:
        able = hasattr(items, "__len__") and hasattr(items, "__getitem__")
        if not able or isinstance(items, Mapping):
            raise DatasetError(
                f"A {type(items).__name__} is not a dataset. Give a path, 'shapes', or a sequence "
                "of pictures or of (picture, label) pairs"
            )
        self.items = items
        self.name = name or f"{type(items).__name__} of {len(items)}"
        self.ids = [str(i) for i in range(len(items))]
        if not self.ids:
            raise DatasetError(f"{self.name} is empty. Give at least one picture")
        self.classes, self.labels = indexed(_find_labels(items), _find_classes(items))
        self.numbers = _begins_with_floats(items)

    def image(self, index: int) -> Item:
        try:
            item = self.items[index]
        except Exception as error:  # the caller's code, reading the caller's files
            raise ImageError(
                f"Item {index} of {self.name} cannot be read: {one_line(error)}"
            ) from error
        item = _image_of(item)
        if _is_floats(item):
            held = item.detach().cpu() if hasattr(item, "detach") else item
            return np.ascontiguousarray(held, np.float32)
        return decode(item, name=f"item {index} of {self.name}").image

    def contents(self) -> bytes:
        """Checksums of sixteen pictures at equal steps: all of them might take hours."""
        chosen = np.unique(np.linspace(0, len(self) - 1, 16).round().astype(int))
        return str([_checksum(self, int(index)) for index in chosen]).encode()


def _image_of(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _is_floats(item: Any) -> bool:
    return "float" in str(getattr(item, "dtype", ""))


def _begins_with_floats(items: Any) -> bool:
    try:
        return _is_floats(_image_of(items[0]))
    except Exception:  # it cannot be read: whoever asks for that picture is told why
        return False


def _checksum(dataset: Dataset, index: int) -> int:
    try:
        return zlib.crc32(dataset.image(index).tobytes())
    except ImageError:
        return -1


def _find_labels(items: Any) -> Any:
    for key in ("targets", "labels", "_labels"):
        found = getattr(items, key, None)
        if found is not None and hasattr(found, "__len__") and len(found) == len(items):
            return found
    if hasattr(items, "dataset") and hasattr(items, "indices"):  # torch.utils.data.Subset
        labels = _find_labels(items.dataset)
        return None if labels is None else np.asarray(labels)[np.asarray(items.indices)]
    try:
        if not _is_pair(items[0]):
            return None
        return [items[i][1] for i in range(len(items))]
    except Exception:  # one cannot be read: whoever asks for that picture is told why
        return None


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2 and np.ndim(item[1]) == 0


def _find_classes(items: Any) -> Any:
    return getattr(items, "classes", None) or getattr(
        getattr(items, "dataset", None), "classes", None
    )


def indexed(labels: Any, names: Any) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
    """Class names and indices, from labels that are whole numbers from 0 up, or names."""
    values = np.asarray([] if labels is None else labels)
    if values.ndim != 1 or not len(values):
        return (), None
    if values.dtype.kind == "U":
        found, places = np.unique(values, return_inverse=True)
        return tuple(map(str, found)), places.astype(np.int64)
    if values.dtype.kind not in "iu" or values.min() < 0:
        return (), None
    known = names if names and len(names) > values.max() else range(int(values.max()) + 1)
    return tuple(map(str, known)), values.astype(np.int64)


class Torchvision(Wrapped):
    """``torchvision:NAME,root=…``: a dataset of torchvision's, from disk, never downloaded.

    It is the split that torchvision gives by default, most often the training split.
    """

    def __init__(self, kind: str, options: Mapping[str, str], split: str | None = None) -> None:
        self._made_from = (kind, options)
        wants = inspect.signature(_named(kind)).parameters
        self._has_parts = not split and bool({"train", "split"} & set(wants) - set(options))
        if self._has_parts and "train" in wants:
            split = "train"
        spec = ",".join([f"torchvision:{kind}", *(f"{k}={v}" for k, v in options.items())])
        super().__init__(_build(kind, options, split), f"{spec} ({split})" if split else spec)

    def split(self, name: str) -> Dataset | None:
        if not self._has_parts:
            return None
        try:
            return Torchvision(*self._made_from, name)
        except DatasetError:  # no such split, or its files are not there
            return None


def _named(name: str) -> Any:
    try:  # by its name: nothing here depends on torchvision until a user asks for it
        datasets = importlib.import_module("torchvision.datasets")
    except ImportError:
        raise MissingDependency("torchvision", f"torchvision:{name}") from None
    if name not in datasets.__all__:
        raise DatasetError(
            f"No dataset 'torchvision:{name}'.{closest(name, datasets.__all__)} "
            "See: https://docs.pytorch.org/vision/stable/datasets.html"
        )
    return getattr(datasets, name)


def _build(name: str, options: Mapping[str, str], split: str | None) -> Any:
    kind = _named(name)
    wants = inspect.signature(kind).parameters
    unknown = [key for key in options if key not in wants]
    if unknown:
        known = [key for key in wants if key not in ("transform", "target_transform", "download")]
        raise UsageError(
            f"torchvision:{name} does not take {unknown[0]!r}.{closest(unknown[0], known)} "
            f"It takes: {', '.join(known)}"
        )
    arguments: dict[str, Any] = {key: _value(text) for key, text in options.items()}
    if split and "train" in wants:
        arguments["train"] = split == "train"
    elif split and "split" in wants:
        arguments["split"] = split
    try:
        return kind(**arguments)
    except Exception as error:  # whatever a third party raises where its files are not
        raise DatasetError(
            f"torchvision:{name} cannot be opened: {one_line(error)}. "
            f"Give its folder: torchvision:{name},root=FOLDER"
        ) from None


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.isdecimal():
        return int(text)
    return str(Path(text).expanduser()) if text.startswith("~") else text
