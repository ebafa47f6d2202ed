"""Sequences in Python: lists, torch Datasets, torchvision's and Hugging Face's datasets."""

from __future__ import annotations

import importlib
import inspect
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convscope._data.dataset import Dataset, Item, index_labels
from convscope._errors import (
    DatasetError,
    ImageError,
    MissingDependency,
    UsageError,
    closest,
    one_line,
)
from convscope._images import decode, is_image

_LABEL_COLUMNS = ("label", "labels", "target", "class", "fine_label")
_LABEL_ATTRIBUTES = ("targets", "labels", "_labels")
_CHECKED_IMAGES = 16


class SequenceDataset(Dataset):
    """Any sequence of images, or of ``(image, label)`` pairs, such as a torch Dataset.

    An image is anything that ``decode`` takes; floats are taken as ready for the model. Labels are
    read from ``targets`` or ``labels`` where the sequence has them, else from every pair, which may
    decode every image.

    Args:
        items: The sequence.
        name: Its name, for titles.
    """

    thread_safe = False  # the caller's code may not be

    def __init__(self, items: Any, name: str = "") -> None:
        sized = hasattr(items, "__len__") and hasattr(items, "__getitem__")
        if not sized or isinstance(items, Mapping):
            raise DatasetError(
                f"A {type(items).__name__} is not a dataset. Give a path, 'shapes', or a sequence "
                "of images or of (image, label) pairs"
            )
        self.items = items
        self.name = name or f"{type(items).__name__} of {len(items)}"
        self.ids = [str(i) for i in range(len(items))]
        if not self.ids:
            raise DatasetError(f"{self.name} is empty. Give at least one image")
        self.classes, self.labels = index_labels(_find_labels(items), _find_class_names(items))
        self.preprocessed = _starts_with_floats(items)

    def image(self, index: int) -> Item:
        try:
            item = self.items[index]
        except Exception as error:  # the caller's code, reading the caller's files
            raise ImageError(
                f"Item {index} of {self.name} cannot be read: {one_line(error)}"
            ) from error
        item = _without_label(item)
        if _is_float(item):
            array = item.detach().cpu() if hasattr(item, "detach") else item
            return np.ascontiguousarray(array, np.float32)
        return decode(item, name=f"item {index} of {self.name}").image

    def content_summary(self) -> bytes:
        """Checksums of sixteen evenly spaced images: all of them might take hours."""
        chosen = np.unique(np.linspace(0, len(self) - 1, _CHECKED_IMAGES).round().astype(int))
        return str([_checksum(self, int(index)) for index in chosen]).encode()


