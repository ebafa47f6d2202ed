"""``cs.maximize``: from objectives to optimized images and their evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from convscope._errors import UsageError
from convscope._images import ImageLike
from convscope._models import Model, ModelLike, load
from convscope._optvis.animation import FrameRecorder
from convscope._optvis.evaluation import (
    activations_of,
    batches,
    highest_activations,
    opacity_from_gradient,
    perturbed_activations,
    quantize,
)
from convscope._optvis.image_objectives import ActivationGrid
from convscope._optvis.objectives import Objective
from convscope._optvis.optimized_images import OptimizedImage, OptimizedImages, RunInfo
from convscope._optvis.optimizer import (
    OptimizationPlan,
    OptimizationResult,
    OptimizationStep,
    RenderTarget,
    StepCallback,
    Targets,
    optimize_all,
)
from convscope._optvis.params import Param, ReferenceImages, Size, parse_param
from convscope._optvis.parsing import parse_objectives
from convscope._optvis.transforms import Normalizer, Transforms

ObjectiveLike: TypeAlias = str | Objective | ActivationGrid
"""A unit, a layer or a weighted sum as text, or an objective."""

_DEFAULT_SIZE = (224, 224)
_COARSE_SCALE, _COARSE_SHARE = 0.58, 0.6


@overload
def maximize(
    model: ModelLike,
    objective: Objective,
    *,
    steps: int = 256,
    size: int | tuple[int, int] | None = None,
    param: Param | str = "fourier",
    transforms: Transforms | None = None,
    seed: int = 0,
    start: ImageLike | None = None,
    images: ReferenceImages | None = None,
    learning_rate: float | None = None,
    opacity: bool = False,
    batch_size: int | None = None,
    bfloat16: bool | None = None,
    animate: bool = False,
    on_step: StepCallback | None = None,
) -> OptimizedImage: ...
@overload
def maximize(
    model: ModelLike,
    objective: list[Any] | ActivationGrid,
    *,
    steps: int = 256,
    size: int | tuple[int, int] | None = None,
    param: Param | str = "fourier",
    transforms: Transforms | None = None,
    seed: int = 0,
    count: int = 1,
    start: ImageLike | None = None,
    images: ReferenceImages | None = None,
    learning_rate: float | None = None,
    opacity: bool = False,
    batch_size: int | None = None,
    bfloat16: bool | None = None,
    animate: bool = False,
    on_step: StepCallback | None = None,
) -> OptimizedImages: ...
@overload
def maximize(
    model: ModelLike,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    *,
    steps: int = 256,
    size: int | tuple[int, int] | None = None,
    param: Param | str = "fourier",
    transforms: Transforms | None = None,
    seed: int = 0,
    count: int = 1,
    start: ImageLike | None = None,
    images: ReferenceImages | None = None,
    learning_rate: float | None = None,
    opacity: bool = False,
    batch_size: int | None = None,
    bfloat16: bool | None = None,
    animate: bool = False,
    on_step: StepCallback | None = None,
) -> OptimizedImage | OptimizedImages: ...
def maximize(
    model: ModelLike,
    objective: ObjectiveLike | Sequence[ObjectiveLike],
    *,
    steps: int = 256,
    size: int | tuple[int, int] | None = None,
    param: Param | str = "fourier",
    transforms: Transforms | None = None,
    seed: int = 0,
    count: int = 1,
    start: ImageLike | None = None,
    images: ReferenceImages | None = None,
    learning_rate: float | None = None,
    opacity: bool = False,
    batch_size: int | None = None,
    bfloat16: bool | None = None,
    animate: bool = False,
    on_step: StepCallback | None = None,
) -> OptimizedImage | OptimizedImages:
    """Optimize images that maximize the activation of units (activation maximization).

    Gradient ascent on the input, weights fixed, in evaluation mode. Ctrl-C ends it early with what
    is done. Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017.

    Args:
        model: A loaded model, or anything ``load`` takes.
        objective: ``"PATH:CHANNEL"``, a sum (``"conv2:3 - 0.5 * conv2:7"``), an objective, or a
            list of these; the path of a layer stands for all its channels.
        steps: Number of optimization steps.
        size: Size of the image, one side or ``(height, width)``; by default the model's.
        param: ``"fourier"``, ``"pixels"``, ``"maco"`` (with the spectrum of ``images``), or a
            ``Fourier``, ``Pixels`` or ``MaCo``.
        transforms: Random augmentation per step; ``Transforms(0, 0, 0, 0, 0)`` for none.
        seed: The same seed gives the same image.
        count: Number of images per objective.
        start: An image to start from, instead of noise.
        images: A dataset, images or an atlas to compare activations with.
        learning_rate: Of Adam; by default what suits ``param``.
        opacity: Whether to make transparent what the gradient did not reach.
        batch_size: Number of images side by side; by default what memory allows.
        bfloat16: Whether the network runs in bfloat16; by default on GPUs.
        animate: Whether to keep frames of the optimization, for ``.save("x.webp")``.
        on_step: Called after every step with an ``OptimizationStep``.

    Returns:
        An ``OptimizedImage`` for one objective; ``OptimizedImages`` for several, or for ``count``
        images of one.

    Raises:
        UnknownLayer: Where there is no such layer or channel.
        UsageError: Where an argument makes no sense.
        ModelError: Where no gradient leads to the image, or memory does not suffice.
    """
    _check(steps, count, learning_rate)
    loaded = load(model)
    objectives = parse_objectives(loaded, objective)
    targets = [RenderTarget(one, one.bind(loaded), seed, count) for one in objectives]
    recorder = FrameRecorder(steps, len(targets) * count, easing=2.0) if animate else None
    with loaded.eval_frozen():
        normalizer = Normalizer(loaded)
        plan = _plan(
            normalizer, steps, size, parse_param(param, images), transforms, learning_rate, start
        )
        on_start = recorder.start if recorder else None
        plan = replace(plan, opacity=opacity, bfloat16=bfloat16, on_start=on_start)
        results = optimize_all(normalizer, targets, plan, batch_size, _both(recorder, on_step))
        optimized = [image for result in results for image in _evaluated(normalizer, *result)]
        optimized = _compared(normalizer, targets, optimized, images, plan.size)
    optimized = _with_frames(optimized, recorder)
    if isinstance(objective, ActivationGrid):
        columns, title = objective.columns(objectives), objective.title(loaded)
        return OptimizedImages(optimized, columns=columns, title=title)
    several = len(objectives) > 1 or count > 1 or isinstance(objective, (list, tuple))
    return OptimizedImages(optimized) if several else optimized[0]


def _with_frames(
    images: list[OptimizedImage], recorder: FrameRecorder | None
) -> list[OptimizedImage]:
    if recorder is None:
        return images
    return [
        one if one.dead else replace(one, frames=recorder.frames(one.objective, one.index))
        for one in images
    ]


def _both(recorder: FrameRecorder | None, on_step: StepCallback | None) -> StepCallback:
    """What is called after every step."""

    def call(step: OptimizationStep) -> None:
        for callback in (recorder, on_step):
            if callback is not None:
                callback(step)

    return call


def _check(steps: int, count: int, learning_rate: float | None) -> None:
    for name, value in (("steps", steps), ("count", count)):
        if value < 1:
            raise UsageError(f"{name}={value} optimizes no image. Nearest: 1")
    if learning_rate is not None and not learning_rate > 0:
        raise UsageError(f"learning_rate={learning_rate} is not above 0. Usual: 0.1")


def _plan(
    normalizer: Normalizer,
    steps: int,
    size: int | tuple[int, int] | None,
    param: Param,
    transforms: Transforms | None,
    learning_rate: float | None,
    start: ImageLike | None,
) -> OptimizationPlan:
    model, sides = normalizer.model, (size, size) if isinstance(size, int) else size
    start_image: Tensor | None = None
    if start is not None:
        batch = model.prepare(start, size=sides)
        start_image, sides = normalizer.to_images(batch.values[:1]), batch.size
    sides = sides or model.input.size or _DEFAULT_SIZE
    is_image = model.input.kind == "image"
    if min(sides) < 2 and not model.input.signal:
        raise UsageError(f"An image of {sides[0]}×{sides[1]} is too small. Nearest: 2×2")
    if param.images is not None:
        reference = batches(normalizer, param.images, sides)
        param = param.fitted(normalizer.to_images(batch.values) for batch in reference)
    default = default_transforms(sides) if is_image else WITHOUT_AFFINE
    return OptimizationPlan(
        sides,
        steps,
        param,
        default if transforms is None else transforms,
        learning_rate or param.default_learning_rate,
        start=start_image,
        coarse_steps=round(steps * _COARSE_SHARE) if is_image else 0,
        coarse_size=_coarse_size(sides),
    )


def _coarse_size(size: Size) -> Size:
    return round(size[0] * _COARSE_SCALE / 2) * 2, round(size[1] * _COARSE_SCALE / 2) * 2


# The slices of a volume lie one below the other, and a signal is one pixel high: an affine
# transform would mix them, or move a signal out of sight.
WITHOUT_AFFINE = Transforms(rotate=0, zoom=0, shift=0)


def default_transforms(size: Size) -> Transforms:
    """The augmentation that suits a size: a 3×3 blur removes too much of a small image."""
    return Transforms() if min(size) >= 96 else replace(Transforms(), blur=0)


def _evaluated(
    normalizer: Normalizer, targets: Targets, plan: OptimizationPlan, result: OptimizationResult
) -> Iterator[OptimizedImage]:
    images = quantize(result.images)
    activations = activations_of(normalizer, targets, images)
    is_image = normalizer.model.input.kind == "image"
    perturbed = perturbed_activations(normalizer, targets, images) if is_image else {}
    run = _run_info(normalizer.model, plan, targets[0].seed, result.steps)
    gradient = result.gradient_sum
    opacity = None if gradient is None else opacity_from_gradient(gradient).cpu().numpy()
    owners = [(target, k) for target in targets for k in range(target.count)]
    for i, (target, k) in enumerate(owners):
        activation, dead = float(activations[i]), not bool(result.has_gradient[i])
        values = images[i].cpu().numpy()
        shares = {name: float(v[i]) / activation for name, v in perturbed.items() if activation > 0}
        yield OptimizedImage(
            values=np.full_like(values, 0.5) if dead else values,
            objective=str(target.objective),
            index=k,
            activation=activation,
            robustness=shares,
            highest=None,
            dead=dead,
            curve=result.curves[i].numpy(),
            run=run,
            opacity=None if opacity is None else opacity[i],
        )


def _run_info(model: Model, plan: OptimizationPlan, seed: int, steps: int) -> RunInfo:
    normalization = replace(model.input.preprocess, size=None, resize=None)
    coarse = ""
    if plan.coarse_size:
        height, width = plan.coarse_size
        coarse = f"first {plan.coarse_steps} steps at {width}×{height}"
    return RunInfo(
        model=model.title,
        size=plan.size,
        steps=steps,
        planned_steps=plan.steps,
        seed=seed,
        param=plan.param.describe(model.input.channels),
        augmentation=plan.transforms.describe(),
        coarse=coarse,
        preprocessing=normalization.describe(),
        note=model.untrained_note(),
    )


def _compared(
    normalizer: Normalizer,
    targets: Targets,
    optimized: Sequence[OptimizedImage],
    images: ReferenceImages | None,
    size: Size,
) -> list[OptimizedImage]:
    if images is None or not optimized:
        return list(optimized)
    with torch.no_grad():
        highest, number = highest_activations(normalizer, targets, images, size)
    by_name = dict(zip((str(target.objective) for target in targets), highest, strict=True))
    return [
        replace(one, highest=by_name[one.objective], run=replace(one.run, compared_images=number))
        for one in optimized
    ]
