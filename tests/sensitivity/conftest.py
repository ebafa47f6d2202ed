"""A network whose channels are built to be tuned, round, colored and dead."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._sensitivity.tuning import grating

SIDE = 32
ANGLES = (0, 30, 47, 90, 135)


def _gabor(orientation: float, period: float = 6.0, side: int = 11) -> Tensor:
    """A filter for stripes of this orientation, counter-clockwise from horizontal; zero mean."""
    radius = side // 2
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1.0)] * 2, indexing="ij")
    angle = math.radians(orientation)
    across = x * math.sin(angle) + y * math.cos(angle)
    kernel = torch.cos(2 * math.pi * across / period) * torch.exp(-(x**2 + y**2) / 18)
    return kernel - kernel.mean()


class Tuned(nn.Module):
    """Channels 0–4 Gabors at ``ANGLES``, 5 round, 6 red against green and blue, 7 dead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 11, bias=False)
        self.relu = nn.ReLU()
        y, x = torch.meshgrid(*[torch.arange(-5, 6.0)] * 2, indexing="ij")
        squares = x**2 + y**2
        spot = torch.exp(-squares / 4) / 4 - torch.exp(-squares / 12) / 12
        with torch.no_grad():
            self.conv.weight.zero_()
            for channel, orientation in enumerate(ANGLES):
                self.conv.weight[channel] = _gabor(orientation)
            self.conv.weight[5] = spot - spot.mean()
            self.conv.weight[6, :, 5, 5] = torch.tensor([1.0, -0.5, -0.5])

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x)).mean((2, 3))


def stripes(count: int) -> list[Image.Image]:
    """Gratings of random orientation, contrast and phase, of the period of the filters."""
    random, images = np.random.default_rng(1), []
    for _ in range(count):
        waves = grating((SIDE, SIDE), random.uniform(0, 180), 6, 3)[random.integers(4)]
        contrast = random.uniform(0.2, 1)
        pixels = ((waves - 0.5) * contrast + 0.5) * 255
        images.append(Image.fromarray(pixels.permute(1, 2, 0).round().byte().numpy()))
    return images


@pytest.fixture(scope="session")
def model() -> cs.Model:
    return cs.load(Tuned().eval(), preprocess=cs.Preprocess(size=(SIDE, SIDE)))


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """24 gratings."""
    return stripes(24)


@pytest.fixture(scope="session")
def on_stripes(model: cs.Model, images: list[Image.Image]) -> Any:
    return cs.sensitivity(model, images, "relu")


@pytest.fixture
def photos() -> Tensor:
    """Two smooth random images, ``(2, 3, 24, 24)``, 0…1."""
    small = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(small, (24, 24), mode="bilinear", align_corners=False)
