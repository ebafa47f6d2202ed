"""``cs.style``: a picture's content in another's style (Gatys, Ecker and Bethge, CVPR 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convscope._errors import UsageError
from convscope._models import Model, load
from convscope._optvis.animation import FrameRecorder
from convscope._optvis.evaluation import quantize
from convscope._optvis.optimizer import Adam, OptimizationStep
from convscope._optvis.params import Fourier, Size
from convscope._optvis.stylize.default_layers import layer_at_depth, layers_by_depth, shallow_layers
from convscope._optvis.stylize.source_image import (
    SourceImage,
    load_source_image,
    luminance,
    resize_to_cover,
    resized,
)
from convscope._optvis.stylize.style_statistics import StyleFeatures, StyleLoss
from convscope._optvis.stylize.stylized_image import StylizedImage, circumstances, to_array
from convscope._optvis.transforms import Normalizer

_STYLE_DEPTH, _STYLE_LAYERS, _CONTENT_DEPTH = 0.7, 6, 0.5
_OWN = 512  # larger pictures are reduced to it, unless a size is given
_JITTER = 8  # pixels; without it the strides of the first layers draw a grid
_WHAT = "style"


def style(
    model: Any,
    content: Any,
    style: Any,
    *,
    layers: str | Iterable[str] | None = None,
    content_layer: str | None = None,
    content_weight: float = 0.2,
    smoothness: float = 0.0,
    colors: str = "style",
    steps: int = 80,
    octaves: int = 2,
    rate: float = 0.05,
    size: int | tuple[int, int] | None = None,
    style_scale: float = 1.0,
    seed: int = 0,
    animate: bool = False,
    on_step: Callable[[OptimizationStep], object] | None = None,
) -> StylizedImage:
    """``content`` painted in the manner of ``style``, as a network sees both.

    - ``model``: a loaded model, or anything ``load`` takes.
    - ``content``, ``style``: pictures. ``size``: of the result's longer side, or ``(height,
      width)``; by default the content's own, and 512 where it is larger. ``style`` is shown at an
      equal area, times ``style_scale`` in each direction: larger means coarser strokes.
    - ``layers``: whose Gram matrices and means are to be those of ``style``; by default some of
      the first 70 % of the depth. ``content_layer``: whose maps are to stay; by default at half.
    - ``content_weight``: of an error in the content, 1 being that of a plain gray picture, beside
      one in the style, 1 being that of a network that sees nothing. So they mean the same in
      every network. ``smoothness``: weight of the total variation, 1 being the content's.
    - ``colors``: of the ``"style"``, or of the ``"content"``: then its brightness alone changes.
    - ``steps``: of Adam (``rate``) at each of ``octaves`` sizes, each twice the one before.
    - ``animate``: keep moments, for ``.save("x.webp")``; ``on_step``: called after every step.

    What is adjusted are Fourier waves, as in ``maximize``: they leave half of the distance that
    pixels leave in the same time, with Adam or L-BFGS, and less noise. The same seed gives the
    same picture.
    Ctrl-C ends it early with what is done. Raises ``UnknownLayer``, ``UsageError``,
    ``ModelError``, ``ImageError``.
    """
    loaded = load(model)
    lens = Normalizer(loaded)
    _check(loaded, steps, octaves, rate, style_scale, content_weight, smoothness, colors)
    canvas = load_source_image(lens, content, size, _OWN)
    manner = load_source_image(lens, style, None)
    where = _layers(loaded, layers, content_layer)
    with loaded.eval_frozen():
        sight = StyleFeatures(lens, where[0], where[1], content_weight, smoothness)
        sizes = sight.sizes(canvas.size, octaves)
        film = FrameRecorder(len(sizes) * steps, easing=2.0) if animate else None
        work = StyleTransfer(sight, canvas, manner, sizes, style_scale, colors == "content", seed)
        work.run(steps, rate, film, on_step or (lambda _step: None))
        return _result(work, steps, rate, film, seed)


def _check(
    model: Model,
    steps: int,
    octaves: int,
    rate: float,
    style_scale: float,
    content_weight: float,
    smoothness: float,
    colors: str,
) -> None:
    for name, value in (("steps", steps), ("octaves", octaves)):
        if value < 1:
            raise UsageError(f"{name}={value} paints nothing. Nearest: 1")
    for name, number, usual in (("rate", rate, 0.05), ("style_scale", style_scale, 1)):
        if not number > 0:
            raise UsageError(f"{name}={number:g} paints nothing. Usual: {usual}")
    for name, number in (("content_weight", content_weight), ("smoothness", smoothness)):
        if not number >= 0:
            raise UsageError(f"{name}={number:g} would drive the picture away. Nearest: 0")
    if colors not in ("style", "content"):
        raise UsageError(f"Colors are those of the 'style' or the 'content', not {colors!r}")
    if colors == "content" and model.input.channels != 3:
        raise UsageError(
            f"{model.name} takes {model.input.channels} channels, no colors. Leave colors out"
        )


def _layers(
    model: Model, layers: str | Iterable[str] | None, content_layer: str | None
) -> tuple[list[str], str]:
    """Of the style, of the content; checked."""
    known = layers_by_depth(model) if layers is None or content_layer is None else []
    styles = shallow_layers(known, _STYLE_DEPTH, _STYLE_LAYERS)
    if layers is not None:
        styles = [layer.path for layer in model.layers.select(layers)]
    content = layer_at_depth(known, _CONTENT_DEPTH) if content_layer is None else content_layer
    for path in (*styles, content):
        layer, _ = model.layers.at(path)
        if not layer.is_map:
            raise UsageError(f"Style needs layers of maps; {path!r} has no positions")
    return styles, content


class StyleTransfer:
    """The state of a picture on its way to another's style."""

    def __init__(
        self,
        sight: StyleFeatures,
        canvas: SourceImage,
        manner: SourceImage,
        sizes: Sequence[Size],
        scale: float,
        own_colors: bool,
        seed: int,
    ) -> None:
        self.sight, self.canvas, self.sizes = sight, canvas, tuple(sizes)
        self.content = canvas.values.to(sight.device)
        self.losses: list[float] = []
        self._manner, self._scale = manner.values.to(sight.device), scale
        self._gray = own_colors
        self._param, self._chance = Fourier(), torch.Generator().manual_seed(seed)
        self._picture = self.content
        self.manner_name = "another picture" if manner.name == "image" else manner.name

    def scene(self, size: Size) -> StyleLoss:
        """Content and style at one size; with the content's colors, both in brightness alone."""
        content = resized(self.content, size).clamp(0, 1)
        style = self.manner_at(size)
        if self._gray:
            style = _matched(luminance(style), luminance(content)).expand_as(style)
        return StyleLoss(self.sight, content, style)

    def manner_at(self, size: Size) -> Tensor:
        """The style at an equal area; where the network takes no other size, cut to it."""
        own = (self._manner.shape[-2], self._manner.shape[-1])
        factor = self._scale * (size[0] * size[1] / (own[0] * own[1])) ** 0.5
        wanted = (max(2, round(own[0] * factor)), max(2, round(own[1] * factor)))
        if self.sight.takes(wanted) is None:
            return resized(self._manner, wanted).clamp(0, 1)
        return resize_to_cover(self._manner, size).clamp(0, 1)

    def run(
        self,
        steps: int,
        rate: float,
        film: FrameRecorder | None,
        on_step: Callable[[OptimizationStep], object],
    ) -> None:
        """All sizes; Ctrl-C ends them early, once there is a first step."""
        of = len(self.sizes) * steps
        if film:
            film.start((_WHAT,), self.content)
        try:
            for size in self.sizes:
                for now in self._paint(self.scene(size), size, steps, rate):
                    step = OptimizationStep(len(self.losses), of, (_WHAT,), now)
                    if film:
                        film(step)
                    on_step(step)
        except KeyboardInterrupt:
            if not self.losses:
                raise

    def _paint(
        self, scene: StyleLoss, size: Size, steps: int, rate: float
    ) -> Iterable[Callable[[], Tensor]]:
        begun = resized(self._picture, size).clamp(0, 1)
        state = self._param.of_picture(begun).requires_grad_()
        adam = Adam(state.detach(), rate)
        for _ in range(steps):
            shift = torch.randint(-_JITTER, _JITTER + 1, (2,), generator=self._chance).tolist()
            loss = scene.loss(self._param.image(state, size), (shift[0], shift[1]))
            adam.ascend(-torch.autograd.grad(loss, state)[0])
            with torch.no_grad():
                self._picture = self._param.image(state, size)
            self.losses.append(float(loss.detach()))
            yield self.now

    def now(self) -> Tensor:
        """The picture at its full size."""
        full = resized(self._picture, self.canvas.size).clamp(0, 1)
        if not self._gray:
            return full
        return (self.content + luminance(full) - luminance(self.content)).clamp(0, 1)


