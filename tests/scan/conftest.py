"""A small network and a folder of images to scan with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs

SIZE = (12, 10)


def network(seed: int = 0) -> nn.Module:
    """Convolutions with an in-place ReLU between; one channel is dead, one a copy."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, 3, stride=2),
        nn.Flatten(),
        nn.Linear(48, 3),
    )
    with torch.no_grad():
        made[0].weight[1], made[0].bias[1] = 0, -1
        made[0].weight[2], made[0].bias[2] = made[0].weight[0], made[0].bias[0]
    return made.eval()


@pytest.fixture
def model() -> cs.Model:
    return cs.load(network(), preprocess=cs.Preprocess(size=SIZE))


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``count`` noise images in two classes, every tenth equal to the one before."""

    def make(count: int = 50, name: str = "photos") -> Path:
        draw = np.random.default_rng(1)
        pixels = np.zeros(0)
        for k in range(count):
            if k % 10 != 9:
                pixels = draw.integers(0, 255, (draw.integers(12, 30), 14, 3), np.uint8)
            target = tmp_path / name / ("ant" if k < count // 2 else "bee") / f"{k:03}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
        return tmp_path / name

    return make


@pytest.fixture
def photos(make_folder: Callable[..., Path]) -> Path:
    return make_folder()
