"""Objectives: what a climb raises. Plain values that add up, and know which layers they need.

    channel("conv2", 3) - 0.5 * channel("conv2", 7)

An objective becomes a ``BoundObjective`` on one model (``bind``), where its layers
and channels are checked.
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

from convscope._errors import UnknownLayer, UsageError
from convscope._layers import Address
from convscope._models import Model
from convscope._models.layer_roles import class_index, output_layer

Activations: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class BoundObjective:
    """An objective on one model.

    - ``layers``: the paths it needs; ``score``: activations of n images ``(n, C, …)`` to n numbers.
    - ``placed``: it names a position, which is another one at another size.
    """

    layers: tuple[str, ...]
    score: Callable[[Activations], Tensor]
    placed: bool = False


class Objective(abc.ABC):
    """What to raise; ``+``, ``-``, negation and ``*`` with numbers make new ones."""

    @abc.abstractmethod
    def bind(self, model: Model) -> BoundObjective:
        """The same on ``model``; raises ``UnknownLayer`` where it has no such layer or channel."""

    def on(self, model: Model) -> Objective:
        """The same, named as ``model`` names it."""
        return self

    @abc.abstractmethod
    def __str__(self) -> str:
        """Its name for pictures and files."""

    def __add__(self, other: Objective) -> Objective:
        return _sum(self, 1.0, other)

    def __sub__(self, other: Objective) -> Objective:
        return _sum(self, -1.0, other)

    def __mul__(self, weight: float) -> Objective:
        if not isinstance(weight, (int, float)):
            return NotImplemented
        return Sum(tuple((weight * w, part) for w, part in _terms(self)))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1 / divisor)

    def __neg__(self) -> Objective:
        return self * -1.0


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Sum) else ((1.0, objective),)


def _sum(first: Objective, sign: float, second: Any) -> Objective:
    if not isinstance(second, Objective):
        raise UsageError(
            f"{first} cannot be added to {second!r}: sums are of objectives. Write cs.channel(…)"
        )
    return Sum(_terms(first) + tuple((sign * w, part) for w, part in _terms(second)))


@dataclass(frozen=True)
class Sum(Objective):
    """A weighted sum: ``terms`` are pairs of a weight and an objective."""

    terms: tuple[tuple[float, Objective], ...]

    def bind(self, model: Model) -> BoundObjective:
        goals = [(weight, part.bind(model)) for weight, part in self.terms]
        layers = dict.fromkeys(path for _, goal in goals for path in goal.layers)

        def score(seen: Activations) -> Tensor:
            return torch.stack([weight * goal.score(seen) for weight, goal in goals]).sum(0)

        return BoundObjective(tuple(layers), score, any(goal.placed for _, goal in goals))

    def on(self, model: Model) -> Objective:
        return Sum(tuple((weight, part.on(model)) for weight, part in self.terms))

    def __str__(self) -> str:
        words: list[str] = []
        for weight, part in self.terms:
            sign = "-" if weight < 0 else "+" if words else ""
            factor = "" if abs(weight) == 1 else f"{abs(weight):g} * "
            words += [sign] * bool(sign) + [f"{factor}{part}"]
        return " ".join(words)


@dataclass(frozen=True)
class Channel(Objective):
    """The mean of one channel over all positions."""

    path: str
    channel: int

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path, self.channel))
        return BoundObjective((self.path,), lambda seen: means(seen[self.path][:, self.channel]))

    def __str__(self) -> str:
        return f"{self.path}:{self.channel}"


@dataclass(frozen=True)
class Neuron(Objective):
    """One channel at one position; ``None`` is the middle, at any size."""

    path: str
    channel: int
    position: tuple[int, int] | None = None

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path, self.channel))
        return BoundObjective((self.path,), self._score, self.position is not None)

    def _score(self, seen: Activations) -> Tensor:
        maps = seen[self.path][:, self.channel]
        if maps.ndim < 3:
            return means(maps)
        height, width = maps.shape[-2:]
        y, x = self.position or (height // 2, width // 2)
        if y >= height or x >= width:
            raise UnknownLayer(
                f"No position {y},{x} in {self.path!r}: at this size its output is "
                f"{height}×{width}. Last: {height - 1},{width - 1}"
            )
        return means(maps[..., y, x])

    def __str__(self) -> str:
        where = "middle" if self.position is None else f"{self.position[0]},{self.position[1]}"
        return f"{self.path}:{self.channel}@{where}"


@dataclass(frozen=True)
class WholeLayer(Objective):
    """How strongly a layer responds: the mean of its squares, as DeepDream has it."""

    path: str

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path))
        return BoundObjective((self.path,), lambda seen: means(seen[self.path].square()))

    def __str__(self) -> str:
        return f"layer {self.path}"


@dataclass(frozen=True, eq=False)
class Direction(Objective):
    """The share of a layer along a vector of its channels: dot product × max(.1, cosine)^power."""

    path: str
    vector: NDArray[np.float32]
    power: float = 0.0
    label: str = ""

    def bind(self, model: Model) -> BoundObjective:
        layer, _ = model.layers.at(Address(self.path))
        if len(self.vector) != layer.channels:
            raise UsageError(
                f"A direction in {self.path!r} of {model.name} has {layer.channels} numbers, one a "
                f"channel, not {len(self.vector)}. Was it made for another model?"
            )
        vector = torch.from_numpy(self.vector)

        def score(seen: Activations) -> Tensor:
            maps = seen[self.path].flatten(2) if seen[self.path].ndim > 2 else seen[self.path]
            shape = (1, -1, 1) if maps.ndim > 2 else (1, -1)
            return along(maps, vector.to(maps.device).view(shape), self.power)

        return BoundObjective((self.path,), score)

    def __str__(self) -> str:
        return self.label or f"direction in {self.path}"


@dataclass(frozen=True)
class Logit(Objective):
    """The score of a class, before a softmax; by number or by name."""

    target: int | str
    label: str = ""

    def on(self, model: Model) -> Objective:
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
    """How unlike each other the images of one objective are: 1 − the mean cosine of their styles.

    A style is the Gram matrix of the layer. With a single image it is 0.
    """

    path: str

    def bind(self, model: Model) -> BoundObjective:
        model.layers.at(Address(self.path))
        return BoundObjective((self.path,), self._score)

    def _score(self, seen: Activations) -> Tensor:
        maps = (
            seen[self.path].flatten(2) if seen[self.path].ndim > 2 else seen[self.path][..., None]
        )
        if len(maps) < 2:
            return maps.sum((1, 2)) * 0
        grams = torch.nn.functional.normalize((maps @ maps.mT).flatten(1), dim=1)
        alike = grams @ grams.T
        others = (alike.sum(1) - alike.diagonal()) / (len(maps) - 1)
        return 1 - others

    def __str__(self) -> str:
        return f"diversity in {self.path}"


@dataclass(frozen=True)
class Between(Objective):
    """From one objective to another: the first image raises ``first``, the last ``second``."""

    first: Objective
    second: Objective

    def bind(self, model: Model) -> BoundObjective:
        start, end = self.first.bind(model), self.second.bind(model)

        def score(seen: Activations) -> Tensor:
            low, high = start.score(seen), end.score(seen)
            share = torch.linspace(0, 1, len(low), device=low.device) if len(low) > 1 else 0.5
            return torch.lerp(low, high, torch.as_tensor(share, device=low.device))

        return BoundObjective(start.layers + end.layers, score, start.placed or end.placed)

    def on(self, model: Model) -> Objective:
        return Between(self.first.on(model), self.second.on(model))

    def __str__(self) -> str:
        return f"{self.first} to {self.second}"


def means(values: Tensor) -> Tensor:
    """One number an image."""
    return values.reshape(len(values), -1).mean(1)


def along(maps: Tensor, vector: Tensor, power: float) -> Tensor:
    """``maps`` and ``vector`` are ``(n, C[, positions])``."""
    dot = (maps * vector).sum(1)
    if power:
        lengths = maps.norm(dim=1) * vector.norm(dim=1)
        dot = dot * (dot / lengths.clamp_min(1e-8)).clamp_min(0.1) ** power
    return means(dot)


def channel(layer: str, channel: int) -> Objective:
    """The mean activation of one channel."""
    return Channel(layer, channel)


def neuron(layer: str, channel: int, position: tuple[int, int] | None = None) -> Objective:
    """The activation of one channel at ``(y, x)``, by default in the middle."""
    return Neuron(layer, channel, position)


def layer(path: str) -> Objective:
    """How strongly the whole layer responds (mean square)."""
    return WholeLayer(path)


def direction(
    layer: str, vector: Sequence[float] | NDArray[Any], *, power: float = 0.0, label: str = ""
) -> Objective:
    """The dot product with ``vector`` (a number a channel), times max(.1, cosine)^``power``."""
    return Direction(layer, np.asarray(vector, np.float32).reshape(-1), power, label)


def logit(target: int | str) -> Objective:
    """The score of a class, by number or name, before any softmax."""
    return Logit(target)


def diversity(layer: str) -> Objective:
    """How unlike the ``count`` images are; to be added: ``channel(…) + 2 * diversity(…)``."""
    return Diversity(layer)


def between(first: Objective, second: Objective) -> Objective:
    """From ``first`` to ``second`` over the ``count`` images of one call."""
    return Between(first, second)
