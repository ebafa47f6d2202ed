"""Objectives: what an optimization maximizes. Values that can be added and scaled.

    channel("conv2", 3) - 0.5 * channel("conv2", 7)

``Objective.bind`` checks layers and channels on one model and returns a ``BoundObjective``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from convscope._errors import UnknownLayer, UsageError
from convscope._layers import Address
from convscope._models import Model
from convscope._models.layer_roles import class_index, output_layer

Activations: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class BoundObjective:
    """An objective on one model.

    Attributes:
        layers: Paths of the layers whose activations it needs.
        score: From the activations of N images ``(N, C, …)`` to their N scores.
        has_position: Whether it names a position, which means another place at another image size.
    """

    layers: tuple[str, ...]
    score: Callable[[Activations], Tensor]
    has_position: bool = False


class Objective(abc.ABC):
    """What to maximize; ``+``, ``-``, negation, and ``*`` and ``/`` with numbers make new ones."""

    @abc.abstractmethod
    def bind(self, model: Model) -> BoundObjective:
        """Look up layers and channels in ``model``.

        Raises:
            UnknownLayer: ``model`` has no such layer or channel.
        """

    def resolve(self, model: Model) -> Objective:
        """Return the same objective with the names that ``model`` uses (class names)."""
        return self

    @abc.abstractmethod
    def __str__(self) -> str:
        """Return its name, for figures and files."""

    def __add__(self, other: Objective) -> Objective:
        """Maximize the sum of both."""
        return _add(self, 1.0, other)

    def __sub__(self, other: Objective) -> Objective:
        return _add(self, -1.0, other)

    def __mul__(self, weight: float) -> Objective:
        """Scale it by a number."""
        if not isinstance(weight, (int, float)):
            return NotImplemented
        return Sum(tuple((weight * w, term) for w, term in _terms(self)))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1 / divisor)

    def __neg__(self) -> Objective:
        return self * -1.0


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Sum) else ((1.0, objective),)


def _add(first: Objective, sign: float, second: object) -> Objective:
    if not isinstance(second, Objective):
        raise UsageError(
            f"{first} cannot be added to {second!r}: sums are of objectives. Write cs.channel(…)"
        )
    return Sum(_terms(first) + tuple((sign * w, term) for w, term in _terms(second)))


@dataclass(frozen=True)
class Sum(Objective):
    """A weighted sum: ``terms`` are pairs of a weight and an objective."""

    terms: tuple[tuple[float, Objective], ...]

    def bind(self, model: Model) -> BoundObjective:
        bound = [(weight, term.bind(model)) for weight, term in self.terms]
        layers = dict.fromkeys(path for _, one in bound for path in one.layers)

        def score(activations: Activations) -> Tensor:
            return torch.stack([weight * one.score(activations) for weight, one in bound]).sum(0)

        return BoundObjective(tuple(layers), score, any(one.has_position for _, one in bound))

    def resolve(self, model: Model) -> Objective:
        return Sum(tuple((weight, term.resolve(model)) for weight, term in self.terms))

    def __str__(self) -> str:
        words: list[str] = []
        for weight, term in self.terms:
            sign = "-" if weight < 0 else "+" if words else ""
            factor = "" if abs(weight) == 1 else f"{abs(weight):g} * "
            words += [sign] * bool(sign) + [f"{factor}{term}"]
        return " ".join(words)


@dataclass(frozen=True)
class Channel(Objective):
    """The mean activation of one channel over all positions."""

    path: str
    channel: int

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path, self.channel))
        return BoundObjective(
            (self.path,),
            lambda activations: mean_per_image(activations[self.path][:, self.channel]),
        )

    def __str__(self) -> str:
        return f"{self.path}:{self.channel}"


@dataclass(frozen=True)
class Neuron(Objective):
    """One channel at one position; ``None`` is the middle, at any image size."""

    path: str
    channel: int
    position: tuple[int, int] | None = None

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path, self.channel))
        return BoundObjective((self.path,), self._score, self.position is not None)

    def _score(self, activations: Activations) -> Tensor:
        maps = activations[self.path][:, self.channel]
        if maps.ndim == 1:
            return maps
        maps = maps[:, None] if maps.ndim == 2 else maps  # a line has one row
        height, width = maps.shape[-2:]
        y, x = self.position or (height // 2, width // 2)
        if y >= height or x >= width:
            raise UnknownLayer(
                f"No position {y},{x} in {self.path!r}: at this size its output is "
                f"{height}×{width}. Last: {height - 1},{width - 1}"
            )
        return mean_per_image(maps[..., y, x])

    def __str__(self) -> str:
        where = "middle" if self.position is None else f"{self.position[0]},{self.position[1]}"
        return f"{self.path}:{self.channel}@{where}"


@dataclass(frozen=True)
class WholeLayer(Objective):
    """The mean squared activation of a layer, the objective of DeepDream."""

    path: str

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path))
        return BoundObjective(
            (self.path,), lambda activations: mean_per_image(activations[self.path].square())
        )

    def __str__(self) -> str:
        return f"layer {self.path}"


@dataclass(frozen=True, eq=False)
class Direction(Objective):
    """The projection of a layer on a vector: dot product × max(.1, cosine)^power."""

    path: str
    vector: NDArray[np.float32]
    power: float = 0.0
    label: str = ""

    def bind(self, model: Model) -> BoundObjective:
        layer, _ = model.layers.at(Address(self.path))
        if len(self.vector) != layer.channels:
            raise UsageError(
                f"A direction in {self.path!r} of {model.name} has {layer.channels} numbers, one "
                f"per channel, not {len(self.vector)}. Was it made for another model?"
            )
        vector = torch.from_numpy(self.vector)

        def score(activations: Activations) -> Tensor:
            maps = activations[self.path]
            maps = maps.flatten(2) if maps.ndim > 2 else maps
            shape = (1, -1, 1) if maps.ndim > 2 else (1, -1)
            return projection(maps, vector.to(maps.device).view(shape), self.power)

        return BoundObjective((self.path,), score)

    def __str__(self) -> str:
        return self.label or f"direction in {self.path}"


@dataclass(frozen=True)
class Logit(Objective):
    """The logit of a class, by index or by name."""

    target: int | str
    label: str = ""

    def resolve(self, model: Model) -> Objective:
        index = class_index(model, self.target)
        name = model.input.classes[index] if index < len(model.input.classes) else ""
        return Logit(index, f"class {index} {name}".rstrip())

    def bind(self, model: Model) -> BoundObjective:
        path = output_layer(model)
        return Channel(path, class_index(model, self.target)).bind(model)

    def __str__(self) -> str:
        return self.label or f"class {self.target}"


@dataclass(frozen=True)
class Diversity(Objective):
    """Dissimilarity of the images of one objective: 1 − the mean cosine of their Gram matrices.

    With a single image it is 0.
    """

    path: str

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path))
        return BoundObjective((self.path,), self._score)

    def _score(self, activations: Activations) -> Tensor:
        maps = activations[self.path]
        maps = maps.flatten(2) if maps.ndim > 2 else maps[..., None]
        if len(maps) < 2:
            return maps.sum((1, 2)) * 0
        grams = F.normalize((maps @ maps.mT).flatten(1), dim=1)
        cosines = grams @ grams.T
        return 1 - (cosines.sum(1) - cosines.diagonal()) / (len(maps) - 1)

    def __str__(self) -> str:
        return f"diversity in {self.path}"


@dataclass(frozen=True)
class Between(Objective):
    """An interpolation: the first image maximizes ``first``, the last one ``second``."""

    first: Objective
    second: Objective

    def bind(self, model: Model) -> BoundObjective:
        start, end = self.first.bind(model), self.second.bind(model)

        def score(activations: Activations) -> Tensor:
            low, high = start.score(activations), end.score(activations)
            share = torch.linspace(0, 1, len(low), device=low.device) if len(low) > 1 else 0.5
            return torch.lerp(low, high, torch.as_tensor(share, device=low.device))

        has_position = start.has_position or end.has_position
        return BoundObjective(start.layers + end.layers, score, has_position)

    def resolve(self, model: Model) -> Objective:
        return Between(self.first.resolve(model), self.second.resolve(model))

    def __str__(self) -> str:
        return f"{self.first} to {self.second}"


def mean_per_image(values: Tensor) -> Tensor:
    """Return the mean of each image, ``(N, …)`` to ``(N,)``."""
    return values.reshape(len(values), -1).mean(1)


def projection(maps: Tensor, vector: Tensor, power: float) -> Tensor:
    """Return the mean of dot product × max(.1, cosine)^power; both are ``(N, C[, positions])``."""
    dot = (maps * vector).sum(1)
    if power:
        lengths = maps.norm(dim=1) * vector.norm(dim=1)
        dot = dot * (dot / lengths.clamp_min(1e-8)).clamp_min(0.1) ** power
    return mean_per_image(dot)


def channel(layer: str, channel: int) -> Objective:
    """Maximize the mean activation of one channel over all positions.

    Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017.

    Args:
        layer: Path of the layer.
        channel: Index of the channel, from 0.

    Returns:
        An objective for ``maximize`` or ``dream``; ``+``, ``-`` and ``*`` combine objectives.
    """
    return Channel(layer, channel)


def neuron(layer: str, channel: int, position: tuple[int, int] | None = None) -> Objective:
    """Maximize the activation of one channel at one position.

    Source: Erhan et al., Visualizing Higher-Layer Features of a Deep Network, 2009.

    Args:
        layer: Path of the layer.
        channel: Index of the channel, from 0.
        position: Row and column ``(y, x)`` in the feature map; by default the middle.

    Returns:
        An objective for ``maximize``.
    """
    return Neuron(layer, channel, position)


def layer(path: str) -> Objective:
    """Maximize the mean squared activation of a whole layer.

    Source: DeepDream, Mordvintsev, Olah and Tyka, 2015.

    Args:
        path: Path of the layer.

    Returns:
        An objective for ``maximize`` or ``dream``.
    """
    return WholeLayer(path)


def direction(
    layer: str, vector: Sequence[float] | NDArray[Any], *, power: float = 0.0, label: str = ""
) -> Objective:
    """Maximize the projection of a layer on a vector in its channel space.

    Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017; with ``power``:
    Carter et al., Activation Atlas, Distill 2019.

    Args:
        layer: Path of the layer.
        vector: One number per channel, shape ``(C,)``.
        power: The dot product is multiplied by max(0.1, cosine similarity)^power: a larger one
            keeps activations closer to the direction.
        label: Name of the direction in figures and files.

    Returns:
        An objective for ``maximize`` or ``dream``.
    """
    return Direction(layer, np.asarray(vector, np.float32).reshape(-1), power, label)


def logit(target: int | str) -> Objective:
    """Maximize the logit of a class.

    Source: Simonyan, Vedaldi and Zisserman, Deep Inside Convolutional Networks, 2013.

    Args:
        target: Index or name of the class.

    Returns:
        An objective for ``maximize`` or ``dream``.
    """
    return Logit(target)


def diversity(layer: str) -> Objective:
    """Maximize how different the ``count`` images of one objective are.

    One minus the mean cosine similarity of their Gram matrices; to be added to another objective:
    ``channel("conv2", 3) + 2 * diversity("conv2")``.
    Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017.

    Args:
        layer: Path of the layer whose Gram matrices are compared.

    Returns:
        An objective for ``maximize`` with ``count=2`` or more.
    """
    return Diversity(layer)


def between(first: Objective, second: Objective) -> Objective:
    """Interpolate from one objective to another over the ``count`` images of one call.

    Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017.

    Args:
        first: Objective of the first image.
        second: Objective of the last image.

    Returns:
        An objective for ``maximize`` with ``count=2`` or more.
    """
    return Between(first, second)
