"""The score that is explained: which number of a network, and the torch module that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from convscope._errors import UsageError, check_name, closest
from convscope._layers import Address, parse_address
from convscope._models import Batch, Model, probabilities
from convscope._models.layer_roles import output_layer

BASELINES = ("zero", "gray", "blurred")


@dataclass(frozen=True)
class AttributionTarget:
    """One number of a network: the score of a class, of a unit, or of one position of a unit.

    Attributes:
        path: The layer.
        channel: The channel; without a position, the mean of its map is the score.
        position: Row and column in the map.
        name: The class's name, or the address.
        class_index: The class's number; ``None`` for a unit.
    """

    path: str
    channel: int
    position: tuple[int, int] | None
    name: str
    class_index: int | None = None

    def score(self, activations: Mapping[str, Tensor]) -> Tensor:
        """One number per image, ``(N,)``."""
        values = activations[self.path][:, self.channel]
        if self.position and values.ndim in (2, 3):  # a line has one row
            maps = values.reshape(len(values), -1, values.shape[-1])
            return maps[:, self.position[0], self.position[1]]
        return values.reshape(len(values), -1).mean(1)


def resolve_target(model: Model, target: int | str | None, batch: Batch) -> AttributionTarget:
    """A class by number or name, a unit by address, or by default the predicted class."""
    if isinstance(target, str):
        index = _index_of_class(model, target)
        if index is None and _is_address(model, target):
            return _unit_target(model, target)
        target = index if index is not None else _parse_class_number(model, target)
    path = output_layer(model)
    count = model.layers[path].channels
    if target is None:
        target = int(probabilities(model.logits(batch.one(0)))[0].argmax())
    if not 0 <= target < count:
        raise UsageError(
            f"No class {target} in {model.name}: it has {count}, 0 to {count - 1}. "
            f"See: convscope predict IMAGE -m {model.name}"
        )
    return AttributionTarget(path, target, None, model.class_name(target), target)


def _index_of_class(model: Model, text: str) -> int | None:
    names = [name.lower() for name in model.input.classes]
    return names.index(text.strip().lower()) if text.strip().lower() in names else None


def _parse_class_number(model: Model, text: str) -> int:
    if text.strip().lstrip("-").isdigit():
        return int(text)
    near = closest(text, model.input.classes) or " Give its number."
    raise UsageError(
        f"{text!r} is no class of {model.name} and no address of a unit.{near} "
        "A unit is PATH:CHANNEL"
    )


def _is_address(model: Model, text: str) -> bool:
    """Whether it reads as an address: it is the path of a layer, or has a channel."""
    return _is_layer(model, text) or ":" in text


def _is_layer(model: Model, text: str) -> bool:
    return any(text == layer.path for layer in model.layers)


def _unit_target(model: Model, text: str) -> AttributionTarget:
    address = Address(text) if _is_layer(model, text) else parse_address(text)
    layer, address = model.layers.at(address)
    if address.channel is None:
        raise UsageError(
            f"{text!r} is a layer, and one number is to be explained. Name a unit: "
            f"{layer.path}:0 to {layer.path}:{max(layer.channels - 1, 0)}"
        )
    return AttributionTarget(layer.path, address.channel, address.position, str(address))


class TargetScore(nn.Module):
    """From images ``(N, C, H, W)`` to the target's score of each, ``(N,)``.

    Differentiable on every backend. ``layer`` is a module for captum to hook: the activations at
    ``path`` pass through it, and the score depends on that very tensor.
    """

    def __init__(self, model: Model, target: AttributionTarget, path: str | None = None) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self._model, self._target, self._path = model, target, path

    def forward(self, values: Tensor) -> Tensor:
        paths = list({self._target.path, self._path or self._target.path})
        batch = Batch(values, None, ("",) * len(values), single=False)
        activations = self._model.activations(batch, paths, grad=torch.is_grad_enabled())
        if self._path:
            self.layer(activations[self._path])
        return self._target.score(activations).to(values.device)


@dataclass(frozen=True)
class AttributionTask:
    """Everything that an attribution method needs: the network, the image, the target, settings.

    Attributes:
        batch: The one image.
        layer: Where Grad-CAM and the channels are computed.
        baseline: What integrated gradients and occlusion compare with, ``(1, C, H, W)``.
        steps: Of the path of integrated gradients.
        samples: Noisy copies for SmoothGrad.
    """

    model: Model
    batch: Batch
    target: AttributionTarget
    layer: str
    baseline: Tensor
    seed: int = 0
    steps: int = 64
    samples: int = 24

    def with_model(self, model: Model) -> AttributionTask:
        """The same task for another network."""
        return replace(self, model=model)

    def module(self, path: str | None = None) -> TargetScore:
        """The network as a module that returns the target's score."""
        return TargetScore(self.model, self.target, path)

    def score(self, values: Tensor) -> Tensor:
        """The target's score of ``(N, C, H, W)``, without gradients: ``(N,)``."""
        with torch.no_grad():
            scores: Tensor = self.module()(values)
        return scores.cpu()


def make_baseline(model: Model, batch: Batch, kind: str) -> tuple[Tensor, str]:
    """The baseline of this kind, as the model takes it, ``(1, C, H, W)``; and its name in words.

    For an image it is made of pixels and then preprocessed: zero is black. For numbers, zero is 0
    and gray their mean.
    """
    check_name("baseline", kind, BASELINES)
    if batch.views is None or batch.preprocess is None:
        if kind == "blurred":
            raise UsageError("A blurred baseline needs an image, not numbers. Take baseline=gray")
        value = 0.0 if kind == "zero" else float(batch.values.mean())
        return torch.full_like(batch.values, value), "zero" if kind == "zero" else f"{value:.3g}"
    pixels = _baseline_image(batch.views[0].pixels, kind)
    names = {"zero": "zero (black)", "gray": "gray", "blurred": "blurred image"}
    return torch.from_numpy(batch.preprocess.normalize(pixels))[None], names[kind]


def _baseline_image(image: Image.Image, kind: str) -> Image.Image:
    if kind == "blurred":
        return image.filter(ImageFilter.GaussianBlur(min(image.size) / 10))
    level = 128 if kind == "gray" else 0
    return Image.fromarray(np.full_like(np.asarray(image), level))
