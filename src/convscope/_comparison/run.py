"""``compare``: what changed between two networks, or two checkpoints of one?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convscope._comparison.measured import alignment, paired, watch
from convscope._comparison.result import Comparison
from convscope._data import Dataset
from convscope._errors import UsageError
from convscope._images import IMAGE_SUFFIXES, decode, is_picture
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress, open_images
from convscope._models import Model, load


def compare(
    a: Any,
    b: Any,
    images: Any,
    layers: str | Iterable[str] | None = None,
    *,
    first: int | None = 256,
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, of: None,
) -> Comparison:
    """What changed from one network to another: answers, layers, channels, maps.

    - ``a``, ``b``: loaded models or anything ``load`` takes; each sees pictures through its own
      preprocessing. They must take the same number of channels.
    - ``images``: one picture, or anything ``open_dataset`` takes; ``first``: so many of it.
    - ``layers``: of both; by default a few through the depth of each.

    Raises ``UsageError`` for networks that take different inputs.
    """
    one, other = load(a), load(b)
    if one.input.channels != other.input.channels:
        raise UsageError(
            f"{one.name} takes {one.input.channels} channels and {other.name} "
            f"{other.input.channels}: they cannot look at the same picture. Compare networks that "
            "take the same"
        )
    source = open_images(one, _listed(images), first=first, size=size)
    left = watch(one, source, _chosen(one, layers), progress)
    right = watch(other, source, _chosen(other, layers), progress)
    alike = alignment(left, right)
    return Comparison(
        left, right, source, alike, tuple(paired(left, right, alike)), _labels(source, one, other)
    )


def _chosen(model: Model, layers: str | Iterable[str] | None) -> list[Layer]:
    chosen = model.layers.representative() if layers is None else model.layers.select(layers)
    return [layer for layer in chosen if layer.shape]


def _listed(images: Any) -> Any:
    """One picture as a dataset of one, under its name."""
    if isinstance(images, Dataset):
        return images
    is_file = isinstance(images, (str, Path)) and str(images).lower().endswith(IMAGE_SUFFIXES)
    if is_file or (not isinstance(images, (str, Path)) and is_picture(images)):
        return [decode(images).image]
    return images


def _labels(source: ImageLoader, a: Model, b: Model) -> tuple[str, ...]:
    """True classes by name; empty where they are not labeled, or not as both networks have it."""
    data = source.dataset
    if data.labels is None or source.damaged:
        return ()
    names = [data.classes[int(data.labels[k])] for k in source.indices]
    known = set(a.input.classes) & set(b.input.classes)
    return tuple(names) if set(names) <= known else ()
