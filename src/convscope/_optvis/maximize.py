"""``cs.maximize``: from what is wanted to optimized pictures with their evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from convscope._errors import UsageError
from convscope._models import Model, load
from convscope._optvis.animation import FrameRecorder
from convscope._optvis.evaluation import (
    activation,
    batches,
    highest,
    kept,
    opacity_from_gradient,
    quantize,
)
from convscope._optvis.image_objectives import ActivationGrid
from convscope._optvis.optimized_images import OptimizedImage, OptimizedImages, RunInfo
from convscope._optvis.optimizer import (
    OptimizationPlan,
    OptimizationResult,
    OptimizationStep,
    RenderTarget,
    StepCallback,
    optimize_all,
)
from convscope._optvis.params import Param, Size, parse_param
from convscope._optvis.parsing import objectives
from convscope._optvis.transforms import Normalizer, Transforms

_FALLBACK = (224, 224)
_COARSE, _COARSE_SHARE = 0.58, 0.6


def maximize(
    model: Any,
    what: Any,
    *,
    steps: int = 256,
    size: int | tuple[int, int] | None = None,
    param: Param | str = "fourier",
    transforms: Transforms | None = None,
    seed: int = 0,
    count: int = 1,
    start: Any = None,
    images: Any = None,
    rate: float | None = None,
    opacity: bool = False,
    batch: int | None = None,
    half: bool | None = None,
    animate: bool = False,
    on_step: Callable[[OptimizationStep], object] | None = None,
) -> Any:
    """The picture that raises a unit most: gradient ascent on the input, weights fixed.

    - ``model``: a loaded model, or anything ``load`` takes.
    - ``what``: ``"PATH:CHANNEL"``, a sum (``"conv2:3 - 0.5 * conv2:7"``), an objective, or a list
      of these; a layer's path stands for all its channels.
    - ``steps``, ``rate``: of Adam; ``size``: a side or ``(height, width)``, by default the model's.
    - ``param``: ``"fourier"``, ``"pixels"``, ``"maco"`` (the spectrum of ``images``), or a
      ``Fourier``, ``Pixels``, ``MaCo``.
    - ``transforms``: how the picture is moved before each look; ``Transforms(0, 0, 0, 0, 0)``: not.
    - ``seed``: the same one gives the same picture; ``count``: pictures of each objective.
    - ``start``: a picture to start from.
    - ``images``: a dataset, pictures or an atlas to compare activations with.
    - ``opacity``: see through what the gradient never cared for.
    - ``batch``: pictures side by side; by default what memory allows.
    - ``half``: run the network in bfloat16; by default on GPUs.
    - ``animate``: keep moments of the climb, for ``.save("x.webp")``.
    - ``on_step``: called after every step.

    One objective gives an ``OptimizedImage``; several, or ``count`` images of one,
    ``OptimizedImages``. Ctrl-C ends it early with what is done.
    Raises ``UnknownLayer``, ``UsageError``, ``ModelError``.
    """
    loaded = load(model)
    wanted = objectives(loaded, what)
    _check(steps, count, rate)
    units = [RenderTarget(one, one.bind(loaded), seed, count) for one in wanted]
    film = FrameRecorder(steps, len(units) * count, easing=2.0) if animate else None
    with loaded.eval_frozen():
        lens = Normalizer(loaded)
        plan = _plan(lens, steps, size, parse_param(param, images), transforms, rate, start)
        begun = film.start if film else None
        plan = replace(plan, opacity=opacity, half=half, begun=begun)
        climbed = optimize_all(lens, units, plan, batch, _both(film, on_step))
        pictures = [one for each in climbed for one in _judged(lens, *each)]
        pictures = _compared(lens, units, pictures, images, plan.size)
    pictures = _with_moments(pictures, film)
    if isinstance(what, ActivationGrid):
        return OptimizedImages(pictures, columns=what.columns(wanted), title=what.title(loaded))
    several = len(wanted) > 1 or count > 1 or isinstance(what, (list, tuple))
    return OptimizedImages(pictures) if several else pictures[0]


def _with_moments(
    pictures: list[OptimizedImage], film: FrameRecorder | None
) -> list[OptimizedImage]:
    if film is None:
        return pictures
    return [
        one if one.dead else replace(one, moments=film.of(one.objective, one.index))
        for one in pictures
    ]


def _both(film: FrameRecorder | None, on_step: StepCallback | None) -> StepCallback:
    """What is called after every step."""

    def watch(step: OptimizationStep) -> None:
        for told in (film, on_step):
            if told is not None:
                told(step)

    return watch


def _check(steps: int, count: int, rate: float | None) -> None:
    for name, value in (("steps", steps), ("count", count)):
        if value < 1:
            raise UsageError(f"{name}={value} makes no picture. Nearest: 1")
    if rate is not None and not rate > 0:
        raise UsageError(f"rate={rate} does not climb. Usual: 0.1")


def _plan(
    lens: Normalizer,
    steps: int,
    size: Any,
    param: Param,
    transforms: Transforms | None,
    rate: float | None,
    start: Any,
) -> OptimizationPlan:
    model, sides, picture = lens.model, (size, size) if isinstance(size, int) else size, None
    if start is not None:
        batch = model.prepare(start, size=sides)
        picture, sides = lens.image(batch.values[:1]), batch.size
    sides = sides or model.input.size or _FALLBACK
    if min(sides) < 2:
        raise UsageError(f"A picture of {sides[0]}×{sides[1]} is too small. Nearest: 2×2")
    if param.images is not None:
        shown = batches(lens, param.images, sides)
        param = param.fitted(lens.image(batch.values) for batch in shown)
    usual = STILL if model.input.depth else suited(sides)
    return OptimizationPlan(
        sides,
        steps,
        param,
        usual if transforms is None else transforms,
        rate or param.usual_rate,
        start=picture,
        coarse_steps=0 if model.input.depth else round(steps * _COARSE_SHARE),
        coarse=(round(sides[0] * _COARSE / 2) * 2, round(sides[1] * _COARSE / 2) * 2),
    )


# Of a volume the slices lie below each other: to move that picture would mix them.
STILL = Transforms(turn=0, zoom=0, shift=0)


def suited(size: Size) -> Transforms:
    """The moves that suit a size: a 3×3 blur of a small picture leaves too little."""
    return Transforms() if min(size) >= 96 else replace(Transforms(), blur=0)


def _judged(
    lens: Normalizer,
    units: Sequence[RenderTarget],
    plan: OptimizationPlan,
    climbed: OptimizationResult,
) -> Iterator[OptimizedImage]:
    pictures = quantize(climbed.pictures)
    found = activation(lens, units, pictures)
    changed = {} if lens.model.input.depth else kept(lens, units, pictures)
    about = _about(lens.model, plan, units[0].seed, climbed.steps)
    opacity = (
        None if climbed.weight is None else opacity_from_gradient(climbed.weight).cpu().numpy()
    )
    owners = [(unit, k) for unit in units for k in range(unit.count)]
    for i, (unit, k) in enumerate(owners):
        level, dead = float(found[i]), not bool(climbed.alive[i])
        values = pictures[i].cpu().numpy()
        yield OptimizedImage(
            values=np.full_like(values, 0.5) if dead else values,
            objective=str(unit.objective),
            index=k,
            activation=level,
            kept={name: float(v[i]) / level for name, v in changed.items()} if level > 0 else {},
            highest=None,
            dead=dead,
            curve=climbed.curves[i].numpy(),
            about=about,
            opacity=None if opacity is None else opacity[i],
        )


def _about(model: Model, plan: OptimizationPlan, seed: int, steps: int) -> RunInfo:
    numbers = replace(model.input.preprocess, size=None, resize=None)
    coarse = plan.coarse and f"first {plan.coarse_steps} steps at {plan.coarse[1]}×{plan.coarse[0]}"
    return RunInfo(
        model=model.title,
        size=plan.size,
        steps=steps,
        wanted=plan.steps,
        seed=seed,
        pixels=plan.param.describe(model.input.channels),
        moves=plan.transforms.describe(),
        coarse=coarse or "",
        preprocessing=numbers.describe(),
        note=model.untrained_note(),
    )


def _compared(
    lens: Normalizer,
    units: Sequence[RenderTarget],
    pictures: Sequence[OptimizedImage],
    images: Any,
    size: Size,
) -> list[OptimizedImage]:
    if images is None or not pictures:
        return list(pictures)
    with torch.no_grad():
        best, seen = highest(lens, units, images, size)
    tops = dict(zip((str(unit.objective) for unit in units), best, strict=True))
    return [
        replace(one, highest=tops[one.objective], about=replace(one.about, compared=seen))
        for one in pictures
    ]
