"""The independent reference of most tests: one tiny seeded network, in torch and in Keras."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_networks import TinyCNN, keras_tiny

import convscope as cs


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> TinyCNN:
    return TinyCNN().eval()


@pytest.fixture
def torch_and_keras(tiny: TinyCNN) -> tuple[Any, Any]:
    """The same network in torch and in Keras, loaded."""
    size = cs.Preprocess(size=(10, 14))
    return cs.load(tiny, preprocess=size), cs.load(keras_tiny(tiny))


@pytest.fixture
def squeezenet(real_data: Path) -> Any:
    file = real_data / "squeezenet1_1.safetensors"
    return cs.load("torchvision:squeezenet1_1,weights=none", weights=file)
