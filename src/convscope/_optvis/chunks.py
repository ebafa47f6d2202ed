"""How many pictures climb side by side: as many as memory holds, fewer where it does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from convscope._errors import ModelError, is_out_of_memory
from convscope._optvis.climb import (
    Climb,
    OptimizationResult,
    Plan,
    Step,
    Unit,
    Watch,
    no_gradient,
    score,
)
from convscope._optvis.lens import Lens
from convscope._optvis.params import Size

_COARSE_LEAST = 48
_CPU_BATCH, _CPU_BYTES = 16, 1 << 30

Chunk = Sequence[Unit]


def climb_all(
    lens: Lens, units: Chunk, plan: Plan, batch: int | None, watch: Watch
) -> Iterator[tuple[Chunk, Plan, OptimizationResult]]:
    """Chunk by chunk, in order; Ctrl-C ends it with what is done, once there is a first."""
    tried = [probe(lens, [one], plan.size) for one in {u.goal.layers: u for u in units}.values()]
    device = tried[0][0]
    plan = replace(plan, half=device.type == "cuda" if plan.half is None else plan.half)
    waiting = deque(_chunks(units, _room(device, max(each for _, each in tried), batch)))
    done, of = 0, plan.steps * len(units)
    while waiting:
        chunk = waiting.popleft()
        own = _coarse(lens, chunk, plan)
        try:
            climbed = Climb(lens, chunk, own, device).run(_within(watch, done, len(chunk), of))
        except KeyboardInterrupt:
            if not done:
                raise
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            waiting.extendleft(reversed(_halves(chunk, plan.size)))
            continue
        done += plan.steps * len(chunk)
        yield chunk, own, climbed
        if climbed.steps < plan.steps:
            return


def _within(watch: Watch, done: int, width: int, of: int) -> Callable[[Step], object]:
    """Steps of one chunk counted among those of all: a step of four pictures is four."""
    return lambda step: watch(replace(step, done=done + step.done * width, of=of))


def _halves(chunk: Chunk, size: Size) -> list[Chunk]:
    """The same in two parts, where it was too much for memory at once."""
    if len(chunk) == 1:
        raise ModelError(
            f"{chunk[0].objective} at {size[0]}×{size[1]} does not fit in memory. "
            "Take a smaller size, or fewer pictures of it"
        ) from None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(chunk) // 2
    return [chunk[:middle], chunk[middle:]]


def probe(lens: Lens, units: Chunk, size: Size) -> tuple[torch.device, int]:
    """One look at gray: does it run, is it a number, is there a gradient? Its device and bytes."""
    counted: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        counted[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, it would hold the graph that holds it

    gray = torch.full((1, lens.model.input.channels, *size), 0.5, requires_grad=True)
    unit = replace(units[0], count=1)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        activations = lens.model.activations(lens.batch(gray), unit.goal.layers, grad=True)
        value = score([unit], activations)
    if not value.requires_grad:
        raise no_gradient(lens.model, unit.goal.layers)
    if not bool(torch.isfinite(value).all()):
        raise ModelError(
            f"{unit.objective} of {lens.model.name} is {value.item():g} on a gray picture. Its "
            "weights may hold NaN or infinity: load others, or take an earlier layer"
        )
    return value.device, sum(counted.values())


def _chunks(units: Chunk, most: int) -> Iterator[Chunk]:
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


def _coarse(lens: Lens, units: Chunk, plan: Plan) -> Plan:
    """The first steps at a smaller size, where the network takes one and no position is named."""
    small = plan.coarse
    if small is None:
        return plan
    fine = replace(plan, coarse=None, coarse_steps=0)
    placed = any(unit.goal.placed for unit in units)
    if placed or plan.start is not None or min(small) < _COARSE_LEAST:
        return fine
    try:
        probe(lens, units[:1], small)
    except ModelError:
        return fine
    return plan
