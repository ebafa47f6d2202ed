"""Sequences of rows with names: Hugging Face datasets, and torch Datasets of dictionaries."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convscope._data.wrapped import Wrapped
from convscope._errors import DatasetError, MissingDependency, UsageError, closest, one_line
from convscope._images import is_picture

_LABELS = ("label", "labels", "target", "class", "fine_label")


class Columns(Wrapped):
    """Rows ``{"image": picture, "label": number, …}``.

    ``image`` and ``label`` name the columns; by default the first that holds pictures, and the
    first that holds classes or bears a usual name. Only pictures that are asked for are decoded.
    """

    def __init__(
        self, rows: Any, name: str = "", image: str | None = None, label: str | None = None
    ) -> None:
        self._columns = list(getattr(rows, "column_names", None) or rows[0])
        features = getattr(rows, "features", None) or {}
        self._image = self._named(image) or self._of_pictures(rows, features)
        self._label = self._named(label) or self._of_classes(features)
        super().__init__(_Rows(rows, self._image, self._label, features), name or _called(rows))

    def _named(self, column: str | None) -> str | None:
        if column is not None and column not in self._columns:
            near = closest(column, self._columns)
            raise UsageError(f"No column {column!r}.{near} There are: {', '.join(self._columns)}")
        return column

    def _of_pictures(self, rows: Any, features: Mapping[str, Any]) -> str:
        typed = [n for n in self._columns if type(features.get(n)).__name__ == "Image"]
        row = {} if typed else rows[0]
        held = [n for n, v in row.items() if _is_image(v)]
        if not typed and not held:
            raise DatasetError(
                f"No column holds pictures. There are: {', '.join(self._columns)}. Name one: image="
            )
        return str((typed or held)[0])

    def _of_classes(self, features: Mapping[str, Any]) -> str | None:
        typed = [n for n in self._columns if hasattr(features.get(n), "names")]
        usual = [n for n in _LABELS if n in self._columns]
        return next(iter([*typed, *usual]), None)


class _Rows:
    """Rows as pictures, their labels read as a column of their own."""

    def __init__(
        self, rows: Any, image: str, label: str | None, features: Mapping[str, Any]
    ) -> None:
        self._rows, self._image = rows, image
        self.classes = getattr(features.get(label), "names", None) if label else None
        if label:
            whole = hasattr(rows, "column_names")
            self.targets = list(rows[label]) if whole else [row[label] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[int(index)][self._image]


def has_columns(items: Any) -> bool:
    """Whether a sequence holds rows with names."""
    if hasattr(items, "column_names") and hasattr(items, "__getitem__"):
        return True
    try:
        return isinstance(items, (list, tuple)) and isinstance(items[0], Mapping)
    except IndexError:
        return False


def from_hugging_face(name: str, options: Mapping[str, str]) -> Columns:
    """``huggingface:NAME,split=test``: by its name on the hub, or a folder of ``save_to_disk``."""
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
    return columns_of(rows, spec, options.get("image"), options.get("label"))


def columns_of(
    rows: Any, name: str = "", image: str | None = None, label: str | None = None
) -> Columns:
    """Rows as a dataset; of several parts one has to be chosen."""
    if isinstance(rows, Mapping):
        raise DatasetError(
            f"{name or 'This dataset'} has the parts {', '.join(rows)}. Choose one: "
            f"split={next(iter(rows))}"
        )
    return Columns(rows, name, image, label)


def _called(rows: Any) -> str:
    info = getattr(rows, "info", None)
    named = getattr(info, "dataset_name", None)
    return f"{named or type(rows).__name__} of {len(rows)}"


def _is_image(value: Any) -> bool:
    shape = np.shape(value) if hasattr(value, "dtype") else None
    return not isinstance(value, (str, Path)) and (
        is_picture(value) or (shape is not None and len(shape) >= 3)
    )
