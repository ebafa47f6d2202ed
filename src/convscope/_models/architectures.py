"""The two networks that ``convscope train`` can build.

Both are written out plainly: they are the first networks that a reader looks into,
and every address in the documentation (``stem.conv:3``) is a name from this file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from convscope._errors import ModelError, closest


class SimpleCNN(nn.Sequential):
    """The tutorial network: two convolutions with max-pooling, then three linear layers.

    Input ``(N, channels, height, width)`` of exactly the ``size`` given; output ``(N, classes)``.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        height, width = size
        if min(height, width) < 4:
            raise ModelError(f"simplecnn halves its input twice: {height}×{width} is less than 4×4")
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(channels, 16, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(16, 32, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(32 * (height // 4) * (width // 4), 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, classes),
            )
        )


class ConvUnit(nn.Sequential):
    """Convolution, batch normalization, ReLU; the size of the map is kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                norm=nn.BatchNorm2d(outputs),
                relu=nn.ReLU(),
            )
        )


class Stage(nn.Module):
    """Widen, halve the resolution, then refine with a residual pair of convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widen = ConvUnit(inputs, outputs)
        self.pool = nn.MaxPool2d(2)
        self.first = ConvUnit(outputs, outputs)
        self.second = ConvUnit(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.widen(x))
        refined: Tensor = x + self.second(self.first(x))
        return refined


class Compact(nn.Module):
    """A small fully convolutional network with a 5×5 stem (466 k parameters for ten classes).

    Nothing before the global max-pool depends on the size of the input, so images of any size
    of at least 4×4 pass through it. Input ``(N, channels, H, W)``; output ``(N, classes)``.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.stem = ConvUnit(channels, 32, 5)
        self.stage1 = Stage(32, 64)
        self.stage2 = Stage(64, 128)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(128, classes)
        # The largest of many activations is far from zero: small weights keep the first loss sane.
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stem(x)))
        scores: Tensor = self.head(self.flatten(self.pool(x)))
        return scores


ARCHITECTURES: dict[str, Callable[[int, tuple[int, int], int], nn.Module]] = {
    "simplecnn": SimpleCNN,
    "compact": Compact,
}


def build(name: str, channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """The named architecture with fresh weights, for ``channels`` × ``size`` inputs."""
    if name not in ARCHITECTURES:
        raise ModelError(
            f"No architecture {name!r}.{closest(name, ARCHITECTURES)} Known: "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name](channels, size, classes)
