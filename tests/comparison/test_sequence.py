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

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8))


def _states() -> list[Any]:
    """Three states; channel 1 of the last convolution doubles at every step, nothing else moves."""
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


def test_the_channel_that_moves_leads_the_strip(tmp_path: Path) -> None:
    found = cs.checkpoints(_states(), PICTURE, ["0", "2"], names=["first", "second", "third"])
    assert found.maps["2"].shape == (3, 3, 8, 8)
    truth = _states()[2].activations(PICTURE, "2")["2"][0].numpy()
    np.testing.assert_allclose(found.maps["2"][2], truth)
    still, moving = found.sheet().sections
    assert moving.rows[0] == "1"
    assert moving.heads == ("first", "second", "third")
    first, *_, last = moving.tiles[:3]
    assert (first.low, first.high) == (last.low, last.high)
    assert (still.tiles[0].pixels == still.tiles[2].pixels).all()
    assert "the largest step is in 2, from second to third" in found.sentence()
    assert found.save(tmp_path / "strip.png", theme="dark").stat().st_size
    with Image.open(found.save(tmp_path / "strip.webp")) as animation:
        assert animation.n_frames == 3


def test_names_are_told_apart() -> None:
    assert cs.checkpoints(_states()[:2], PICTURE, "0").names == ("1 · Sequential", "2 · Sequential")


def test_what_are_no_checkpoints_is_refused() -> None:
    other = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    strange = cs.load(other, preprocess=cs.Preprocess(size=(12, 12)))
    with pytest.raises(ModelError, match=r"Layer '0' is .* no checkpoints of one network"):
        cs.checkpoints([_states()[0], strange], PICTURE, "0")
    with pytest.raises(UsageError, match="1 checkpoint was given; a sequence has two or more"):
        cs.checkpoints(_states()[:1], PICTURE)
