"""Gradient ascent on images with the weights fixed: many targets side by side, in batches."""

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

OVERRIDE_SHARE = 0.5  # the share of the steps in which images without gradient are helped
AMPLIFICATION, MAX_AMPLIFICATION = 1.5, 256.0  # of initial noise without gradient: per step, in all
_MIN_COARSE_SIDE = 48
_CPU_BATCH, _CPU_BYTES = 16, 1 << 30


@dataclass(frozen=True)
class RenderTarget:
    """One objective on the model, and how many images are optimized for it."""

    objective: Objective
    bound: BoundObjective
    seed: int
    count: int

    def generators(self, device: torch.device) -> list[torch.Generator]:
        """Return a random generator for each image, independent of the rest of the batch."""
        return [
            torch.Generator(device).manual_seed(_hash(f"{self.seed}/{k}/{self.objective}"))
            for k in range(self.count)
        ]


Targets = Sequence[RenderTarget]


def _hash(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class OptimizationPlan:
    """How to optimize.

    Attributes:
        size: Height and width of the images.
        steps: Number of optimization steps.
        param: What is optimized.
        transforms: The augmentation of each step.
        learning_rate: Of Adam.
        coarse_size: The smaller size of the first ``coarse_steps`` steps, if any.
        start: An image ``(1, C, H, W)``, 0…1, to start from instead of noise.
        opacity: Whether the gradient at each pixel is summed up.
        bfloat16: Whether the network runs in bfloat16; ``None``: on GPUs.
        on_start: Called with the names of the targets and the initial images of each batch.
    """

    size: Size
    steps: int
    param: Param
    transforms: Transforms
    learning_rate: float = 0.1
    coarse_size: Size | None = None
    coarse_steps: int = 0
    start: Tensor | None = None
    opacity: bool = False
    bfloat16: bool | None = None
    on_start: Callable[[Sequence[str], Tensor], object] | None = None

    def size_at(self, step: int) -> Size:
        return self.coarse_size if self.coarse_size and step < self.coarse_steps else self.size


@dataclass(frozen=True)
class OptimizationStep:
    """Progress: what ``on_step`` is called with.

    Attributes:
        done: Number of steps done, over all images.
        total: Number of steps in all.
        names: The names of the objectives that are being optimized.
        images: Returns their current images, a tensor ``(N, C, H, W)`` in 0…1.
    """

    done: int
    total: int
    names: tuple[str, ...]
    images: Callable[[], Tensor]


StepCallback = Callable[[OptimizationStep], object]


@dataclass(frozen=True)
class OptimizationResult:
    """The raw result of the optimizer loop.

    Attributes:
        images: ``(N, C, H, W)``, 0…1.
        curves: The score of each image at each step, ``(N, steps)``.
        has_gradient: Which images ever got a gradient without help, ``(N,)``.
        steps: Number of steps done.
        gradient_sum: Absolute gradient at each pixel, summed over all steps, ``(N, H, W)``.
    """

    images: Tensor
    curves: Tensor
    has_gradient: Tensor
    steps: int
    gradient_sum: Tensor | None


class Adam:
    """Adam on one tensor, in place; the images of a batch do not influence each other."""

    def __init__(self, state: Tensor, learning_rate: float) -> None:
        self._state, self._learning_rate, self._count = state, learning_rate, 0
        self._mean, self._square = torch.zeros_like(state), torch.zeros_like(state)

    def ascend(self, gradient: Tensor) -> None:
        self._count += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = (self._square / (1 - 0.999**self._count)).sqrt_().add_(1e-8)
        self._state.addcdiv_(self._mean, root, value=self._learning_rate / (1 - 0.9**self._count))


class Optimization:
    """The state of one batch of targets while it is optimized."""

    def __init__(
        self, normalizer: Normalizer, targets: Targets, plan: OptimizationPlan, device: torch.device
    ) -> None:
        self._normalizer, self._targets, self._plan = normalizer, targets, plan
        self._generators = [g for target in targets for g in target.generators(device)]
        self._state = self._initial_state(device).requires_grad_()
        draws = [
            torch.rand(plan.steps, DRAWS, generator=g, device=device) for g in self._generators
        ]
        self._draws = torch.stack(draws, 1)
        self._layers = tuple(dict.fromkeys(path for one in targets for path in one.bound.layers))
        count = len(self._generators)
        self._needs_override = torch.zeros(count, dtype=torch.bool, device=device)
        self._has_gradient = self._needs_override.clone()
        self._override_steps = int(OVERRIDE_SHARE * plan.steps)
        self._gradient_sum = torch.zeros(count, *plan.size, device=device) if plan.opacity else None

    def _initial_state(self, device: torch.device) -> Tensor:
        plan, channels = self._plan, self._normalizer.model.input.channels
        if plan.start is None:
            return plan.param.random(channels, plan.size, self._generators)
        state = plan.param.from_image(plan.start.to(device))
        return state.repeat(len(self._generators), *[1] * (state.ndim - 1))

    def run(self, on_step: StepCallback) -> OptimizationResult:
        """Do all steps; Ctrl-C ends them early, once there is a first."""
        scores: list[Tensor] = []
        names = tuple(str(target.objective) for target in self._targets)
        if self._plan.on_start:
            self._plan.on_start(names, self.images())
        try:
            for step in range(self._plan.steps):
                if step in (0, self._plan.coarse_steps):
                    adam = Adam(self._state.detach(), self._plan.learning_rate)
                scores.append(self._step(step, adam))
                on_step(OptimizationStep(step + 1, self._plan.steps, names, self.images))
        except KeyboardInterrupt:
            if not scores:
                raise
        curves = torch.stack(scores, 1).cpu()
        return OptimizationResult(
            self.images(), curves, self._has_gradient, len(scores), self._gradient_sum
        )

    def images(self) -> Tensor:
        """Return the current images ``(N, C, H, W)``, 0…1."""
        with torch.no_grad():
            return self._plan.param.to_image(self._state, self._plan.size)

    def _step(self, step: int, adam: Adam) -> Tensor:
        may_override = step < self._override_steps
        overriding = may_override and bool(self._needs_override.any())
        in_torch = self._normalizer.model.runs_in_torch
        with (
            relu_gradient_override(self._needs_override)
            if overriding and in_torch
            else nullcontext()
        ):
            scores, gradient = self._scores_and_gradient(step)
        got_gradient = gradient.flatten(1).any(1)
        if overriding and not in_torch:
            self._amplify(self._needs_override & ~got_gradient, step)
        if may_override:
            self._has_gradient |= got_gradient & ~self._needs_override
            self._needs_override |= ~got_gradient
        else:
            self._has_gradient |= got_gradient
        adam.ascend(gradient)
        return scores

    def _amplify(self, without_gradient: Tensor, step: int) -> None:
        """Increase the contrast of the initial noise, where gradients cannot be overridden."""
        if AMPLIFICATION**step <= MAX_AMPLIFICATION:
            with torch.no_grad():
                self._state[without_gradient] *= AMPLIFICATION

    def _scores_and_gradient(self, step: int) -> tuple[Tensor, Tensor]:
        plan, model = self._plan, self._normalizer.model
        images = plan.param.to_image(self._state, plan.size, plan.size_at(step))
        augmented = plan.transforms(images, self._draws[step], self._noise(images.shape), step)
        with torch.autocast(augmented.device.type, torch.bfloat16, enabled=bool(plan.bfloat16)):
            batch = self._normalizer.to_batch(augmented)
            activations = model.activations(batch, self._layers, grad=True)
        scores = score_targets(self._targets, activations)
        if not scores.requires_grad:
            raise no_gradient(model, self._layers)
        if self._gradient_sum is None:
            return scores.detach(), torch.autograd.grad(scores.sum(), self._state)[0]
        gradient, at_pixels = torch.autograd.grad(scores.sum(), (self._state, images))
        self._gradient_sum += _resize(at_pixels.abs().sum(1, keepdim=True), plan.size)[:, 0]
        return scores.detach(), gradient

    def _noise(self, shape: Sequence[int]) -> Tensor | None:
        if not self._plan.transforms.noise:
            return None
        drawn = [torch.randn(*shape[1:], generator=g, device=g.device) for g in self._generators]
        return torch.stack(drawn)


def _resize(values: Tensor, size: Size) -> Tensor:
    if values.shape[-2:] == torch.Size(size):
        return values
    return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)


