"""What an optimized picture is worth: looked at as it was saved, untouched and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope._atlas import Atlas, open_atlas
from convscope._atlas import Unit as AtlasUnit
from convscope._data import Dataset, open_dataset
from convscope._errors import ConvscopeError, ImageError, UsageError
from convscope._images.ops import affine, gaussian_blur, jpeg
from convscope._models import Batch
from convscope._optvis.optimizer import RenderTarget, score
from convscope._optvis.transforms import Normalizer


def quantize(pictures: Tensor) -> Tensor:
    """Pictures as eight bits hold them."""
    return (pictures * 255).round() / 255


def activation(lens: Normalizer, units: Sequence[RenderTarget], pictures: Tensor) -> Tensor:
    """The scores of the pictures as they are: nothing moved, nothing blurred."""
    layers = tuple(dict.fromkeys(path for unit in units for path in unit.goal.layers))
    return score(units, lens.model.activations(lens.batch(pictures), layers)).cpu()


def kept(lens: Normalizer, units: Sequence[RenderTarget], pictures: Tensor) -> dict[str, Tensor]:
    """The scores after each of five changes that nobody would notice in a photograph."""
    return {
        name: activation(lens, units, change(pictures))
        for name, change in PERTURBATIONS.items()
        if name != JPEG or pictures.shape[1] in (1, 3)
    }


def _moved(angle: float, zoom: float, shift: float) -> Callable[[Tensor], Tensor]:
    def change(pictures: Tensor) -> Tensor:
        one = torch.ones(len(pictures), device=pictures.device)
        return affine(pictures, angle * one, zoom * one, 2 * shift * one[:, None].expand(-1, 2))

    return change


JPEG = "JPEG 50"
PERTURBATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "shift 7 %": _moved(0, 1, 16 / 224),
    "turn 15°": _moved(15 * pi / 180, 1, 0),
    "shrink to 80 %": _moved(0, 0.8, 0),
    "blur σ 1": partial(gaussian_blur, sigma=1.0),
    JPEG: partial(jpeg, quality=50),
}


def opacity_from_gradient(weight: Tensor) -> Tensor:
    """From the gradient that each pixel got ``(N, H, W)`` to 0…1; a tenth is fully opaque."""
    side = max(3, min(weight.shape[1:]) // 32 | 1)
    smooth = weight[:, None]
    for _ in range(2):
        smooth = F.avg_pool2d(smooth, side, 1, side // 2, count_include_pad=False)
    flat = smooth.flatten(1)
    full = flat.quantile(0.9, dim=1, keepdim=True).clamp_min(1e-12)
    return (flat / full).clamp(0, 1).view_as(weight)


def highest(
    lens: Normalizer, units: Sequence[RenderTarget], images: Any, size: Any
) -> tuple[list[float | None], int]:
    """The highest score of each unit over given images, and how many images there were.

    An atlas knows it of every unit that it has, at the size it was made at.
    """
    atlas = as_atlas(images)
    if atlas is not None:
        return [_in_atlas(lens, atlas, unit) for unit in units], atlas.images
    goals = [unit.goal for unit in units]
    layers = tuple(dict.fromkeys(path for goal in goals for path in goal.layers))
    best, seen = torch.full((len(goals),), -torch.inf), 0
    for batch in batches(lens, images, size):
        activations = lens.model.activations(batch, layers)
        tops = [goal.score(activations).amax() for goal in goals]
        best, seen = torch.maximum(best, torch.stack(tops).cpu()), seen + len(batch)
    return list(best.tolist()), seen


def as_atlas(images: Any) -> Atlas | None:
    """The atlas that ``images`` is, or names."""
    if isinstance(images, Atlas):
        return images
    named = isinstance(images, (str, Path)) and (Path(images) / "manifest.json").is_file()
    return open_atlas(images) if named else None


def _in_atlas(lens: Normalizer, atlas: Atlas, unit: RenderTarget) -> float | None:
    if atlas.model != lens.model.title:
        raise UsageError(f"The atlas is of {atlas.model}, not of {lens.model.title}")
    try:
        found = atlas[str(unit.objective)]
    except ConvscopeError:  # a sum, or a layer that it does not have
        return None
    top = found.top("mean", 1) if isinstance(found, AtlasUnit) else None
    return float(top[0].score) if top else None


def batches(lens: Normalizer, images: Any, size: Any, most: int = 16) -> Iterator[Batch]:
    """Given images as the model sees them, some at a time."""
    if as_atlas(images) is not None:
        raise UsageError("An atlas holds no whole pictures. Give the dataset it was made of")
    source = (
        open_dataset(images) if isinstance(images, str) or hasattr(images, "joinpath") else images
    )
    if not isinstance(source, Dataset) and not isinstance(source, (list, tuple)):
        yield lens.model.prepare(source, size=size)
        return
    waiting: list[Batch] = []
    for index in range(len(source)):
        one = source.image(index) if isinstance(source, Dataset) else source[index]
        waiting.append(lens.model.prepare(one, size=size))
        if len(waiting) == most or index == len(source) - 1:
            yield lens.model.prepare(waiting)
            waiting = []
    if not len(source):
        raise ImageError("No image was given to compare with")
