"""Evaluation of optimized images at eight bits: activation, robustness, comparison with images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import pi
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope._atlas import Atlas, open_atlas
from convscope._atlas import Unit as AtlasUnit
from convscope._data import Dataset, open_dataset
from convscope._errors import ConvscopeError, ImageError, UsageError
from convscope._images.ops import affine, gaussian_blur, jpeg
from convscope._models import Batch
from convscope._optvis.optimizer import RenderTarget, Targets, score_targets
from convscope._optvis.params import ReferenceImages, Size
from convscope._optvis.transforms import Normalizer


def quantize(images: Tensor) -> Tensor:
    """Round images ``(N, C, H, W)``, 0…1, to eight bits."""
    return (images * 255).round() / 255


def activations_of(normalizer: Normalizer, targets: Targets, images: Tensor) -> Tensor:
    """Compute the scores ``(N,)`` of images as they are, without augmentation."""
    layers = tuple(dict.fromkeys(path for target in targets for path in target.bound.layers))
    batch = normalizer.to_batch(images)
    return score_targets(targets, normalizer.model.activations(batch, layers)).cpu()


def perturbed_activations(
    normalizer: Normalizer, targets: Targets, images: Tensor
) -> dict[str, Tensor]:
    """Compute the scores ``(N,)`` after each of five small perturbations."""
    return {
        name: activations_of(normalizer, targets, perturb(images))
        for name, perturb in PERTURBATIONS.items()
        if name != JPEG or images.shape[1] in (1, 3)
    }


def _affine(angle: float, scale: float, shift: float) -> Callable[[Tensor], Tensor]:
    def perturb(images: Tensor) -> Tensor:
        one = torch.ones(len(images), device=images.device)
        return affine(images, angle * one, scale * one, 2 * shift * one[:, None].expand(-1, 2))

    return perturb


JPEG = "JPEG 50"
PERTURBATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "shift 7 %": _affine(0, 1, 16 / 224),
    "rotation 15°": _affine(15 * pi / 180, 1, 0),
    "scale 80 %": _affine(0, 0.8, 0),
    "blur σ 1": partial(gaussian_blur, sigma=1.0),
    JPEG: partial(jpeg, quality=50),
}


def opacity_from_gradient(gradient_sum: Tensor) -> Tensor:
    """Opacity 0…1 from the summed gradient at each pixel, ``(N, H, W)``; a tenth is opaque."""
    side = max(3, min(gradient_sum.shape[1:]) // 32 | 1)
    smooth = gradient_sum[:, None]
    for _ in range(2):
        smooth = F.avg_pool2d(smooth, side, 1, side // 2, count_include_pad=False)
    flat = smooth.flatten(1)
    full = flat.quantile(0.9, dim=1, keepdim=True).clamp_min(1e-12)
    return (flat / full).clamp(0, 1).view_as(gradient_sum)


def highest_activations(
    normalizer: Normalizer, targets: Targets, images: ReferenceImages, size: Size
) -> tuple[list[float | None], int]:
    """The highest score of each target over given images, and the number of images.

    An atlas holds it for each of its units, at the size the atlas was made at.
    """
    atlas = as_atlas(images)
    if atlas is not None:
        return [_highest_in_atlas(normalizer, atlas, target) for target in targets], atlas.images
    layers = tuple(dict.fromkeys(path for target in targets for path in target.bound.layers))
    highest, number = torch.full((len(targets),), -torch.inf), 0
    for batch in batches(normalizer, images, size):
        activations = normalizer.model.activations(batch, layers)
        scores = [target.bound.score(activations).amax() for target in targets]
        highest, number = torch.maximum(highest, torch.stack(scores).cpu()), number + len(batch)
    return list(highest.tolist()), number


def as_atlas(images: ReferenceImages) -> Atlas | None:
    """The atlas that ``images`` is, or names."""
    if isinstance(images, Atlas):
        return images
    if isinstance(images, (str, Path)) and (Path(images) / "manifest.json").is_file():
        return open_atlas(images)
    return None


def _highest_in_atlas(normalizer: Normalizer, atlas: Atlas, target: RenderTarget) -> float | None:
    if atlas.model != normalizer.model.title:
        raise UsageError(f"The atlas is of {atlas.model}, not of {normalizer.model.title}")
    try:
        unit = atlas[str(target.objective)]
    except ConvscopeError:  # a sum, or a layer that was not scanned
        return None
    top = unit.top("mean", 1) if isinstance(unit, AtlasUnit) else None
    return float(top[0].score) if top else None


def batches(
    normalizer: Normalizer, images: ReferenceImages, size: Size, batch_size: int = 16
) -> Iterator[Batch]:
    """Preprocess given images in batches."""
    if as_atlas(images) is not None:
        raise UsageError("An atlas holds no whole images. Give the dataset it was made of")
    is_path = isinstance(images, str) or hasattr(images, "joinpath")
    source: Any = open_dataset(cast(Any, images)) if is_path else images
    if not isinstance(source, (Dataset, list, tuple)):
        yield normalizer.model.prepare(source, size=size)
        return
    waiting: list[Batch] = []
    for index in range(len(source)):
        one = source.image(index) if isinstance(source, Dataset) else source[index]
        waiting.append(normalizer.model.prepare(one, size=size))
        if len(waiting) == batch_size or index == len(source) - 1:
            yield normalizer.model.prepare(waiting)
            waiting = []
    if not len(source):
        raise ImageError("No image was given to compare with")