def _matched(values: Tensor, like: Tensor) -> Tensor:
    """``values`` with the mean and the contrast of ``like``."""
    spread = like.std() / values.std().clamp_min(1e-6)
    return ((values - values.mean()) * spread + like.mean()).clamp(0, 1)


def _result(
    work: StyleTransfer, steps: int, rate: float, film: FrameRecorder | None, seed: int
) -> StylizedImage:
    sight, canvas = work.sight, work.canvas
    done, before = quantize(work.now()), quantize(work.content)
    scene = work.scene(canvas.size)
    shown = work.manner_at(canvas.size)
    with torch.no_grad():
        pairs = [[float(v) for v in scene.errors(p)] for p in (before, done)]
    measures: Mapping[str, tuple[float, float]] = {
        "distance from the style": (pairs[0][0], pairs[1][0]),
        "from the content": (pairs[0][1], pairs[1][1]),
    }
    settings = {
        "size": f"{canvas.size[1]}×{canvas.size[0]}",
        "octaves": len(work.sizes),
        "rate": rate,
        "style layers": list(sight.layers),
        "content layer": sight.content,
        "content weight": sight.weight,
        "smoothness": sight.smoothness,
        "style shown at": f"{shown.shape[-1]}×{shown.shape[-2]}",
        "seed": seed,
    }
    return StylizedImage(
        values=to_array(done),
        before=to_array(before),
        beside={"style": to_array(shown)},
        title=f"{canvas.name} · in the style of {work.manner_name}",
        model=sight.lens.model.title,
        measures=measures,
        curve=torch.tensor(work.losses).numpy(),
        steps=len(work.losses),
        wanted=len(work.sizes) * steps,
        settings=settings,
        notes=circumstances(sight.lens.model, canvas),
        moments=film.of(_WHAT) if film else (),
    )