def _without_label(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _is_float(item: Any) -> bool:
    return "float" in str(getattr(item, "dtype", ""))


def _starts_with_floats(items: Any) -> bool:
    try:
        return _is_float(_without_label(items[0]))
    except Exception:  # it cannot be read: whoever reads that image gets the reason
        return False


def _checksum(dataset: Dataset, index: int) -> int:
    try:
        return zlib.crc32(dataset.image(index).tobytes())
    except ImageError:
        return -1


def _find_labels(items: Any) -> Any:
    for key in _LABEL_ATTRIBUTES:
        labels = getattr(items, key, None)
        if labels is not None and hasattr(labels, "__len__") and len(labels) == len(items):
            return labels
    if hasattr(items, "dataset") and hasattr(items, "indices"):  # torch.utils.data.Subset
        labels = _find_labels(items.dataset)
        return None if labels is None else np.asarray(labels)[np.asarray(items.indices)]
    try:
        if not _is_pair(items[0]):
            return None
        return [items[i][1] for i in range(len(items))]
    except Exception:  # one cannot be read: whoever reads that image gets the reason
        return None


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2 and np.ndim(item[1]) == 0


def _find_class_names(items: Any) -> Any:
    return getattr(items, "classes", None) or getattr(
        getattr(items, "dataset", None), "classes", None
    )


class TorchvisionDataset(SequenceDataset):
    """``torchvision:NAME,root=…``: one of torchvision's datasets, from disk, never downloaded.

    It is the split that torchvision gives by default, usually the training split.
    """

    def __init__(self, kind: str, options: Mapping[str, str], split: str | None = None) -> None:
        self._spec = (kind, options)
        parameters = inspect.signature(_torchvision_class(kind)).parameters
        self._has_splits = not split and bool({"train", "split"} & set(parameters) - set(options))
        if self._has_splits and "train" in parameters:
            split = "train"
        name = ",".join([f"torchvision:{kind}", *(f"{k}={v}" for k, v in options.items())])
        items = _build_torchvision(kind, options, split)
        super().__init__(items, f"{name} ({split})" if split else name)

    def split(self, name: str) -> Dataset | None:
        if not self._has_splits:
            return None
        try:
            return TorchvisionDataset(*self._spec, name)
        except DatasetError:  # no such split, or its files are missing
            return None


def _torchvision_class(name: str) -> Any:
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


def _build_torchvision(name: str, options: Mapping[str, str], split: str | None) -> Any:
    cls = _torchvision_class(name)
    parameters = inspect.signature(cls).parameters
    unknown = [key for key in options if key not in parameters]
    if unknown:
        hidden = ("transform", "target_transform", "download")
        known = [key for key in parameters if key not in hidden]
        raise UsageError(
            f"torchvision:{name} does not take {unknown[0]!r}.{closest(unknown[0], known)} "
            f"It takes: {', '.join(known)}"
        )
    arguments: dict[str, Any] = {key: _parse_value(text) for key, text in options.items()}
    if split and "train" in parameters:
        arguments["train"] = split == "train"
    elif split and "split" in parameters:
        arguments["split"] = split
    try:
        return cls(**arguments)
    except Exception as error:  # whatever a third party raises where its files are missing
        raise DatasetError(
            f"torchvision:{name} cannot be opened: {one_line(error)}. "
            f"Give its folder: torchvision:{name},root=FOLDER"
        ) from None


def _parse_value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.isdecimal():
        return int(text)
    return str(Path(text).expanduser()) if text.startswith("~") else text


class ColumnDataset(SequenceDataset):
    """Rows with named columns: ``{"image": image, "label": 3, …}``.

    Only images that are read are decoded.

    Args:
        rows: A Hugging Face dataset, or a sequence of dictionaries.
        name: Its name, for titles.
        image: The column of images; by default the first that holds images.
        label: The column of labels; by default the first that holds classes or has a usual name.
    """

    def __init__(
        self, rows: Any, name: str = "", image: str | None = None, label: str | None = None
    ) -> None:
        self._columns = list(getattr(rows, "column_names", None) or rows[0])
        features = getattr(rows, "features", None) or {}
        self._image = self._check_column(image) or self._find_image_column(rows, features)
        self._label = self._check_column(label) or self._find_label_column(features)
        super().__init__(
            _ImageColumn(rows, self._image, self._label, features), name or _name(rows)
        )

    def _check_column(self, column: str | None) -> str | None:
        if column is not None and column not in self._columns:
            near = closest(column, self._columns)
            raise UsageError(f"No column {column!r}.{near} Columns: {', '.join(self._columns)}")
        return column

    def _find_image_column(self, rows: Any, features: Mapping[str, Any]) -> str:
        typed = [n for n in self._columns if type(features.get(n)).__name__ == "Image"]
        first_row = {} if typed else rows[0]
        holding = [n for n, value in first_row.items() if _is_image(value)]
        if not typed and not holding:
            raise DatasetError(
                f"No column holds images. Columns: {', '.join(self._columns)}. Name one: image="
            )
        return str((typed or holding)[0])

    def _find_label_column(self, features: Mapping[str, Any]) -> str | None:
        typed = [n for n in self._columns if hasattr(features.get(n), "names")]
        usual = [n for n in _LABEL_COLUMNS if n in self._columns]
        return next(iter([*typed, *usual]), None)


class _ImageColumn:
    """The images of rows as a sequence; their labels, read as a column, are its ``targets``."""

    def __init__(
        self, rows: Any, image: str, label: str | None, features: Mapping[str, Any]
    ) -> None:
        self._rows, self._image = rows, image
        self.classes = getattr(features.get(label), "names", None) if label else None
        if label:
            columnar = hasattr(rows, "column_names")
            self.targets = list(rows[label]) if columnar else [row[label] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[int(index)][self._image]


def has_columns(items: Any) -> bool:
    """Whether a sequence holds rows with named columns."""
    if hasattr(items, "column_names") and hasattr(items, "__getitem__"):
        return True
    try:
        return isinstance(items, (list, tuple)) and isinstance(items[0], Mapping)
    except IndexError:
        return False


def open_hugging_face(name: str, options: Mapping[str, str]) -> ColumnDataset:
    """Open ``huggingface:NAME,split=test``: by name from the hub, or a ``save_to_disk`` folder."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise MissingDependency("datasets", f"huggingface:{name}") from None
    unknown = [key for key in options if key not in ("split", "config", "image", "label")]
    if unknown:
        raise UsageError(
            f"huggingface:{name} does not take {unknown[0]!r}. It takes: split, config, image, "
            "label"
        )
    split = options.get("split")
    try:
        if Path(name).expanduser().is_dir() and not split:
            rows = datasets.load_from_disk(str(Path(name).expanduser()))
        else:
            rows = datasets.load_dataset(name, options.get("config"), split=split)
    except Exception as error:  # whatever a third party raises where there is nothing
        raise DatasetError(f"huggingface:{name} cannot be opened: {one_line(error)}") from None
    spec = ",".join([f"huggingface:{name}", *(f"{k}={v}" for k, v in options.items())])
    return open_columns(rows, spec, options.get("image"), options.get("label"))


def open_columns(
    rows: Any, name: str = "", image: str | None = None, label: str | None = None
) -> ColumnDataset:
    """Rows as a dataset; of several splits the user has to choose one."""
    if isinstance(rows, Mapping):
        raise DatasetError(
            f"{name or 'This dataset'} has the splits {', '.join(rows)}. Choose one: "
            f"split={next(iter(rows))}"
        )
    return ColumnDataset(rows, name, image, label)


def _name(rows: Any) -> str:
    info = getattr(rows, "info", None)
    return f"{getattr(info, 'dataset_name', None) or type(rows).__name__} of {len(rows)}"


def _is_image(value: Any) -> bool:
    shape = np.shape(value) if hasattr(value, "dtype") else None
    return not isinstance(value, (str, Path)) and (
        is_image(value) or (shape is not None and len(shape) >= 3)
    )
