"""Checkpoints of one network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs
from convscope._errors import ModelError, UsageError

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8))


def _states() -> list[Any]:
    """Three checkpoints; channel 1 of the last convolution doubles, nothing else changes."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    found = []
    for step in range(3):
        state = copy.deepcopy(network).eval().requires_grad_(False)
        state[2].weight[1] *= 2**step
        found.append(cs.load(state, preprocess=cs.Preprocess(size=(12, 12))))
    return found


def test_the_channel_that_changes_comes_first(tmp_path: Path) -> None:
    found = cs.checkpoints(_states(), IMAGE, ["0", "2"], names=["first", "second", "third"])
    assert found.maps["2"].shape == (3, 3, 8, 8)
    truth = _states()[2].activations(IMAGE, "2")["2"][0].numpy()
    np.testing.assert_allclose(found.maps["2"][2], truth)
    constant, changing = found.sheet().sections
    assert changing.rows[0] == "1"
    assert changing.heads == ("first", "second", "third")
    first, *_, last = changing.tiles[:3]
    assert (first.low, first.high) == (last.low, last.high)
    assert (constant.tiles[0].pixels == constant.tiles[2].pixels).all()
    assert "the largest change is in 2, from second to third" in found.sentence()
    assert found.save(tmp_path / "strip.png", theme="dark").stat().st_size
    with Image.open(found.save(tmp_path / "strip.webp")) as animation:
        assert animation.n_frames == 3


def test_equal_names_are_numbered() -> None:
    assert cs.checkpoints(_states()[:2], IMAGE, "0").names == ("1 · Sequential", "2 · Sequential")


def test_other_networks_are_refused() -> None:
    other = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    strange = cs.load(other, preprocess=cs.Preprocess(size=(12, 12)))
    with pytest.raises(ModelError, match=r"Layer '0' is .* are not checkpoints of one network"):
        cs.checkpoints([_states()[0], strange], IMAGE, "0")
    with pytest.raises(UsageError, match="Give two checkpoints or more, not 1"):
        cs.checkpoints(_states()[:1], IMAGE)
