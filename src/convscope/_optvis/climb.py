"""The climb: gradient ascent on pictures, weights fixed, many units side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from convscope._errors import ModelError
from convscope._optvis.lens import Lens
from convscope._optvis.objectives import Goal, Objective
from convscope._optvis.params import Param, Size
from convscope._optvis.redirect import redirected
from convscope._optvis.transforms import DRAWS, Transforms

RESCUE = 0.5  # the share of the steps in which a picture that gets no gradient is helped
LOUDER, LOUDEST = 1.5, 256.0  # a step's factor on a start without gradient, and all of them


@dataclass(frozen=True)
class Unit:
    """One objective on the model, and the random streams of its pictures (``count`` of them)."""

    objective: Objective
    goal: Goal
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
class Plan:
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
class Step:
    """One step done: ``done`` of ``of``; ``pictures()`` are those of the moment, 0…1."""

    done: int
    of: int
    units: tuple[str, ...]
    images: Callable[[], Tensor]


Watch = Callable[[Step], object]


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


class Climb:
    """The state of one batch of units on their way up."""

    def __init__(self, lens: Lens, units: Sequence[Unit], plan: Plan, device: torch.device) -> None:
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

    def run(self, watch: Watch) -> OptimizationResult:
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
                watch(Step(step + 1, self._plan.steps, names, self.images))
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
            redirected(self._marked) if helped and self._lens.model.runs_in_torch else nullcontext()
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
        """Where nothing can be redirected: a picture without gradient starts again, louder."""
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


def score(units: Sequence[Unit], activations: dict[str, Tensor]) -> Tensor:
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
