"""``cs.dream``: DeepDream, on an image of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import UsageError
from convscope._images import ImageLike
from convscope._images.ops import gaussian_blur
from convscope._models import Model, ModelLike, load
from convscope._optvis.animation import FrameRecorder
from convscope._optvis.evaluation import quantize
from convscope._optvis.image_objectives import GuideSimilarity
from convscope._optvis.objectives import Objective, Sum, WholeLayer
from convscope._optvis.optimizer import OptimizationStep, StepCallback
from convscope._optvis.params import Size
from convscope._optvis.parsing import parse_objective
from convscope._optvis.stylize.default_layers import (
    check_takes_images,
    layer_at_depth,
    layers_by_depth,
)
from convscope._optvis.stylize.source_image import SourceImage, load_source_image, resized
from convscope._optvis.stylize.stylized_image import StylizedImage, input_notes, to_array
from convscope._optvis.stylize.tiling import STRIDE, TiledObjective, Tiling, gradient
from convscope._optvis.transforms import Normalizer

_DEPTH = 0.75  # of the default layer, as a share of the depth of the network
_SIGMAS = (0.0, 1.0, 2.0, 4.0)  # pixels; of the blurs whose gradients are averaged


@dataclass(frozen=True)
class DreamPlan:
    """How to optimize.

    Attributes:
        sizes: Sizes of the octaves, small to large.
        steps: Number of steps per octave.
        step_size: Mean change of a pixel per step, of 0…1.
        jitter: Maximum random shift per step, in pixels.
        tiling: The tiles that larger images are split into.
    """

    sizes: tuple[Size, ...]
    steps: int
    step_size: float
    jitter: int
    tiling: Tiling

    @property
    def total_steps(self) -> int:
        return len(self.sizes) * self.steps


def dream(
    model: ModelLike,
    image: ImageLike,
    objective: str | Objective | Sequence[str | Objective] | None = None,
    *,
    guide: ImageLike | None = None,
    steps: int = 10,
    octaves: int | None = None,
    scale: float = 1.4,
    step_size: float = 0.006,
    jitter: int = 32,
    size: int | tuple[int, int] | None = None,
    tile: int = 512,
    seed: int = 0,
    animate: bool = False,
    on_step: StepCallback | None = None,
) -> StylizedImage:
    """Amplify the activations of a layer in an image (DeepDream).

    Ctrl-C ends it early with what is done. Source: Mordvintsev, Olah and Tyka, Inceptionism, 2015.

    Args:
        model: A loaded model, or anything ``load`` takes.
        image: The image to start from, at its own size unless ``size`` is given.
        objective: A layer's path (its mean square is maximized), a unit or sum (``"conv2:3"``), an
            objective, or a list of these; by default a layer at three quarters of the depth.
        guide: An image whose activations of the layer are matched instead.
        steps: Number of steps per octave.
        octaves: Number of sizes at which the image is optimized, its details restored each time;
            by default down to about half of the model's input.
        scale: Ratio of the sizes of two octaves.
        step_size: Mean change of a pixel per step, of 0…1.
        jitter: Maximum random shift per step, in pixels.
        size: Longer side of the result, or ``(height, width)``.
        tile: Side of the tiles that larger images are split into, in pixels.
        seed: The same seed gives the same image.
        animate: Whether to keep frames of the optimization, for ``.save("x.webp")``.
        on_step: Called after every step with an ``OptimizationStep``.

    Returns:
        The image, with the objective before and after.

    Raises:
        UnknownLayer: Where there is no such layer or channel.
        UsageError: Where an argument makes no sense.
        ModelError: Where the network does not take images of this size.
        ImageError: Where the image cannot be read.
    """
    _check(steps, octaves, scale, step_size, jitter, tile)
    loaded = load(model)
    check_takes_images(loaded)
    normalizer = Normalizer(loaded)
    source = load_source_image(normalizer, image, size)
    parsed = parse_dream_objective(loaded, objective, guide)
    with loaded.eval_frozen():
        tiled = TiledObjective(normalizer, parsed)
        tiling = tiled.tiling(source.size, tile)
        sizes = tiled.sizes(source.size, octaves, scale, tiling)
        plan = DreamPlan(sizes, steps, step_size, jitter, tiling)
        recorder = FrameRecorder(plan.total_steps) if animate else None
        state = DeepDream(tiled, source.values, plan, seed)
        state.run(recorder, on_step or (lambda _step: None))
        return _result(state, source, guide, recorder, seed, scale)


def _check(
    steps: int, octaves: int | None, scale: float, step_size: float, jitter: int, tile: int
) -> None:
    counts = {
        "steps": (steps, 1),
        "octaves": (1 if octaves is None else octaves, 1),
        "jitter": (jitter, 0),
        "tile": (tile, 2 * STRIDE),
    }
    for name, (value, minimum) in counts.items():
        if value < minimum:
            raise UsageError(f"{name}={value} is too small. Nearest: {minimum}")
    if not scale > 1:
        raise UsageError(
            f"scale={scale:g} makes no octaves: each is larger than the one before. Usual: 1.4"
        )
    if not step_size > 0:
        raise UsageError(f"step_size={step_size:g} is not above 0. Usual: 0.006")


def parse_dream_objective(model: Model, objective: Any, guide: ImageLike | None) -> Objective:
    """Read what ``dream`` takes as one objective."""
    if guide is not None:
        path = layer_at_depth(layers_by_depth(model), _DEPTH) if objective is None else objective
        layer, address = model.layers.at(path) if isinstance(path, str) else (None, None)
        if layer is None or address is None or address.channel is not None:
            raise UsageError("With a guide, name one layer: its activations are matched")
        return GuideSimilarity(guide, layer.path)
    if objective is None:
        return WholeLayer(layer_at_depth(layers_by_depth(model), _DEPTH))
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, str):
        known = any(layer.path == objective for layer in model.layers)
        if known or (":" not in objective and len(objective.split()) == 1):
            return WholeLayer(model.layers.at(objective)[0].path)
        return parse_objective(objective)
    if isinstance(objective, (list, tuple)) and objective:
        return Sum(tuple((1.0, parse_dream_objective(model, one, None)) for one in objective))
    raise UsageError(f"{objective!r} is not an objective. Name a layer or a unit: conv2, conv2:3")


class DeepDream:
    """The state of an optimization: the original image, and the change so far."""

    def __init__(self, tiled: TiledObjective, image: Tensor, plan: DreamPlan, seed: int) -> None:
        self.tiled, self.plan = tiled, plan
        self.original = image.to(tiled.device)
        self.scores: list[float] = []
        self._generator = torch.Generator().manual_seed(seed)
        self._change = torch.zeros_like(self.original)

    def run(self, recorder: FrameRecorder | None, on_step: StepCallback) -> None:
        """Optimize all octaves; Ctrl-C ends them early, once there is a first step."""
        names, total = (str(self.tiled.objective),), self.plan.total_steps
        if recorder:
            recorder.start(names, self.original)
        try:
            for _ in self._steps():
                step = OptimizationStep(len(self.scores), total, names, self.image)
                if recorder:
                    recorder(step)
                on_step(step)
        except KeyboardInterrupt:
            if not self.scores:
                raise

    def _steps(self) -> Iterator[None]:
        for size in self.plan.sizes:
            base = resized(self.original, size)
            image = (base + resized(self._change, size)).clamp(0, 1)
            for _ in range(self.plan.steps):
                image = self._step(image)
                self._change = image - base
                yield

    def _step(self, image: Tensor) -> Tensor:
        limit = self.plan.jitter
        shift = torch.randint(-limit, limit + 1, (2,), generator=self._generator).tolist()
        score, ascent = gradient(image, (shift[0], shift[1]), self.plan.tiling, self.tiled)
        self.scores.append(score)
        return (image + self.plan.step_size * balance_frequencies(ascent)).clamp(0, 1)

    def image(self) -> Tensor:
        """The current image ``(1, C, H, W)`` at its full size."""
        size = (self.original.shape[-2], self.original.shape[-1])
        return (self.original + resized(self._change, size)).clamp(0, 1)


def balance_frequencies(gradient: Tensor) -> Tensor:
    """Make low frequencies of a gradient as strong as high ones; mean magnitude 1.

    The gradient itself is mostly high frequencies, and would draw fine lines alone.
    """
    blurred = [_normalized(gaussian_blur(gradient, sigma)) for sigma in _SIGMAS]
    return _normalized(torch.stack(blurred).sum(0))


def _normalized(values: Tensor) -> Tensor:
    return values / values.abs().mean().clamp_min(1e-20)


def _result(
    state: DeepDream,
    source: SourceImage,
    guide: ImageLike | None,
    recorder: FrameRecorder | None,
    seed: int,
    scale: float,
) -> StylizedImage:
    tiled, plan = state.tiled, state.plan
    model, name = tiled.normalizer.model, str(tiled.objective)
    before, after = quantize(state.original), quantize(state.image())
    notes = input_notes(model, source)
    if torch.equal(after, before):
        notes = (*notes, "nothing changed: no gradient reached the image")
    references = {} if guide is None else {"guide": _guide(tiled.normalizer, guide, source)}
    return StylizedImage(
        values=to_array(after),
        before=to_array(before),
        references=references,
        title=f"{source.name} · DeepDream of {name}",
        model=model.title,
        measures={name: (tiled.value(before, plan.tiling), tiled.value(after, plan.tiling))},
        curve=torch.tensor(state.scores).numpy(),
        steps=len(state.scores),
        planned_steps=plan.total_steps,
        settings=_settings(plan, source.size, scale, seed),
        notes=notes,
        frames=recorder.frames(name) if recorder else (),
    )


def _settings(plan: DreamPlan, size: Size, scale: float, seed: int) -> dict[str, Any]:
    height, width = size
    return {
        "size": f"{width}×{height}",
        "octaves": len(plan.sizes),
        "scale": scale,
        "step size": plan.step_size,
        "jitter": plan.jitter,
        "tiles": len(plan.tiling.tiles(size)),
        "seed": seed,
    }


def _guide(normalizer: Normalizer, guide: ImageLike, source: SourceImage) -> NDArray[np.float32]:
    """The guide as it is, no larger than the image."""
    return to_array(load_source_image(normalizer, guide, None, max(source.size)).values)
