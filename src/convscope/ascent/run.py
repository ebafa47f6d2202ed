"""``cs.maximize``: from what is wanted to optimised pictures with their evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope.ascent.climb import Climb, Climbed, Plan, Step, Unit, Watch, no_gradient, score
from convscope.ascent.evidence import activation, highest, kept, rounded
from convscope.ascent.expression import objectives
from convscope.ascent.lens import Lens
from convscope.ascent.optimised import Circumstances, Gallery, Optimised
from convscope.ascent.params import Param, Size, param_of
from convscope.ascent.transforms import Transforms
from convscope.errors import ModelError, UsageError
from convscope.models import Model, load

_FALLBACK = (224, 224)
_COARSE, _COARSE_SHARE, _COARSE_LEAST = 0.58, 0.6, 48
_CPU_BATCH, _CPU_BYTES = 16, 1 << 30


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
    rate: float = 0.05,
    batch: int | None = None,
    on_step: Callable[[Step], object] | None = None,
) -> Any:
    """The picture that raises a unit most: gradient ascent on the input, weights fixed.

    - ``model``: a loaded model, or anything ``load`` takes.
    - ``what``: ``"PATH:CHANNEL"``, a sum (``"conv2:3 - 0.5 * conv2:7"``), an objective, or a list
      of these; a layer's path stands for all its channels.
    - ``steps``, ``rate``: of Adam; ``size``: a side or ``(height, width)``, by default the model's.
    - ``param``: ``"fourier"``, ``"pixels"``, or a ``Fourier``, a ``Pixels``.
    - ``transforms``: how the picture is moved before each look; ``Transforms(0, 0, 0, 0, 0)``: not.
    - ``seed``: the same one gives the same picture; ``count``: pictures of each objective.
    - ``start``: a picture to start from.
    - ``images``: a dataset or pictures to compare activations with.
    - ``batch``: pictures side by side; by default what memory allows.
    - ``on_step``: called after every step.

    One objective gives an ``Optimised``; several, or ``count`` pictures, a ``Gallery``. Ctrl-C ends
    it early with what is done. Raises ``UnknownLayer``, ``UsageError``, ``ModelError``.
    """
    loaded = load(model)
    wanted = objectives(loaded, what)
    _check(steps, count, rate)
    units = [Unit(one, one.bind(loaded), seed, count) for one in wanted]
    with loaded.at_rest():
        lens = Lens(loaded)
        plan = _plan(loaded, steps, size, param_of(param), transforms, rate, start)
        pictures = list(_climb_all(lens, units, plan, batch, on_step or (lambda _step: None)))
        pictures = _compared(lens, units, pictures, images, plan.size)
    several = len(wanted) > 1 or count > 1 or isinstance(what, (list, tuple))
    return Gallery(pictures) if several else pictures[0]


def _check(steps: int, count: int, rate: float) -> None:
    for name, value in (("steps", steps), ("count", count)):
        if value < 1:
            raise UsageError(f"{name}={value} makes no picture. Nearest: 1")
    if not rate > 0:
        raise UsageError(f"rate={rate} does not climb. Usual: 0.05")


def _plan(
    model: Model, steps: int, size: Any, param: Param, transforms: Transforms | None, rate: float,
    start: Any,
) -> Plan:  # fmt: skip
    sides = (size, size) if isinstance(size, int) else size
    picture = None
    if start is not None:
        batch = model.prepare(start, size=sides)
        picture, sides = Lens(model).picture(batch.values[:1]), batch.size
    sides = sides or model.input.size or _FALLBACK
    if min(sides) < 2:
        raise UsageError(f"A picture of {sides[0]}×{sides[1]} is too small. Nearest: 2×2")
    moves = suited(sides) if transforms is None else transforms
    return Plan(sides, steps, param, moves, rate, start=picture)


def suited(size: Size) -> Transforms:
    """The moves that suit a size: a 3×3 blur of a small picture leaves too little."""
    return Transforms() if min(size) >= 96 else replace(Transforms(), blur=0)


def _coarse(lens: Lens, units: Sequence[Unit], plan: Plan) -> Plan:
    """The first steps at a smaller size, where the network takes one and no position is named."""
    small = (round(plan.size[0] * _COARSE / 2) * 2, round(plan.size[1] * _COARSE / 2) * 2)
    if (
        min(small) < _COARSE_LEAST
        or any(unit.goal.placed for unit in units)
        or plan.start is not None
    ):
        return plan
    try:
        probe(lens, units[:1], small)
    except ModelError:
        return plan
    return replace(plan, coarse=small, coarse_steps=round(plan.steps * _COARSE_SHARE))


def probe(lens: Lens, units: Sequence[Unit], size: Size) -> tuple[torch.device, int]:
    """One look at grey: does it run, is it a number, is there a gradient? Its device and bytes."""
    counted: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        counted[storage.data_ptr()] = storage.nbytes()
        return tensor

    grey = torch.full((1, lens.model.input.channels, *size), 0.5, requires_grad=True)
    unit = replace(units[0], count=1)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        activations = lens.model.activations(lens.batch(grey), unit.goal.layers, grad=True)
        value = score([unit], activations)
    if not value.requires_grad:
        raise no_gradient(lens.model, unit.goal.layers)
    if not bool(torch.isfinite(value).all()):
        raise ModelError(
            f"{unit.objective} of {lens.model.name} is {value.item():g} on a grey picture. Its "
            "weights may hold NaN or infinity: load others, or take an earlier layer"
        )
    return value.device, sum(counted.values())


def _chunks(units: Sequence[Unit], most: int) -> Iterator[list[Unit]]:
    """Units side by side: at most so many pictures, and of the same layers."""
    waiting: list[Unit] = []
    for unit in units:
        full = sum(u.count for u in waiting) + unit.count > most
        if waiting and (full or unit.goal.layers != waiting[0].goal.layers):
            yield waiting
            waiting = []
        waiting.append(unit)
    if waiting:
        yield waiting


def _room(device: torch.device, each: int, batch: int | None) -> int:
    """How many pictures fit side by side."""
    if batch is not None:
        return max(1, batch)
    if device.type == "cuda":
        return max(1, int(torch.cuda.mem_get_info(device)[0] * 0.5) // max(each, 1))
    return max(1, min(_CPU_BATCH, _CPU_BYTES // max(each, 1)))


def _climb_all(
    lens: Lens, units: Sequence[Unit], plan: Plan, batch: int | None, watch: Watch
) -> Iterator[Optimised]:
    tried = [probe(lens, [one], plan.size) for one in {u.goal.layers: u for u in units}.values()]
    chunks = list(_chunks(units, _room(tried[0][0], max(each for _, each in tried), batch)))
    for k, chunk in enumerate(chunks):
        own = _coarse(lens, chunk, plan)
        try:
            climb = Climb(lens, chunk, own, tried[0][0])
            climbed = climb.run(watch, k * plan.steps, len(chunks) * plan.steps)
        except KeyboardInterrupt:
            if k == 0:
                raise
            return
        yield from _judged(lens, chunk, own, climbed)
        if climbed.steps < plan.steps:
            return


def _judged(lens: Lens, units: Sequence[Unit], plan: Plan, climbed: Climbed) -> Iterator[Optimised]:
    pictures = rounded(climbed.pictures)
    found = activation(lens, units, pictures)
    changed = kept(lens, units, pictures)
    about = _about(lens.model, plan, units[0].seed, climbed.steps)
    owners = [(unit, k) for unit in units for k in range(unit.count)]
    for i, (unit, k) in enumerate(owners):
        level, dead = float(found[i]), not bool(climbed.alive[i])
        values = pictures[i].cpu().numpy()
        yield Optimised(
            values=np.full_like(values, 0.5) if dead else values,
            objective=str(unit.objective), index=k, activation=level,
            kept={name: float(v[i]) / level for name, v in changed.items()} if level > 0 else {},
            highest=None, dead=dead, curve=climbed.curves[i].numpy(), about=about,
        )  # fmt: skip


def _about(model: Model, plan: Plan, seed: int, steps: int) -> Circumstances:
    untrained = model.looks_untrained()
    coarse = plan.coarse and f"first {plan.coarse_steps} steps at {plan.coarse[1]}×{plan.coarse[0]}"
    return Circumstances(
        model=model.title, size=plan.size, steps=steps, wanted=plan.steps, seed=seed,
        pixels=plan.param.describe(model.input.channels), moves=plan.transforms.describe(),
        coarse=coarse or "", preprocessing=model.input.preprocess.describe(),
        note=f"this network looks untrained: {untrained}" if untrained else "",
    )  # fmt: skip


def _compared(
    lens: Lens, units: Sequence[Unit], pictures: Sequence[Optimised], images: Any, size: Size
) -> list[Optimised]:
    if images is None or not pictures:
        return list(pictures)
    with torch.no_grad():
        best, seen = highest(lens, units, images, size)
    tops = dict(zip((str(unit.objective) for unit in units), best, strict=True))
    return [
        replace(one, highest=tops[one.objective], about=replace(one.about, compared=seen))
        for one in pictures
    ]
