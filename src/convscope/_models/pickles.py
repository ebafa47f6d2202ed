"""Reading torch's pickles: tensors, numbers and text; nothing that they name is imported or called.

Checkpoints hold more than weights: settings, paths, scalars of numpy. Each global that torch does
not allow by itself gets a stand-in. An object of a class stays an empty shell, values that plain
calls make (a path, a date) become a placeholder, and any other call ends the reading.
"""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Never

import torch

# Calls of these only make values; the stand-ins do not even make those.
_VALUES = ("numpy", "pathlib", "datetime", "decimal", "fractions", "uuid", "zoneinfo")
_BUILTINS = ("bool", "bytes", "dict", "float", "frozenset", "int", "list", "range", "slice", "str")
_VALUE_NAMES = {"functools.partial", "builtins.tuple", *(f"builtins.{name}" for name in _BUILTINS)}
_CONTAINERS: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": lambda *_: {},  # state_dicts are kept in such ones, too
    "collections.deque": lambda *_: [],
}
_lock = threading.Lock()  # what torch allows is one set for the process


def read_pickle(path: Path) -> tuple[Any, list[str]]:
    """What the file holds, and the classes of its objects, which were not made.

    Raises:
        UnpicklingError: If it wants a call that could run code (``GLOBAL name`` in the text), or
            is damaged.
    """
    names: set[str] = set()
    with suppress(Exception):  # not the format of today: then names are met one by one
        names.update(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    while True:
        objects: list[str] = []
        try:
            with _standing_in(names, objects), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected pickle protocol")  # it is read, or not
                return torch.load(path, map_location="cpu", weights_only=True), objects
        except pickle.UnpicklingError as error:
            name = wanted(error)
            name = name if "." in name else f"builtins.{name}"
            if not wanted(error) or name in names:
                raise
            names.add(name)


def wanted(error: Exception) -> str:
    """The name that a pickle was refused for; empty where it was refused for something else."""
    required = re.search(r"GLOBAL (\S+)", str(error))
    return required[1].strip(".") if required else ""


def is_object(value: Any) -> bool:
    """Whether a value that was read is the shell of an object."""
    return type(value) is Counter


def is_data(value: Any) -> bool:
    """Whether a value that was read has no stand-in in it."""
    if isinstance(value, dict):
        return not is_object(value) and is_data([*value, *value.values()])
    if isinstance(value, (list, tuple, set)):
        return all(map(is_data, value))
    return not isinstance(value, (_Value, _Class))


class _Value:
    """In place of a value that would be made by a call."""

    def __new__(cls, *_: Any) -> _Value:
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Class(type):
    """In place of a class, or of a function: to call it would run code."""

    def __call__(cls, *_: Any, **__: Any) -> Never:
        raise pickle.UnpicklingError(f"Unsupported call of GLOBAL {cls.__name__}")


def _stand_in(name: str, objects: list[str]) -> Any:
    if name in _CONTAINERS:
        return _CONTAINERS[name]
    if name.split(".")[0] in _VALUES or name in _VALUE_NAMES:
        return _Value

    def shell(*_: Any) -> Counter[Any]:  # torch fills no other kind with items and attributes
        objects.append(name)
        return Counter()

    return _Class(name, (), {"__new__": shell})


@contextmanager
def _standing_in(names: set[str], objects: list[str]) -> Iterator[None]:
    """Let torch read stand-ins for ``names`` for a while."""
    allowed = [(_stand_in(name, objects), name) for name in names]
    kinds: list[Any] = [(Counter, "collections.Counter"), (_Value, "convscope.value")]
    with _lock, torch.serialization.safe_globals([*allowed, *kinds] if names else []):
        yield
