"""PyTorch modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.models.hooked import HookedModel

_FAMILY_WORDS = ("conv", "pool", "norm", "relu", "linear", "dropout")


class TorchModel(HookedModel):
    """Any ``nn.Module`` that takes one batch of images ``(N, C, H, W)``."""

    def _call(self, native: Tensor) -> Any:
        return self.module(native)

    def _native(self, values: Tensor) -> Tensor:
        reference = next(
            (p for p in (*self.module.parameters(), *self.module.buffers()) if
             p.is_floating_point()), None)  # fmt: skip
        return values if reference is None else values.to(reference.device, reference.dtype)

    def _standard(self, result: Tensor) -> Tensor:
        return result.float()

    def _standard_input(self, values: Tensor) -> Tensor:
        return values

    def _walk(self) -> Mapping[str, nn.Module]:
        return dict(self.module.named_modules())

    def _families(self, module: nn.Module) -> tuple[str, ...]:
        return families(type(module), isinstance(module, nn.modules.conv._ConvNd))

    def _weights(self, path: str) -> NDArray[np.float32] | None:
        module = self.modules.get(path.partition("#")[0])
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2:
            return None
        values = weight.detach().float().cpu()
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            values = values.transpose(0, 1)  # torch keeps these as (in, out, …)
        return np.ascontiguousarray(values.numpy())

    def looks_untrained(self) -> str:
        norms = [m for m in self.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        fresh = [m.running_mean is not None and not m.running_mean.any() for m in norms]
        if fresh and all(fresh):
            return "its batch normalisations have never seen a batch"
        kernels = [(m.weight, m.bias) for m in self.module.modules()
                   if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear))]  # fmt: skip
        return untrained_kernels(kernels)


def families(kind: type, is_convolution: bool) -> tuple[str, ...]:
    """Wider kinds from the names of a class and its bases: ``MaxPool2d`` is a ``pool``."""
    names = " ".join(base.__name__.lower() for base in kind.__mro__)
    found = [word for word in _FAMILY_WORDS if word in names and word != "conv"]
    return tuple(["conv", *found] if is_convolution else found)


def untrained_kernels(kernels: list[tuple[Tensor, Tensor | None]]) -> str:
    """Whether kernels look as initialisation leaves them.

    The default initialisation of torch is uniform within ±1/√fan-in, which no training keeps; the
    usual others set every bias to zero.
    """
    biases = [bias for _, bias in kernels if bias is not None]
    if biases and not any(bool(bias.detach().any()) for bias in biases):
        return "all its biases are exactly zero"
    large = [weight.detach().float().flatten() for weight, _ in kernels if weight.numel() >= 400]
    if large and all(_is_uniform(values) for values in large):
        return "its kernels are uniform random numbers"
    return ""


def _is_uniform(values: Tensor) -> bool:
    """A uniform distribution has kurtosis 1.8 and fills its range; trained kernels have peaks."""
    centred = values - values.mean()
    variance = centred.pow(2).mean()
    kurtosis = float(centred.pow(4).mean() / variance.pow(2).clamp_min(1e-30))
    reach = float(values.abs().max() / (variance.sqrt() * 3**0.5).clamp_min(1e-30))
    return abs(kurtosis - 1.8) < 0.25 and reach < 1.08

