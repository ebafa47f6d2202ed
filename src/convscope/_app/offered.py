"""Pictures that the app offers: given ones, photographs, drawn shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from convscope._app.slides import Given, given
from convscope._images import Picture, decode

_PHOTOGRAPHS = ("cat", "coffee", "rocket")  # of scikit-image, where it is installed
_SHAPES = 3


def demos(images: Iterable[Any] = ()) -> Mapping[str, Callable[[], Given]]:
    """Pictures that are offered: those given, photographs, drawn shapes."""
    own = {one.name: partial(_itself, one) for one in map(given, images)}
    return {**own, **_photographs(), **_shapes()}


def _itself(one: Given) -> Given:
    return one


def _photographs() -> dict[str, Callable[[], Picture]]:
    try:
        data = import_module("skimage.data")
    except ModuleNotFoundError:
        return {}

    def photograph(name: str) -> Picture:
        return decode(getattr(data, name)(), name=name)

    return {name: partial(photograph, name) for name in _PHOTOGRAPHS}


def _shapes() -> dict[str, Callable[[], Picture]]:
    from convscope._data import open_dataset

    drawn = open_dataset("shapes")

    def shape(name: str, index: int) -> Picture:
        return decode(drawn.image(index), name=name)

    names = [f"shape {k + 1}" for k in range(_SHAPES)]
    return {name: partial(shape, name, k) for k, name in enumerate(names)}
