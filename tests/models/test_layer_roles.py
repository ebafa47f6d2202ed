"""Which ReLU follows, checked on values; whose filters make the channels."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convscope as cs
from convscope._models.layer_roles import find_relus_and_kernels


def wires(network: nn.Module, size: int = 12) -> dict[str, tuple[str | None, str | None]]:
    model = cs.load(network, preprocess=cs.Preprocess(size=(size, size)))
    paths = [layer.path for layer in model.layers if not layer.container]
    found = find_relus_and_kernels(model, paths)
    return {path: (one["gate"], one["kernel"]) for path, one in found.items()}


def test_a_relu_behind_a_convolution_a_pool_or_a_normalization() -> None:
    torch.manual_seed(0)
    found = wires(
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 5, 3),
            nn.MaxPool2d(2),
            nn.ReLU6(),
            nn.Conv2d(5, 6, 1),
            nn.GELU(),
            nn.Conv2d(6, 6, 1),
            nn.LeakyReLU(0.2),
        )
    )
    assert found == {
        "0": (None, "0"),
        "1": ("2", "0"),
        "2": (None, "0"),
        "3": ("5", "3"),
        "4": ("5", "3"),
        "5": (None, "3"),
        "6": (None, "6"),
        "7": (None, None),
        "8": (None, "8"),
        "9": (None, "8"),
    }


class Branches(nn.Module):
    """A convolution that is followed by the ReLU of another, as branches are run in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        right = self.right(x)
        left = self.left(x)
        return F.relu(right) + left


def test_what_only_comes_next_in_time_is_no_gate() -> None:
    found = wires(Branches())
    assert found["left"] == (None, "left")
    assert found["right"] == (None, "right")  # not next in order: not said


def test_a_layer_without_filters_of_its_own_has_none() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x)) + x

    found = wires(Sum())
    assert found["conv"] == ("/relu", "conv")
    assert found["/relu"] == (None, "conv")
    assert found["/add"] == (None, None)


def test_keras_activations_are_known_by_what_they_do() -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = cs.load(
        keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                layers.Conv2D(4, 3, name="a"),
                layers.BatchNormalization(name="norm"),
                layers.Activation("relu", name="on"),
                layers.Conv2D(4, 3, activation="relu", name="b"),
                layers.Conv2D(4, 3, name="c"),
                layers.Activation("tanh", name="bent"),
            ]
        )
    )
    found = find_relus_and_kernels(model, ["a", "norm", "on", "b", "b/pre", "c", "bent"])
    assert {path: one["gate"] for path, one in found.items()} == {
        "a": None,
        "norm": "on",
        "on": None,
        "b": None,
        "b/pre": None,
        "c": None,
        "bent": None,
    }
    kernels = [found[path]["kernel"] for path in ("a", "norm", "on", "b", "c", "bent")]
    assert kernels == ["a", "a", "a", "b", "c", "c"]
