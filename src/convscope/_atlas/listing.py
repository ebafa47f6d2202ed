"""Ids and labels of a dataset's images, millions of them, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from convscope._atlas.folder import LISTING, write_arrays, writing


class Ids(Sequence[str]):
    """Ids, kept as one run of UTF-8 bytes."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[str]: ...
    def __getitem__(self, key: int | slice) -> str | Sequence[str]:
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(len(self)))]
        place = range(len(self))[key]
        start = self._ends[place - 1] if place else 0
        return bytes(self._text[start : self._ends[place]]).decode("utf-8", "surrogateescape")


def write_listing(folder: Path, ids: Sequence[str], labels: NDArray[np.int64] | None) -> None:
    """Write ids and, where there are any, labels."""
    encoded = [id.encode("utf-8", "surrogateescape") for id in ids]
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(id) for id in encoded], dtype=np.int64),
    }
    if labels is not None:
        arrays["labels"] = labels.astype(np.int64)
    with writing(folder / LISTING) as file:
        write_arrays(file, arrays)


def read_listing(folder: Path) -> tuple[Ids, NDArray[np.int64] | None]:
    """Ids, and labels or ``None``."""
    with safe_open(folder / LISTING, "np") as file:
        labels = file.get_tensor("labels") if "labels" in file.keys() else None  # noqa: SIM118
        return Ids(file.get_tensor("ids"), file.get_tensor("ends")), labels
