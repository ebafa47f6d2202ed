"""The climb: gradient ascent on pictures, weights fixed, many units side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from torch import Tensor

from convscope._errors import ModelError, is_out_of_memory
from convscope._optvis.objectives import BoundObjective, Objective
from convscope._optvis.params import Param, Size
from convscope._optvis.relu_gradient_override import relu_gradient_override
from convscope._optvis.transforms import DRAWS, Normalizer, Transforms

RESCUE = 0.5  # the share of the steps in which a picture that gets no gradient is helped
LOUDER, LOUDEST = 1.5, 256.0  # a step's factor on a start without gradient, and all of them


@dataclass(frozen=True)
class RenderTarget:
    """One objective on the model, and the random streams of its pictures (``count`` of them)."""

    objective: Objective
    goal: BoundObjective
    seed: int
    count: int

    def streams(self, device: torch.device) -> list[torch.Generator]:
        """One for each picture; nothing beside the unit in a batch has a say in it."""
        return [
            torch.Generator(device).manual_seed(_number(f"{self.seed}/{k}/{self.objective}"))
            for k in range(self.count)
        ]


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class OptimizationPlan:
    """How to climb.

    - ``size``: of the pictures; ``coarse``: the smaller size of the first ``coarse_steps``.
    - ``rate``: of Adam. ``start``: a picture to start from instead of noise ``(1, C, H, W)``.
    - ``opacity``: keep count of where the gradient was; ``half``: the network in bfloat16,
      ``None``: on GPUs.
    """

    size: Size
    steps: int
    param: Param
    transforms: Transforms
    rate: float = 0.1
    coarse: Size | None = None
    coarse_steps: int = 0
    start: Tensor | None = None
    opacity: bool = False
    half: bool | None = None
    begun: Callable[[Sequence[str], Tensor], object] | None = None

    def size_at(self, step: int) -> Size:
        return self.coarse if self.coarse and step < self.coarse_steps else self.size


@dataclass(frozen=True)
class OptimizationStep:
    """One step done: ``done`` of ``of``; ``pictures()`` are those of the moment, 0…1."""

    done: int
    of: int
    units: tuple[str, ...]
    images: Callable[[], Tensor]


StepCallback = Callable[[OptimizationStep], object]


@dataclass(frozen=True)
class OptimizationResult:
    """Pictures 0…1 ``(N, C, H, W)``, the score at each step, who ever got a gradient.

    ``weight`` ``(N, H, W)``: how much gradient each pixel got over all steps, where asked for.
    """

    pictures: Tensor
    curves: Tensor
    alive: Tensor
    steps: int
    weight: Tensor | None


class Adam:
    """Adam on one tensor, in place; each picture of a batch goes its own way."""

    def __init__(self, state: Tensor, rate: float) -> None:
        self._state, self._rate, self._count = state, rate, 0
        self._mean, self._square = torch.zeros_like(state), torch.zeros_like(state)

    def ascend(self, gradient: Tensor) -> None:
        self._count += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = (self._square / (1 - 0.999**self._count)).sqrt_().add_(1e-8)
        self._state.addcdiv_(self._mean, root, value=self._rate / (1 - 0.9**self._count))


class Optimization:
    """The state of one batch of units on their way up."""

    def __init__(
        self,
        lens: Normalizer,
        units: Sequence[RenderTarget],
        plan: OptimizationPlan,
        device: torch.device,
    ) -> None:
        self._lens, self._units, self._plan = lens, units, plan
        self._streams = [stream for unit in units for stream in unit.streams(device)]
        self._state = self._begin(device).requires_grad_()
        drawn = [torch.rand(plan.steps, DRAWS, generator=g, device=device) for g in self._streams]
        self._draws = torch.stack(drawn, 1)
        self._layers = tuple(dict.fromkeys(path for unit in units for path in unit.goal.layers))
        self._marked = torch.zeros(len(self._streams), dtype=torch.bool, device=device)
        self._alive = self._marked.clone()
        self._rescue = int(RESCUE * plan.steps)
        self._weight = (
            torch.zeros(len(self._streams), *plan.size, device=device) if plan.opacity else None
        )

    def _begin(self, device: torch.device) -> Tensor:
        plan, channels = self._plan, self._lens.model.input.channels
        if plan.start is None:
            return plan.param.random(channels, plan.size, self._streams)
        state = plan.param.of_picture(plan.start.to(device))
        return state.repeat(len(self._streams), *[1] * (state.ndim - 1))

    def run(self, watch: StepCallback) -> OptimizationResult:
        """All steps; Ctrl-C ends them early, once there is a first."""
        scores: list[Tensor] = []
        names = tuple(str(unit.objective) for unit in self._units)
        if self._plan.begun:
            self._plan.begun(names, self.images())
        try:
            for step in range(self._plan.steps):
                if step in (0, self._plan.coarse_steps):
                    adam = Adam(self._state.detach(), self._plan.rate)
                scores.append(self._step(step, adam))
                watch(OptimizationStep(step + 1, self._plan.steps, names, self.images))
        except KeyboardInterrupt:
            if not scores:
                raise
        curves = torch.stack(scores, 1).cpu()
        return OptimizationResult(self.images(), curves, self._alive, len(scores), self._weight)

    def images(self) -> Tensor:
        with torch.no_grad():
            return self._plan.param.image(self._state, self._plan.size)

    def _step(self, step: int, adam: Adam) -> Tensor:
        rescuing = step < self._rescue
        helped = rescuing and bool(self._marked.any())
        with (
            relu_gradient_override(self._marked)
            if helped and self._lens.model.runs_in_torch
            else nullcontext()
        ):
            scores, gradient = self._look(step)
        fed = gradient.flatten(1).any(1)
        if helped and not self._lens.model.runs_in_torch:
            self._raise_noise(self._marked & ~fed, step)
        if rescuing:
            self._alive |= fed & ~self._marked
            self._marked |= ~fed
        else:
            self._alive |= fed
        adam.ascend(gradient)
        return scores

    def _raise_noise(self, silent: Tensor, step: int) -> None:
        """Where no gradient can be overridden: a picture without gradient starts again, louder."""
        if LOUDER**step <= LOUDEST:
            with torch.no_grad():
                self._state[silent] *= LOUDER

    def _look(self, step: int) -> tuple[Tensor, Tensor]:
        plan = self._plan
        pictures = plan.param.image(self._state, plan.size, plan.size_at(step))
        seen = plan.transforms(pictures, self._draws[step], self._noise(pictures.shape), step)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=bool(plan.half)):
            shown = self._lens.batch(seen)
            activations = self._lens.model.activations(shown, self._layers, grad=True)
        scores = score(self._units, activations)
        if not scores.requires_grad:
            raise no_gradient(self._lens.model, self._layers)
        if self._weight is None:
            return scores.detach(), torch.autograd.grad(scores.sum(), self._state)[0]
        gradient, pushed = torch.autograd.grad(scores.sum(), (self._state, pictures))
        self._weight += resized(pushed.abs().sum(1, keepdim=True), plan.size)[:, 0]
        return scores.detach(), gradient

    def _noise(self, shape: Sequence[int]) -> Tensor | None:
        if not self._plan.transforms.noise:
            return None
        drawn = [torch.randn(*shape[1:], generator=g, device=g.device) for g in self._streams]
        return torch.stack(drawn)


def resized(values: Tensor, size: Size) -> Tensor:
    """Maps at another size."""
    if values.shape[-2:] == torch.Size(size):
        return values
    return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)


def score(units: Sequence[RenderTarget], activations: dict[str, Tensor]) -> Tensor:
    """The scores of all pictures of all units, in order."""
    counts = [unit.count for unit in units]
    parts = {path: torch.split(values, counts) for path, values in activations.items()}
    return torch.cat(
        [
            unit.goal.score({path: parts[path][k] for path in unit.goal.layers})
            for k, unit in enumerate(units)
        ]
    )


def no_gradient(model: object, layers: Sequence[str]) -> ModelError:
    name = getattr(model, "name", model)
    return ModelError(
        f"No gradient leads from {layers[-1]!r} of {name} back to the picture (detached, "
        "quantized, or run without gradients?), so nothing can climb. Take an earlier layer, or "
        "the network in float32"
    )


_COARSE_LEAST = 48
_CPU_BATCH, _CPU_BYTES = 16, 1 << 30

Chunk = Sequence[RenderTarget]


def optimize_all(
    lens: Normalizer, units: Chunk, plan: OptimizationPlan, batch: int | None, watch: StepCallback
) -> Iterator[tuple[Chunk, OptimizationPlan, OptimizationResult]]:
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
            climbed = Optimization(lens, chunk, own, device).run(
                _within(watch, done, len(chunk), of)
            )
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


def _within(
    watch: StepCallback, done: int, width: int, of: int
) -> Callable[[OptimizationStep], object]:
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


def probe(lens: Normalizer, units: Chunk, size: Size) -> tuple[torch.device, int]:
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
    waiting: list[RenderTarget] = []
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


def _coarse(lens: Normalizer, units: Chunk, plan: OptimizationPlan) -> OptimizationPlan:
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
