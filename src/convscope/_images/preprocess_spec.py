"""Preprocessing as a user types it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convscope._errors import UsageError, closest
from convscope._images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

_NAMED = {
    "imagenet": Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD, origin="--preprocess imagenet"),
    "raw": Preprocess(scale=255.0, origin="--preprocess raw"),
    "unit": Preprocess(origin="--preprocess unit"),
    "tf": Preprocess(mean=0.5, std=0.5, origin="--preprocess tf"),
    "caffe": Preprocess(
        mean=(103.939, 116.779, 123.68), scale=255.0, order="BGR", origin="--preprocess caffe"
    ),
}
_KEYS = ("resize", "crop", "mean", "std", "scale", "order", "interpolation")


def parse_preprocess(text: str) -> Preprocess:
    """Read ``imagenet``, ``raw`` (0…255), ``unit`` (0…1), ``tf``, ``caffe`` or ``key=value`` pairs.

    >>> parse_preprocess("resize=256,crop=224,mean=imagenet,std=imagenet").size
    (224, 224)
    >>> parse_preprocess("imagenet,crop=32x48").size
    (32, 48)
    """
    base, changes = Preprocess(origin=f"--preprocess {text}"), dict[str, Any]()
    for part in text.lower().replace(" ", "").split(","):
        key, given, value = part.partition("=")
        if not given and part in _NAMED:
            base = replace(_NAMED[part], origin=f"--preprocess {text}")
        elif given and key in _KEYS:
            changes["size" if key == "crop" else key] = _parse_value(key, value)
        elif not given and part.replace(".", "").isdigit():
            raise UsageError(
                f"{part!r} stands alone in {text!r}. Numbers of one key are parted by slashes: "
                "mean=0.5/0.5/0.5"
            )
        else:
            known = (*_NAMED, *(f"{name}=" for name in _KEYS))
            raise UsageError(
                f"No preprocessing {part!r}.{closest(part, known)} Known: {', '.join(known)}"
            )
    return replace(base, **changes)


def _parse_value(key: str, value: str) -> Any:
    if key in ("order", "interpolation"):
        return value.upper() if key == "order" else value
    if key in ("mean", "std") and value == "imagenet":
        return IMAGENET_MEAN if key == "mean" else IMAGENET_STD
    try:
        if key in ("crop", "resize"):
            sides = tuple(int(side) for side in value.split("x"))
            if len(sides) > 2 or min(sides) < 1:
                raise ValueError
            if key == "resize":
                return sides[0] if len(sides) == 1 else sides
            return sides * 2 if len(sides) == 1 else sides
        numbers = tuple(float(number) for number in value.split("/"))
        return numbers[0] if len(numbers) == 1 else numbers
    except ValueError:
        raise UsageError(
            f"{key}={value} is not understood. Write crop=224 or crop=224x160, "
            "mean=0.5 or mean=0.485/0.456/0.406"
        ) from None
