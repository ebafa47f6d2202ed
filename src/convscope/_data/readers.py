"""From what a user gives to a ``Dataset``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convscope._data.base import Dataset, Subset
from convscope._data.columns import columns_of, from_hugging_face, has_columns
from convscope._data.files import Archive, Folder
from convscope._data.idx import Idx, idx_folder
from convscope._data.shapes import Shapes
from convscope._data.shards import Shards, is_sharded, shards_named
from convscope._data.wrapped import Torchvision, Wrapped
from convscope._errors import DatasetError, UsageError, closest, one_line

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_KINDS = "Give a folder of images, a .zip or .tar, a folder of IDX files, or 'shapes'"


def open_dataset(spec: Any, *, split: str | None = None) -> Dataset:
    """The dataset that ``spec`` names.

    ``spec`` is a folder of images (class sub-folders optional), a ``.zip`` or ``.tar`` of one, a
    folder of IDX files (MNIST), WebDataset shards (``train-{000..099}.tar``, ``'shards/*.tar'``),
    ``torchvision:NAME,root=…`` (its training split, unless ``split`` says otherwise),
    ``huggingface:NAME,split=…[,config=…,image=COLUMN,label=COLUMN]`` (or a folder that
    ``save_to_disk`` wrote), ``shapes[,count=…,size=…,seed=…]``, or, in Python, a sequence of
    pictures, of ``(picture, label)`` pairs, such as a torch Dataset, or of rows with names, such as
    a Hugging Face one.
    ``split`` is ``"train"`` or ``"test"``, for data that bring both; ``None``, and data that bring
    no such parts, give all there is.

    Raises ``DatasetError`` where there is no image, ``UsageError`` for an unknown option.
    """
    if split not in (None, "train", "test"):
        raise UsageError(f"No split {split!r}. A dataset has the parts 'train' and 'test'")
    whole = _open(spec)
    own = {name: whole.split(name) for name in ("train", "test")} if split else {}
    if split is None or not any(own.values()):
        return whole
    chosen = own[split]
    if chosen is None:
        (other,) = [name for name, found in own.items() if found]
        raise DatasetError(f"{whole.name!r} has no {split} split; it has only {other!r}")
    return chosen


def split_dataset(spec: Any, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """A training and a test split: the data's own, or nine tenths and one tenth at random.

    The data's own test split counts where it is labeled as the training split is.
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
    if not isinstance(spec, (str, Path)):
        return columns_of(spec) if has_columns(spec) else Wrapped(spec)
    name, *options = str(spec).split(",")
    if name == "shapes" and not Path(spec).exists():
        return _shapes(options)
    if name.startswith("torchvision:"):
        return Torchvision(name.partition(":")[2], _options(options))
    if name.startswith("huggingface:"):
        return from_hugging_face(name.partition(":")[2], _options(options))
    shards = shards_named(str(spec))
    return _from_disk(spec) if shards is None else Shards(shards, str(spec))


def _from_disk(spec: str | Path) -> Dataset:
    try:
        path = Path(spec).expanduser()
        if path.is_dir():
            folder = idx_folder(path)
            return Idx(path, folder) if folder else Folder(path)
        if path.is_file() and path.suffix.lower() == ".tar" and is_sharded(path):
            return Shards([path], str(path))
        if path.is_file() and path.name.lower().endswith(_ARCHIVES):
            return Archive(path)
        if path.exists():
            raise DatasetError(
                f"{str(spec)!r} is a file, not a dataset. Give its folder: {str(path.parent)!r}"
            )
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, RuntimeError) as error:  # no permission, a name too long, no such ~user
        raise DatasetError(f"{str(spec)!r} cannot be opened: {one_line(error)}") from None
    near = closest(path.name, [*beside, "shapes"])
    raise DatasetError(f"No dataset {str(spec)!r}.{near} {_KINDS}")


def _options(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"{pair!r} is no option. Write NAME=VALUE, for example root=FOLDER")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _shapes(options: list[str]) -> Shapes:
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
