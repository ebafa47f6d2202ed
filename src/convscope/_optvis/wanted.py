"""Objectives by name: ``channel("conv2", 3) - 0.5 * channel("conv2", 7)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._optvis.objectives import (
    Between,
    Channel,
    Direction,
    Diversity,
    Logit,
    Neuron,
    Objective,
    WholeLayer,
)
from convscope._optvis.pictured import ActivationGrid, Caricature


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


def activation_grid(image: Any, layer: str, *, side: int = 7) -> ActivationGrid:
    """What ``layer`` saw in ``image`` at each of ``side``² places, a picture each."""
    return ActivationGrid(image, layer, side)


def between(first: Objective, second: Objective) -> Objective:
    """From ``first`` to ``second`` over the ``count`` images of one call."""
    return Between(first, second)


def caricature(image: Any, layer: str, *, power: float = 1.0) -> Objective:
    """What ``layer`` saw in ``image``, exaggerated."""
    return Caricature(image, layer, power)
