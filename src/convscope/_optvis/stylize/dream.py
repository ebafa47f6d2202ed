"""``cs.dream``: DeepDream, on a picture of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import UsageError
from convscope._images.ops import gaussian_blur
from convscope._models import Model, load
from convscope._optvis.animation import FrameRecorder
from convscope._optvis.evaluation import quantize
from convscope._optvis.image_objectives import GuideSimilarity
from convscope._optvis.objectives import Objective, Sum, WholeLayer
from convscope._optvis.optimizer import OptimizationStep
from convscope._optvis.params import Size
from convscope._optvis.parsing import parse_objective
from convscope._optvis.stylize.default_layers import layer_at_depth, layers_by_depth
from convscope._optvis.stylize.source_image import SourceImage, load_source_image, resized
from convscope._optvis.stylize.stylized_image import StylizedImage, circumstances, to_array
from convscope._optvis.stylize.tiling import STRIDE, TiledObjective, Tiling, gradient
from convscope._optvis.transforms import Normalizer

_DEPTH = 0.75  # where in the network a dream looks, unless it is told
_SCALES = (0.0, 1.0, 2.0, 4.0)  # standard deviations, in pixels, that gradients are looked at with


@dataclass(frozen=True)
class DreamPlan:
    """How a dream goes on.

    - ``sizes``: small to large; ``steps``: at each; ``rate``: how far a pixel moves in a step, on
      average, the picture being 0…1; ``jitter``: pixels by which it is shifted before each look
    """

    sizes: tuple[Size, ...]
    steps: int
    rate: float
    jitter: int
    tiling: Tiling

    @property
    def all(self) -> int:
        return len(self.sizes) * self.steps


def dream(
    model: Any,
    image: Any,
    what: Any = None,
    *,
    guide: Any = None,
    steps: int = 10,
    octaves: int | None = None,
    scale: float = 1.4,
    rate: float = 0.006,
    jitter: int = 32,
    size: int | tuple[int, int] | None = None,
    tile: int = 512,
    seed: int = 0,
    animate: bool = False,
    on_step: Callable[[OptimizationStep], object] | None = None,
) -> StylizedImage:
    """Paint into a picture what a layer sees in it (DeepDream: Mordvintsev et al., 2015).

    - ``model``: a loaded model, or anything ``load`` takes. ``image``: whatever it takes, at its
      own size; ``size`` makes its longer side that long, or is ``(height, width)``.
    - ``what``: a layer's path (its mean square is raised), a unit or sum (``"conv2:3"``), an
      objective, or a list of these; by default a layer at three quarters of the depth.
    - ``guide``: a picture; what the layer sees in it is painted instead, wherever it fits best.
    - ``octaves``: how many sizes it is painted at, each ``scale`` times the one before, details of
      the picture put back every time; by default down to half of what the model takes. ``steps``:
      at each; ``rate``: how far a pixel moves in one.
    - ``jitter``: the picture is shifted by up to so many pixels before each look.
    - ``tile``: larger pictures are looked at in tiles of about so many pixels a side.
    - ``animate``: keep moments, for ``.save("x.webp")``; ``on_step``: called after every step.

    The same seed gives the same picture. Ctrl-C ends it early with what is done. Raises
    ``UnknownLayer``, ``UsageError``, ``ModelError``, ``ImageError``.
    """
    _check(steps, octaves, scale, rate, jitter, tile)
    loaded = load(model)
    lens = Normalizer(loaded)
    canvas = load_source_image(lens, image, size)
    wanted = parse_dream_objective(loaded, what, guide)
    with loaded.eval_frozen():
        look = TiledObjective(lens, wanted)
        tiling = look.tiling(canvas.size, tile)
        plan = DreamPlan(
            look.sizes(canvas.size, octaves, scale, tiling), steps, rate, jitter, tiling
        )
        film = FrameRecorder(plan.all) if animate else None
        work = DeepDream(look, canvas.values, plan, seed)
        work.run(film, on_step or (lambda _step: None))
        return _result(work, canvas, wanted, guide, film, seed, scale)


def _check(
    steps: int, octaves: int | None, scale: float, rate: float, jitter: int, tile: int
) -> None:
    counts = {
        "steps": (steps, 1),
        "octaves": (1 if octaves is None else octaves, 1),
        "jitter": (jitter, 0),
        "tile": (tile, 2 * STRIDE),
    }
    for name, (value, least) in counts.items():
        if value < least:
            raise UsageError(f"{name}={value} makes no dream. Nearest: {least}")
    if not scale > 1:
        raise UsageError(
            f"scale={scale:g} makes no octaves: each is larger than the one before. Usual: 1.4"
        )
    if not rate > 0:
        raise UsageError(f"rate={rate:g} paints nothing. Usual: 0.006")


def parse_dream_objective(model: Model, what: Any, guide: Any) -> Objective:
    """What is to be painted as one objective."""
    if guide is not None:
        path = layer_at_depth(layers_by_depth(model), _DEPTH) if what is None else what
        layer, where = model.layers.at(path) if isinstance(path, str) else (None, None)
        if layer is None or where is None or where.channel is not None:
            raise UsageError("With a guide, name one layer: what it sees in the guide is painted")
        return GuideSimilarity(guide, layer.path)
    if what is None:
        return WholeLayer(layer_at_depth(layers_by_depth(model), _DEPTH))
    if isinstance(what, Objective):
        return what
    if isinstance(what, str):
        known = any(layer.path == what for layer in model.layers)
        found = known or (":" not in what and len(what.split()) == 1)
        return WholeLayer(model.layers.at(what)[0].path) if found else parse_objective(what)
    if isinstance(what, (list, tuple)) and what:
        return Sum(tuple((1.0, parse_dream_objective(model, one, None)) for one in what))
    raise UsageError(f"{what!r} is nothing to dream of. Name a layer or a unit: conv2, conv2:3")


class DeepDream:
    """The state of a dream: an octave, and what was painted so far."""

    def __init__(self, look: TiledObjective, picture: Tensor, plan: DreamPlan, seed: int) -> None:
        self.look, self.plan = look, plan
        self.image = picture.to(look.device)
        self.scores: list[float] = []
        self._chance = torch.Generator().manual_seed(seed)
        self._detail = torch.zeros_like(self.image)

    def run(
        self, film: FrameRecorder | None, on_step: Callable[[OptimizationStep], object]
    ) -> None:
        """All octaves; Ctrl-C ends them early, once there is a first step."""
        names = (str(self.look.wanted),)
        if film:
            film.start(names, self.image)
        try:
            for _ in self._steps():
                step = OptimizationStep(len(self.scores), self.plan.all, names, self.now)
                if film:
                    film(step)
                on_step(step)
        except KeyboardInterrupt:
            if not self.scores:
                raise

    def _steps(self) -> Iterator[None]:
        for size in self.plan.sizes:
            base = resized(self.image, size)
            painted = (base + resized(self._detail, size)).clamp(0, 1)
            for _ in range(self.plan.steps):
                painted = self._step(painted)
                self._detail = painted - base
                yield

    def _step(self, painted: Tensor) -> Tensor:
        most = self.plan.jitter
        shift = torch.randint(-most, most + 1, (2,), generator=self._chance).tolist()
        score, upward = gradient(painted, (shift[0], shift[1]), self.plan.tiling, self.look)
        self.scores.append(score)
        return (painted + self.plan.rate * balance_frequencies(upward)).clamp(0, 1)

    def now(self) -> Tensor:
        """The picture at its full size."""
        detail = resized(self._detail, (self.image.shape[-2], self.image.shape[-1]))
        return (self.image + detail).clamp(0, 1)


def balance_frequencies(upward: Tensor) -> Tensor:
    """A gradient with its coarse parts as strong as its fine ones, of mean magnitude 1.

    Plain, it draws hair-fine lines alone; so shapes and colors come along.
    """
    return _unit(torch.stack([_unit(gaussian_blur(upward, sd)) for sd in _SCALES]).sum(0))


def _unit(values: Tensor) -> Tensor:
    return values / values.abs().mean().clamp_min(1e-20)


def _result(
    work: DeepDream,
    canvas: SourceImage,
    wanted: Objective,
    guide: Any,
    film: FrameRecorder | None,
    seed: int,
    scale: float,
) -> StylizedImage:
    look, plan, model = work.look, work.plan, work.look.lens.model
    done = quantize(work.now())
    before = quantize(work.image)
    measures = {str(wanted): (look.value(before, plan.tiling), look.value(done, plan.tiling))}
    height, width = canvas.size
    largest = plan.tiling.of(canvas.size)
    settings = {
        "size": f"{width}×{height}",
        "octaves": len(plan.sizes),
        "scale": scale,
        "rate": plan.rate,
        "jitter": plan.jitter,
        "tiles": len(largest),
        "seed": seed,
    }
    notes = circumstances(model, canvas)
    if torch.equal(done, before):
        notes = (*notes, "nothing changed: no gradient reached the picture")
    beside = {} if guide is None else {"guide": _beside(look.lens, guide, canvas)}
    return StylizedImage(
        values=to_array(done),
        before=to_array(before),
        beside=beside,
        title=f"{canvas.name} · a dream of {wanted}",
        model=model.title,
        measures=measures,
        curve=torch.tensor(work.scores).numpy(),
        steps=len(work.scores),
        wanted=plan.all,
        settings=settings,
        notes=notes,
        moments=film.of(str(wanted)) if film else (),
    )


def _beside(lens: Normalizer, guide: Any, canvas: SourceImage) -> NDArray[np.float32]:
    """The guide as it is, no larger than the picture."""
    return to_array(load_source_image(lens, guide, None, max(canvas.size)).values)
