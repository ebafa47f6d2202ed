"""Small networks whose attributions are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope as cs

SIZE = (12, 16)


class Smooth(nn.Module):
    """Differentiable everywhere, so that finite differences hold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 6, 3, stride=2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class Patch(nn.Module):
    """Class 1 rests on the red of rows 8–15, columns 16–23 alone; class 0 on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0] = 1.0
            self.conv.weight[1, 2] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        patch = self.conv(x).relu()[:, 0, 8:16, 16:24].sum((1, 2))
        return torch.stack([torch.zeros_like(patch), patch], 1)


class Linear(nn.Module):
    """Scores are sums of the input, weighted by pixel: every attribution has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.conv = nn.Conv2d(3, 2, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)


class Quadratic(nn.Module):
    """Class k is Σ wₖ x²: the gradient is 2 wₖ x."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 2, SIZE, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x * x).flatten(1)


@pytest.fixture
def network() -> Smooth:
    return Smooth().eval().requires_grad_(False)


@pytest.fixture
def model(network: Smooth) -> cs.Model:
    return cs.load(network, preprocess=cs.Preprocess(size=SIZE), classes=["ant", "bee", "cat", "7"])


@pytest.fixture
def patch() -> cs.Model:
    return cs.load(Patch(), preprocess=cs.Preprocess(size=(32, 32)), input=(3, 32, 32))


@pytest.fixture
def linear() -> cs.Model:
    return cs.load(Linear().eval(), preprocess=cs.Preprocess(size=SIZE), input=(3, *SIZE))


@pytest.fixture
def quadratic() -> cs.Model:
    return cs.load(Quadratic().eval(), preprocess=cs.Preprocess(size=SIZE), input=(3, *SIZE))


@pytest.fixture
def values() -> Tensor:
    """One image as numbers, ``(1, 3, 12, 16)``."""
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def image() -> Image.Image:
    """A bright image of noise, 32×32."""
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(60, 255, (32, 32, 3), np.uint8))