def score_targets(targets: Targets, activations: dict[str, Tensor]) -> Tensor:
    """Return the scores ``(N,)`` of the images of all targets, in order."""
    counts = [target.count for target in targets]
    split = {path: torch.split(values, counts) for path, values in activations.items()}
    return torch.cat(
        [
            target.bound.score({path: split[path][k] for path in target.bound.layers})
            for k, target in enumerate(targets)
        ]
    )


def no_gradient(model: object, layers: Sequence[str]) -> ModelError:
    """Return the error for a layer that the image has no differentiable path to."""
    name = getattr(model, "name", model)
    return ModelError(
        f"No gradient leads from {layers[-1]!r} of {name} back to the image (detached, "
        "quantized, or run without gradients?), so nothing can be optimized. Take an earlier "
        "layer, or the network in float32"
    )


def optimize_all(
    normalizer: Normalizer,
    targets: Targets,
    plan: OptimizationPlan,
    batch_size: int | None,
    on_step: StepCallback,
) -> Iterator[tuple[Targets, OptimizationPlan, OptimizationResult]]:
    """Optimize batch by batch, in order; smaller batches where one does not fit in memory.

    Ctrl-C ends it with what is done, once there is a first step.
    """
    by_layers = {target.bound.layers: target for target in targets}
    probes = [probe(normalizer, target, plan.size) for target in by_layers.values()]
    device, memory = probes[0][0], max(each for _, each in probes)
    if plan.bfloat16 is None:
        plan = replace(plan, bfloat16=device.type == "cuda")
    waiting = deque(_batches(targets, _batch_size(device, memory, batch_size)))
    done, total = 0, plan.steps * len(targets)
    while waiting:
        batch = waiting.popleft()
        batch_plan = _with_possible_coarse_size(normalizer, batch, plan)
        optimization = Optimization(normalizer, batch, batch_plan, device)
        try:
            result = optimization.run(_counted(on_step, done, len(batch), total))
        except KeyboardInterrupt:
            if not done:
                raise
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            waiting.extendleft(reversed(_halves(batch, plan.size)))
            continue
        done += plan.steps * len(batch)
        yield batch, batch_plan, result
        if result.steps < plan.steps:
            return


