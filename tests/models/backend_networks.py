"""One network with every hard part: by hand in torch, functional and subclassed in Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SIZE = (11, 14)
SHAPES = {  # kernels as torch keeps them: (out, in of a group, height, width)
    "conv1": (6, 3, 3, 3),
    "up": (6, 5, 2, 2),  # transposed: (in, out, height, width)
    "conv2": (5, 5, 3, 2),
    "inner.a": (4, 5, 1, 3),
    "depth": (8, 1, 3, 3),
    "fc": (7, 8),
}
ORDER = [
    "conv1/pre",
    "conv1",
    "up",
    "pool",
    "conv2/pre",
    "conv2",
    "add",
    "inner.a",
    "inner.norm",
    "inner",
    "pool#2",
    "depth",
    "mean",
    "fc/pre",
    "fc",
]
"""What all three compute, in the order in which it is finished."""


def numbers() -> dict[str, NDArray[np.float32]]:
    """Seeded weights; no bias is zero and no statistic is fresh."""
    draw = np.random.default_rng(5)
    found = {}
    for path, shape in SHAPES.items():
        outputs = shape[1] if path == "up" else shape[0]
        found[f"{path}.kernel"] = draw.normal(0, 0.4, shape)
        found[f"{path}.bias"] = draw.normal(0, 0.3, outputs)
    for name in ("scale", "shift", "mean"):
        found[f"inner.norm.{name}"] = draw.normal(0, 1, 4)
    found["inner.norm.variance"] = draw.uniform(0.5, 2, 4)
    return {name: values.astype(np.float32) for name, values in found.items()}


def images() -> Tensor:
    """A batch of two, channels first."""
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def by_hand(x: Tensor, held: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Every step of the network in plain torch."""
    at = {name: torch.from_numpy(values) for name, values in held.items()}

    def conv(path: str, x: Tensor, **options: Any) -> Tensor:
        return F.conv2d(x, at[f"{path}.kernel"], at[f"{path}.bias"], **options)

    found: dict[str, Tensor] = {}
    # "same" with stride 2 pads 11 rows by 1 and 1, and 14 columns by 0 and 1
    found["conv1/pre"] = conv("conv1", F.pad(x, (0, 1, 1, 1)), stride=2)
    found["conv1"] = found["conv1/pre"].relu()
    found["up"] = F.conv_transpose2d(found["conv1"], at["up.kernel"], at["up.bias"], stride=2)
    found["pool"] = F.max_pool2d(found["up"], 2)
    # a 3×2 kernel, "same": 1 and 1 rows, 0 and 1 columns
    found["conv2/pre"] = conv("conv2", F.pad(found["pool"], (0, 1, 1, 1)))
    found["conv2"] = found["conv2/pre"].tanh()
    found["add"] = found["conv2"] + found["pool"]
    found["inner.a"] = conv("inner.a", found["add"], padding=(0, 1))
    norm = (at[f"inner.norm.{part}"] for part in ("mean", "variance", "scale", "shift"))
    found["inner.norm"] = F.batch_norm(found["inner.a"], *norm, eps=1e-3)
    found["inner"] = F.relu(found["inner.norm"])
    found["pool#2"] = F.max_pool2d(found["inner"], 2)
    found["depth"] = conv("depth", found["pool#2"], padding=1, groups=4)
    found["mean"] = found["depth"].mean((2, 3))
    found["fc/pre"] = F.linear(found["mean"], at["fc.kernel"], at["fc.bias"])
    found["fc"] = found["fc/pre"].softmax(1)
    return found


def _layers() -> dict[str, Any]:
    from keras import Input, Sequential, layers

    inner = [
        layers.Conv2D(4, (1, 3), padding="same", name="a"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
    ]
    made = [
        layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv1"),
        layers.Conv2DTranspose(5, 2, strides=2, name="up"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Conv2D(5, (3, 2), padding="same", activation="tanh", name="conv2"),
        Sequential([Input((6, 7, 5)), *inner], name="inner"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depth"),
        layers.GlobalAveragePooling2D(name="mean"),
        layers.Dropout(0.5, name="drop"),
        layers.Dense(7, activation="softmax", name="fc"),
    ]
    return {layer.name: layer for layer in made}


def _through(step: Mapping[str, Any], x: Any) -> Any:
    x = step["pool"](step["up"](step["conv1"](x)))
    x = step["pool"](step["inner"](step["conv2"](x) + x))
    return step["fc"](step["drop"](step["mean"](step["depth"](x))))


def functional(held: Mapping[str, NDArray[np.float32]]) -> Any:
    """A functional Keras model that holds a sequential one."""
    import keras

    steps = _layers()
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, _through(steps, inputs), name="functional")
    return _fill(model, steps, held)


def subclassed(held: Mapping[str, NDArray[np.float32]]) -> Any:
    """The same as a class, whose layers have no ``.output``."""
    import keras

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="subclassed")
            self.steps = _layers()
            for name, layer in self.steps.items():
                setattr(self, f"its_{name}", layer)

        def call(self, x: Any) -> Any:
            return _through(self.steps, x)

    model = Subclassed()
    model(np.zeros((1, *SIZE, 3), np.float32))
    return _fill(model, model.steps, held)


def _fill(model: Any, steps: Mapping[str, Any], held: Mapping[str, NDArray[np.float32]]) -> Any:
    for path in SHAPES:
        name, _, part = path.partition(".")
        layer = steps[name].get_layer(part) if part else steps[name]
        layer.set_weights([_as_keras(path, held[f"{path}.kernel"]), held[f"{path}.bias"]])
    norm = [held[f"inner.norm.{part}"] for part in ("scale", "shift", "mean", "variance")]
    steps["inner"].get_layer("norm").set_weights(norm)
    return model


def _as_keras(path: str, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel of torch in the layout of Keras."""
    if kernel.ndim == 2:
        return kernel.T
    if path == "depth":  # (in, multiplier) are one axis in torch
        return kernel.reshape(4, 2, 3, 3).transpose(2, 3, 0, 1)
    return kernel.transpose(2, 3, 1, 0)
