"""Keras on its torch backend climbs as torch does."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn

import convscope as cs

INPUT = cs.Preprocess(size=(16, 16), mean=(10.0, 20.0, 30.0), std=2.0, scale=255.0, order="BGR")


def test_it_climbs_as_its_torch_twin_does() -> None:
    """Channels last, a fused ReLU, a softmax head, blue first."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(5, 3, activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, "softmax", name="head"),
        ]
    )
    conv, head = nn.Conv2d(3, 5, 3), nn.Linear(5, 4)
    with torch.no_grad():
        for mine, name, axes in ((conv, "conv", (3, 2, 0, 1)), (head, "head", (1, 0))):
            kernel, bias = model.get_layer(name).get_weights()
            mine.weight[:] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(axes)))
            mine.bias[:] = torch.from_numpy(bias)
    twin = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    for theirs, ours in ((cs.logit(2), cs.logit(2)), (cs.channel("conv", 1), cs.channel("1", 1))):
        found = cs.maximize(cs.load(model, preprocess=INPUT), theirs, steps=12)
        expected = cs.maximize(cs.load(twin, preprocess=INPUT), ours, steps=12)
        assert found.activation == pytest.approx(expected.activation, rel=0.02)
        if str(theirs) == str(ours):  # the name is part of the random stream
            np.testing.assert_allclose(found.values, expected.values, atol=2 / 255)