def _counted(on_step: StepCallback, done: int, width: int, total: int) -> StepCallback:
    """Report the steps of one batch among those of all: a step of four targets counts four."""
    return lambda step: on_step(replace(step, done=done + step.done * width, total=total))


def _halves(batch: Targets, size: Size) -> list[Targets]:
    """Split a batch that did not fit in memory."""
    if len(batch) == 1:
        raise ModelError(
            f"{batch[0].objective} at {size[0]}×{size[1]} does not fit in memory. "
            "Take a smaller size, or a smaller count"
        ) from None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]


def probe(normalizer: Normalizer, target: RenderTarget, size: Size) -> tuple[torch.device, int]:
    """Run a target once on a gray image, and return its device and the bytes one image takes.

    Raises:
        ModelError: The network fails at this size, has no gradient, or the score is not finite.
    """
    counted: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        counted[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, it would hold the graph that holds it

    model, layers = normalizer.model, target.bound.layers
    gray = torch.full((1, model.input.channels, *size), 0.5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        activations = model.activations(normalizer.to_batch(gray), layers, grad=True)
        score = score_targets([replace(target, count=1)], activations)
    if not score.requires_grad:
        raise no_gradient(model, layers)
    if not bool(torch.isfinite(score).all()):
        raise not_finite(
            f"{target.objective} of {model.name} is {score.item():g}", "an earlier layer"
        )
    return score.device, sum(counted.values())


def not_finite(finding: str, advice: str) -> ModelError:
    """Return the error for a network whose results are NaN or infinite."""
    return ModelError(
        f"{finding} on a gray image. Its weights may hold NaN or infinity: load others, or take "
        f"{advice}"
    )


def _batches(targets: Targets, max_images: int) -> Iterator[Targets]:
    """Group targets of the same layers, ``max_images`` images at most."""
    batch: list[RenderTarget] = []
    for target in targets:
        full = sum(one.count for one in batch) + target.count > max_images
        if batch and (full or target.bound.layers != batch[0].bound.layers):
            yield batch
            batch = []
        batch.append(target)
    if batch:
        yield batch


def _batch_size(device: torch.device, memory: int, batch_size: int | None) -> int:
    """Return how many images fit side by side, each with this number of bytes."""
    if batch_size is not None:
        return max(1, batch_size)
    if device.type == "cuda":
        return max(1, int(torch.cuda.mem_get_info(device)[0] * 0.5) // max(memory, 1))
    return max(1, min(_CPU_BATCH, _CPU_BYTES // max(memory, 1)))


def _with_possible_coarse_size(
    normalizer: Normalizer, targets: Targets, plan: OptimizationPlan
) -> OptimizationPlan:
    """Drop the coarse size where the network does not take it, or a position is named."""
    coarse_size = plan.coarse_size
    if coarse_size is None:
        return plan
    full_size = replace(plan, coarse_size=None, coarse_steps=0)
    has_position = any(target.bound.has_position for target in targets)
    if has_position or plan.start is not None or min(coarse_size) < _MIN_COARSE_SIDE:
        return full_size
    try:
        probe(normalizer, targets[0], coarse_size)
    except ModelError:
        return full_size
    return plan
