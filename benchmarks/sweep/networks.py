"""The networks of the sweep: all of torchvision and keras.applications, families of timm."""

from __future__ import annotations

import os
import re

os.environ.setdefault("KERAS_BACKEND", "torch")

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import keras
import timm
from torchvision import models as torchvision

_SMALL = (
    "test",
    "atto",
    "femto",
    "pico",
    "zepto",
    "nano",
    "xxs",
    "xxt",
    "xxtiny",
    "xs",
    "xt",
    "xtiny",
    "mini",
    "micro",
    "tiny",
    "t",
    "s",
    "small",
    "lite",
)
_LARGE = (
    "b",
    "base",
    "m",
    "medium",
    "l",
    "large",
    "xl",
    "xlarge",
    "h",
    "huge",
    "so400m",
    "g",
    "giant",
    "gigantic",
    "xxl",
    "xxlarge",
    "e",
    "7b",
)


@dataclass(frozen=True)
class Network:
    """One row of the table: ``spec`` is the name for ``cs.load``.

    ``size`` is a small square input to try before the network's own, 0 for its own at once.
    """

    zoo: str
    family: str
    spec: str
    size: int = 0
    options: dict[str, object] = field(default_factory=dict)


def networks(timm_count: int = 160) -> list[Network]:
    """All of them, the zoos in turn, so that a part of the sweep is a part of each."""
    return _round_robin([list(from_torchvision()), list(from_keras()), from_timm(timm_count)])


def from_torchvision() -> Iterable[Network]:
    """Classification, segmentation and detection."""
    for name in torchvision.list_models(module=torchvision):
        yield Network("torchvision", "classification", f"torchvision:{name},weights=none", 96)
    for name in torchvision.list_models(module=torchvision.segmentation):
        yield Network("torchvision", "segmentation", f"torchvision:{name},weights=none", 96)
    for name in torchvision.list_models(module=torchvision.detection):
        # They resize by themselves; and untrained ones would detect nothing.
        small = "" if name.startswith("ssd") else ",min_size=128,max_size=160"
        boxes = ",box_score_thresh=0.0,box_detections_per_img=8" if "rcnn" in name else ""
        yield Network(
            "torchvision", "detection", f"torchvision:{name},weights=none{small}{boxes}", 128
        )


def from_keras() -> Iterable[Network]:
    """All of keras.applications, for images of 128²."""
    for name in sorted(name for name in vars(keras.applications) if name[0].isupper()):
        spec = f"keras:{name},weights=none,input_shape=128x128x3"
        yield Network("keras.applications", _family(name), spec)


def from_timm(count: int) -> list[Network]:
    """The smallest of each family within each of timm's modules, modules in turn."""
    rows = []
    for module in sorted(timm.list_modules()):
        families: dict[str, list[str]] = {}
        for name in timm.list_models(module=module):
            families.setdefault(_family(name), []).append(name)
        rows.append(
            [
                Network("timm", module, f"timm:{min(names, key=_size_rank)},weights=none", 96)
                for names in families.values()
            ]
        )
    return _round_robin(rows)[:count]


def _round_robin(rows: list[list[Network]]) -> list[Network]:
    return [one for one in chain.from_iterable(zip_longest(*rows)) if one is not None]


def _family(name: str) -> str:
    """``resnetv2_50x1`` and ``ResNet50V2``: the family a name begins with."""
    return re.split(r"[\d_]", name.lower())[0] or name


def _size_rank(name: str) -> tuple[int, list[int], str]:
    """How large a network is, judging by its name."""
    words = set(re.split(r"[_\d]+", name.lower()))
    small = min((_SMALL.index(w) for w in words if w in _SMALL), default=len(_SMALL))
    large = max((_LARGE.index(w) + 1 for w in words if w in _LARGE), default=0)
    return small + large, [int(number) for number in re.findall(r"\d+", name)], name
