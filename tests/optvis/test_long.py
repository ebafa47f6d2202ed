"""What only many steps show: memory, and pictures that another network understands."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

import convscope as cs


def _peak() -> int:
    """The most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_renders() -> None:
    model = cs.load("demo")
    paths = [layer.path for layer in model.layers if "conv" in layer.families]
    for k in range(60):
        cs.maximize(model, f"{paths[k % len(paths)]}:{k % 16}", steps=2, seed=k)
    gc.collect()
    before, tensors = _peak(), _tensors()
    for k in range(1000):
        cs.maximize(model, f"{paths[k % len(paths)]}:{k % 16}", steps=2, seed=k)
    gc.collect()
    assert _tensors() <= tensors
    assert _peak() - before <= 8


def _tensors() -> int:
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


@pytest.mark.slow
def test_class_images_are_understood_by_a_network_of_another_seed(
    real_data: Path, tmp_path: Path
) -> None:
    """Two simplecnns trained on MNIST apart: the digits that one dreams, the other reads."""
    networks = []
    for seed in (0, 1):
        recipe = cs.Recipe(epochs=1, seed=seed)
        out = tmp_path / f"{seed}.safetensors"
        trained = cs.train(real_data / "mnist", out, architecture="simplecnn", recipe=recipe)
        assert trained.accuracy > 0.95
        networks.append(cs.load(str(out)))
    first, second = networks
    seen = cs.maximize(first, [cs.logit(k) for k in range(10)], steps=256)
    values = torch.from_numpy(np.stack([one.values for one in seen]))
    scores = second.logits((values - _number(second, "mean")) / _number(second, "std"))
    assert scores.argmax(1).tolist() == list(range(10))


def _number(model: cs.Model, name: str) -> float:
    value = getattr(model.input.preprocess, name)
    return float(np.asarray(value).ravel()[0])
