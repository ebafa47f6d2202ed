"""Fixtures for climbs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planted_networks import Planted
from torch import nn

import convscope as cs
from convscope._models import Model


@pytest.fixture
def planted() -> Model:
    return cs.load(
        Planted(),
        preprocess=cs.Preprocess(size=(32, 32), mean=0.5, std=0.25),
        classes=["grating", "color"],
    )


@pytest.fixture
def small() -> Callable[[nn.Module], Model]:
    def load(module: nn.Module, channels: int = 3, size: tuple[int, int] = (24, 24)) -> Model:
        return cs.load(module, preprocess=cs.Preprocess(size=size), input=(channels, *size))

    return load
