"""The networks of the sweep: of torchvision, Keras, timm, transformers and segmentation-models."""

from __future__ import annotations

import os
import re

os.environ.setdefault("KERAS_BACKEND", "torch")

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, zip_longest

import keras
import timm
from torch import nn
from torchvision import models as torchvision
from transformer_models import SIDE, transformer_models

_SMP = "segmentation_models_pytorch"
_DECODERS = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
)
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
    ``make`` builds it where ``spec`` is none of convscope's names.
    """

    zoo: str
    family: str
    spec: str
    size: int = 0
    make: Callable[[], nn.Module] | None = None

    @property
    def one_by_one(self) -> bool:
        """Whether it takes one image at a time."""
        return self.family == "detection"


def networks(timm_count: int = 320) -> list[Network]:
    """All of them, the zoos in turn, so that a part of the sweep is a part of each."""
    zoos = [list(from_torchvision()), list(from_keras()), from_timm(timm_count)]
    for package, of in (("transformers", from_transformers), (_SMP, from_segmentation_models)):
        if find_spec(package) is None:
            print(f"{package} is not installed, so its networks are left out")
        else:
            zoos.append(list(of()))
    return _round_robin(zoos)


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
    """The smallest of each family within each of timm's modules, modules in turn; then the next."""
    rows = []
    for module in sorted(timm.list_modules()):
        families: dict[str, list[str]] = {}
        for name in sorted(timm.list_models(module=module), key=_size_rank):
            families.setdefault(_family(name), []).append(name)
        in_turn = chain.from_iterable(zip_longest(*families.values()))
        names = [name for name in in_turn if name is not None]
        rows.append([Network("timm", module, f"timm:{name},weights=none", 96) for name in names])
    return _round_robin(rows)[:count]


def from_transformers() -> Iterable[Network]:
    """Vision models of transformers, from tiny configurations."""
    for name, make in transformer_models():
        family = name.partition("For")[0]
        yield Network("transformers", family, f"transformers:{name}", SIDE, make)


def from_segmentation_models() -> Iterable[Network]:
    """The decoders of segmentation-models-pytorch, on a ResNet-18."""
    import segmentation_models_pytorch as smp

    for name in _DECODERS:
        make = partial(getattr(smp, name), encoder_name="resnet18", encoder_weights=None)
        yield Network("segmentation-models-pytorch", name, f"smp:{name}", 96, make)


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
