"""Networks small enough to know what every layer must give."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TinyCNN(nn.Module):
    """Input 3×10×14. In-place activation, batch norm with statistics, depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, (3, 2))
        self.norm2 = nn.BatchNorm2d(8)
        self.relu2 = nn.ReLU()
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 5)
        for tensor in (self.norm2.weight, self.norm2.bias, self.norm2.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(self.norm2.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.deep(self.relu2(self.norm2(self.conv2(x))))
        return self.fc(x.mean((2, 3)))


def keras_tiny(tiny: TinyCNN) -> Any:
    """The functional Keras model with the weights of ``tiny``; channels last."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    steps = [
        layers.Conv2D(6, 3, padding="same", name="conv1"),
        layers.ReLU(name="relu1"),
        layers.MaxPooling2D(2, name="pool1"),
        layers.Conv2D(8, (3, 2), name="conv2"),
        layers.BatchNormalization(epsilon=1e-5, name="norm2"),
        layers.ReLU(name="relu2"),
        layers.DepthwiseConv2D(3, padding="same", name="deep"),
        layers.GlobalAveragePooling2D(name="mean"),
        layers.Dense(5, name="fc"),
    ]
    inputs = x = keras.Input((10, 14, 3))
    for step in steps:
        x = step(x)
    model = keras.Model(inputs, x, name="tiny")
    for name in ("conv1", "conv2", "deep", "fc"):
        set_weights(model.get_layer(name), getattr(tiny, name))
    norm = tiny.norm2
    held = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    model.get_layer("norm2").set_weights([t.detach().numpy() for t in held])
    return model


def set_weights(layer: Any, module: Any) -> None:
    """Give a Keras convolution or dense layer the weights of its torch counterpart."""
    kernel = module.weight.detach()
    if kernel.ndim == 2:
        kernel = kernel.T
    elif getattr(module, "groups", 1) > 1:
        kernel = kernel.permute(2, 3, 0, 1)
    else:
        kernel = kernel.permute(2, 3, 1, 0)
    layer.set_weights([kernel.numpy(), module.bias.detach().numpy()])


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.conv(x)) + x


class Functional(nn.Module):
    """Functions, a re-used pool, nested blocks, a leaf that calls functions itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.block = nn.Sequential(Residual(4), Residual(4))
        self.leaf = Leaf()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.stem(x).double().float())
        x = self.pool(x)
        x = self.pool(self.block(x))
        x = nn.functional.relu(1 - self.leaf(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Leaf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * 2
