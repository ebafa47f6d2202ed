"""From what a user gives to a ``Dataset``."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from convscope._data.dataset import Dataset, DatasetLike, Subset
from convscope._data.idx import IdxDataset, find_idx_folder
from convscope._data.image_files import (
    ImageArchive,
    ImageFolder,
    WebDataset,
    is_webdataset,
    match_shards,
)
from convscope._data.sequences import (
    SequenceDataset,
    TorchvisionDataset,
    has_columns,
    open_columns,
    open_hugging_face,
)
from convscope._data.shapes import Shapes
from convscope._errors import DatasetError, UsageError, closest, one_line

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_KINDS = "Give a folder of images, a .zip or .tar, a folder of IDX files, or 'shapes'"
_SPLITS = ("train", "test")


def open_dataset(spec: DatasetLike, *, split: str | None = None) -> Dataset:
    """Open a dataset. Images are read when they are needed.

    A dataset is one of:

    - a folder of images, class sub-folders optional, or a ``.zip`` or ``.tar`` of one
    - a folder of IDX files, such as MNIST
    - WebDataset shards: ``train-{000..099}.tar``, ``'shards/*.tar'``
    - ``torchvision:NAME,root=…``: its training split, unless ``split`` is given
    - ``huggingface:NAME,split=…[,config=…,image=COLUMN,label=COLUMN]``; NAME may be a folder that
      ``save_to_disk`` wrote
    - ``shapes[,count=…,size=…,seed=…]``: drawn shapes
    - in Python, a sequence of images, of ``(image, label)`` pairs, such as a torch Dataset, or of
      rows with named columns, such as a Hugging Face dataset

    Args:
        spec: The dataset, as above; a ``Dataset`` is returned as it is.
        split: ``"train"`` or ``"test"``, for data with both; data without splits give all images.

    Returns:
        The dataset.

    Raises:
        DatasetError: There is no such dataset or split, or it has no image.
        UsageError: An option is unknown.
    """
    if split not in (None, *_SPLITS):
        raise UsageError(f"No split {split!r}. Splits: 'train', 'test'")
    whole = _open(spec)
    splits = {name: whole.split(name) for name in _SPLITS} if split else {}
    if split is None or not any(splits.values()):
        return whole
    chosen = splits[split]
    if chosen is None:
        (other,) = [name for name, found in splits.items() if found]
        raise DatasetError(f"{whole.name!r} has no {split} split; it has only {other!r}")
    return chosen


def split_dataset(spec: DatasetLike, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Open the training and the test split of a dataset.

    The data's own splits are used if both are labeled, or neither is. Otherwise a random tenth is
    held out as the test split.

    Args:
        spec: Anything ``open_dataset`` takes.
        seed: Which images are held out.

    Returns:
        The training split and the test split.

    Raises:
        DatasetError: There are fewer than two images.
    """
    whole = _open(spec)
    train, test = whole.split("train"), whole.split("test")
    if train and test and (train.labels is None) == (test.labels is None):
        return train, test
    whole = train or whole
    if len(whole) < 2:
        raise DatasetError(f"{whole.name!r} has {len(whole)} image; a split needs at least two")
    order = np.random.default_rng(seed).permutation(len(whole))
    held_out = max(1, len(whole) // 10)
    return (
        Subset(whole, np.sort(order[held_out:]), f"{whole.name} (90 %)"),
        Subset(whole, np.sort(order[:held_out]), f"{whole.name} (10 % held out)"),
    )


def _open(spec: Any) -> Dataset:
    if isinstance(spec, Dataset):
        return spec
    if not isinstance(spec, (str, PathLike)):
        return open_columns(spec) if has_columns(spec) else SequenceDataset(spec)
    text = fspath(spec)
    name, *options = text.split(",")
    if name == "shapes" and not Path(text).exists():
        return _open_shapes(options)
    if name.startswith("torchvision:"):
        return TorchvisionDataset(name.partition(":")[2], _parse_options(options))
    if name.startswith("huggingface:"):
        return open_hugging_face(name.partition(":")[2], _parse_options(options))
    shards = match_shards(text)
    return _open_path(text) if shards is None else WebDataset(shards, text)


def _open_path(spec: str) -> Dataset:
    try:
        path = Path(spec).expanduser()
        if path.is_dir():
            folder = find_idx_folder(path)
            return IdxDataset(path, folder) if folder else ImageFolder(path)
        if path.is_file() and path.suffix.lower() == ".tar" and is_webdataset(path):
            return WebDataset([path], str(path))
        if path.is_file() and path.name.lower().endswith(_ARCHIVES):
            return ImageArchive(path)
        if path.exists():
            raise DatasetError(
                f"{spec!r} is a file, not a dataset. Give its folder: {str(path.parent)!r}"
            )
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, RuntimeError) as error:  # no permission, a name too long, no such ~user
        raise DatasetError(f"{spec!r} cannot be opened: {one_line(error)}") from None
    near = closest(path.name, [*siblings, "shapes"])
    raise DatasetError(f"No dataset {spec!r}.{near} {_KINDS}")


def _parse_options(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(
                f"{pair!r} is not an option. Write NAME=VALUE, for example root=FOLDER"
            )
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _open_shapes(options: list[str]) -> Shapes:
    values = {"count": 1000, "size": 64, "seed": 0}
    for option in options:
        key, _, value = option.partition("=")
        if key not in values or not value.isdecimal():
            near = "" if key in values else closest(key, values)
            raise UsageError(
                f"shapes does not take {option!r}.{near} Write: shapes,count=1000,size=64,seed=0"
            )
        values[key] = int(value)
    return Shapes(**values)
