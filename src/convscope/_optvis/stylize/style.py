"""``cs.style``: style transfer (Gatys, Ecker and Bethge, CVPR 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from convscope._errors import UsageError
from convscope._images import ImageLike
from convscope._models import Model, ModelLike, load
from convscope._optvis.animation import FrameRecorder
from convscope._optvis.evaluation import quantize
from convscope._optvis.optimizer import Adam, OptimizationStep, StepCallback
from convscope._optvis.params import Fourier, Size
from convscope._optvis.stylize.default_layers import (
    check_takes_images,
    layer_at_depth,
    layers_by_depth,
    shallow_layers,
)
from convscope._optvis.stylize.source_image import (
    SourceImage,
    load_source_image,
    luminance,
    resize_to_cover,
    resized,
)
from convscope._optvis.stylize.style_statistics import StyleFeatures, StyleLoss
from convscope._optvis.stylize.stylized_image import StylizedImage, input_notes, to_array
from convscope._optvis.transforms import Normalizer

_STYLE_DEPTH, _STYLE_LAYERS, _CONTENT_DEPTH = 0.7, 6, 0.5
_MAX_SIDE = 512  # larger images are reduced to it, unless a size is given
_JITTER = 8  # pixels; without it the strides of the first layers leave a grid
_NAME = "style"


def style(
    model: ModelLike,
    content: ImageLike,
    style: ImageLike,
    *,
    layers: str | Iterable[str] | None = None,
    content_layer: str | None = None,
    content_weight: float = 0.2,
    smoothness: float = 0.0,
    colors: str = "style",
    steps: int = 80,
    octaves: int = 2,
    learning_rate: float = 0.05,
    size: int | tuple[int, int] | None = None,
    style_scale: float = 1.0,
    seed: int = 0,
    animate: bool = False,
    on_step: StepCallback | None = None,
) -> StylizedImage:
    """Transfer the style of one image to the content of another.

    The Fourier coefficients of the image are optimized, as in ``maximize``: in the same time they
    reach half of the loss that pixels reach, with Adam or L-BFGS, and less noise. Ctrl-C ends it
    early with what is done. Source: Gatys, Ecker and Bethge, CVPR 2016.

    Args:
        model: A loaded model, or anything ``load`` takes.
        content: The image to stylize.
        style: The image whose style is transferred, resized to an equal area.
        layers: Layers whose covariances and means are matched; by default some of the first 70 %
            of the depth.
        content_layer: Layer whose maps are kept; by default at half of the depth.
        content_weight: Weight of the content loss relative to the style loss. Both are relative:
            a content loss of 1 is that of a plain gray image, a style loss of 1 that of activations
            of zero.
        smoothness: Weight of the total variation, relative to that of the content.
        colors: ``"style"``, or ``"content"``: then only the luminance changes.
        steps: Number of steps of Adam per octave.
        octaves: Number of sizes, each twice the one before.
        learning_rate: Of Adam.
        size: Longer side of the result, or ``(height, width)``; by default the content's own, at
            most 512.
        style_scale: Scale of the style image; larger gives coarser strokes.
        seed: The same seed gives the same image.
        animate: Whether to keep frames of the optimization, for ``.save("x.webp")``.
        on_step: Called after every step with an ``OptimizationStep``.

    Returns:
        The image, with both losses before and after.

    Raises:
        UnknownLayer: Where there is no such layer.
        UsageError: Where an argument makes no sense.
        ModelError: Where the network does not take images of this size.
        ImageError: Where an image cannot be read.
    """
    loaded = load(model)
    check_takes_images(loaded)
    normalizer = Normalizer(loaded)
    _check(steps, octaves, learning_rate, style_scale, content_weight, smoothness)
    _check_colors(loaded, colors)
    source = load_source_image(normalizer, content, size, _MAX_SIDE)
    style_source = load_source_image(normalizer, style, None)
    style_layers, content_path = _layers(loaded, layers, content_layer)
    with loaded.eval_frozen():
        features = StyleFeatures(normalizer, style_layers, content_path, content_weight, smoothness)
        sizes = features.sizes(source.size, octaves)
        recorder = FrameRecorder(len(sizes) * steps, easing=2.0) if animate else None
        state = StyleTransfer(
            features, source, style_source, sizes, style_scale, colors == "content", seed
        )
        state.run(steps, learning_rate, recorder, on_step or (lambda _step: None))
        return _result(state, steps, learning_rate, recorder, seed)


def _check(
    steps: int,
    octaves: int,
    learning_rate: float,
    style_scale: float,
    content_weight: float,
    smoothness: float,
) -> None:
    for name, value in (("steps", steps), ("octaves", octaves)):
        if value < 1:
            raise UsageError(f"{name}={value} is too small. Nearest: 1")
    positive = (("learning_rate", learning_rate, 0.05), ("style_scale", style_scale, 1))
    for name, number, usual in positive:
        if not number > 0:
            raise UsageError(f"{name}={number:g} is not above 0. Usual: {usual}")
    for name, number in (("content_weight", content_weight), ("smoothness", smoothness)):
        if not number >= 0:
            raise UsageError(f"{name}={number:g} is negative. Nearest: 0")


def _check_colors(model: Model, colors: str) -> None:
    if colors not in ("style", "content"):
        raise UsageError(f"Colors are those of the 'style' or the 'content', not {colors!r}")
    if colors == "content" and model.input.channels != 3:
        raise UsageError(
            f"{model.name} takes {model.input.channels} channels, no colors. Leave colors out"
        )


def _layers(
    model: Model, layers: str | Iterable[str] | None, content_layer: str | None
) -> tuple[list[str], str]:
    """The layers of the style and of the content, checked."""
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
    """The state of a style transfer: the content, the style, and the current image."""

    def __init__(
        self,
        features: StyleFeatures,
        source: SourceImage,
        style: SourceImage,
        sizes: Sequence[Size],
        scale: float,
        keep_colors: bool,
        seed: int,
    ) -> None:
        self.features, self.source, self.sizes = features, source, tuple(sizes)
        self.content = source.values.to(features.device)
        self.losses: list[float] = []
        self._style, self._scale = style.values.to(features.device), scale
        self._keep_colors = keep_colors
        self._param, self._generator = Fourier(), torch.Generator().manual_seed(seed)
        self._image = self.content
        self.style_name = "another image" if style.name == "image" else style.name

    def loss_at(self, size: Size) -> StyleLoss:
        """The losses at one size; where colors are kept, the style is reduced to its luminance."""
        content = resized(self.content, size).clamp(0, 1)
        style = self.style_at(size)
        if self._keep_colors:
            style = _matched(luminance(style), luminance(content)).expand_as(style)
        return StyleLoss(self.features, content, style)

    def style_at(self, size: Size) -> Tensor:
        """The style image at an equal area; cropped, where the network takes no other size."""
        own = (self._style.shape[-2], self._style.shape[-1])
        factor = self._scale * (size[0] * size[1] / (own[0] * own[1])) ** 0.5
        target = (max(2, round(own[0] * factor)), max(2, round(own[1] * factor)))
        if self.features.error_at(target) is None:
            return resized(self._style, target).clamp(0, 1)
        return resize_to_cover(self._style, size).clamp(0, 1)

    def run(
        self,
        steps: int,
        learning_rate: float,
        recorder: FrameRecorder | None,
        on_step: StepCallback,
    ) -> None:
        """Optimize at all sizes; Ctrl-C ends it early, once there is a first step."""
        total = len(self.sizes) * steps
        if recorder:
            recorder.start((_NAME,), self.content)
        try:
            for size in self.sizes:
                for _ in self._optimize(self.loss_at(size), size, steps, learning_rate):
                    step = OptimizationStep(len(self.losses), total, (_NAME,), self.image)
                    if recorder:
                        recorder(step)
                    on_step(step)
        except KeyboardInterrupt:
            if not self.losses:
                raise

    def _optimize(
        self, style_loss: StyleLoss, size: Size, steps: int, learning_rate: float
    ) -> Iterator[None]:
        start = resized(self._image, size).clamp(0, 1)
        state = self._param.from_image(start).requires_grad_()
        adam = Adam(state.detach(), learning_rate)
        for _ in range(steps):
            shift = torch.randint(-_JITTER, _JITTER + 1, (2,), generator=self._generator).tolist()
            loss = style_loss.loss(self._param.to_image(state, size), (shift[0], shift[1]))
            adam.ascend(-torch.autograd.grad(loss, state)[0])
            with torch.no_grad():
                self._image = self._param.to_image(state, size)
            self.losses.append(float(loss.detach()))
            yield

    def image(self) -> Tensor:
        """The current image ``(1, C, H, W)`` at its full size."""
        full = resized(self._image, self.source.size).clamp(0, 1)
        if not self._keep_colors:
            return full
        return (self.content + luminance(full) - luminance(self.content)).clamp(0, 1)


def _matched(values: Tensor, reference: Tensor) -> Tensor:
    """``values`` with the mean and the standard deviation of ``reference``."""
    scale = reference.std() / values.std().clamp_min(1e-6)
    return ((values - values.mean()) * scale + reference.mean()).clamp(0, 1)


def _result(
    state: StyleTransfer,
    steps: int,
    learning_rate: float,
    recorder: FrameRecorder | None,
    seed: int,
) -> StylizedImage:
    model, source = state.features.normalizer.model, state.source
    before, after = quantize(state.content), quantize(state.image())
    style_loss = state.loss_at(source.size)
    with torch.no_grad():
        pairs = [[float(v) for v in style_loss.errors(image)] for image in (before, after)]
    style = state.style_at(source.size)
    settings = _settings(state, learning_rate, seed)
    settings["style image"] = f"{style.shape[-1]}×{style.shape[-2]}"
    return StylizedImage(
        values=to_array(after),
        before=to_array(before),
        references={"style": to_array(style)},
        title=f"{source.name} · style of {state.style_name}",
        model=model.title,
        measures={
            "style loss": (pairs[0][0], pairs[1][0]),
            "content loss": (pairs[0][1], pairs[1][1]),
        },
        curve=torch.tensor(state.losses).numpy(),
        steps=len(state.losses),
        planned_steps=len(state.sizes) * steps,
        settings=settings,
        notes=input_notes(model, source),
        frames=recorder.frames(_NAME) if recorder else (),
    )


def _settings(state: StyleTransfer, learning_rate: float, seed: int) -> dict[str, Any]:
    height, width = state.source.size
    features = state.features
    return {
        "size": f"{width}×{height}",
        "octaves": len(state.sizes),
        "learning rate": learning_rate,
        "style layers": list(features.layers),
        "content layer": features.content,
        "content weight": features.weight,
        "smoothness": features.smoothness,
        "seed": seed,
    }
