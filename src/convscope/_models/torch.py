"""PyTorch modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope._models.hooked import HookedModel
from convscope._models.untrained import FRESH_NORMS, untrained_kernels
from convscope._models.wrappers import plain_modules

_FAMILY_WORDS = ("pool", "norm", "relu", "linear", "dropout")
_NO_KERNEL = (nn.LayerNorm, nn.Embedding, nn.EmbeddingBag, nn.modules.batchnorm._BatchNorm)


class TorchModel(HookedModel):
    """Any ``nn.Module`` that takes one batch of images ``(N, C, H, W)``."""

    def _call(self, native: Tensor) -> Any:
        return self.module(native)

    def _native(self, values: Tensor) -> Tensor:
        held = chain(self.module.parameters(), self.module.buffers())
        like = next((t for t in held if t.is_floating_point()), None)
        return values if like is None else values.to(like.device, like.dtype)

    def _standard(self, result: Tensor) -> Tensor:
        return (result.dequantize() if result.is_quantized else result).float()

    def _as_it_was(self, standard: Tensor, result: Tensor) -> Tensor:
        return standard.to(result.dtype)

    def _standard_input(self, values: Tensor) -> Tensor:
        return values

    def _layout(self, channels: int) -> tuple[Any, ...]:
        depth = (self.input.depth,) if self.input.depth else ()
        return channels, *depth, "height", "width"

    def _walk(self) -> Mapping[str, nn.Module]:
        return dict(plain_modules(self.module))

    def _families(self, module: nn.Module) -> tuple[str, ...]:
        return families(type(module), _is_convolution(module))

    def _weights(self, path: str) -> NDArray[np.float32] | None:
        module = self.modules.get(path.partition("#")[0])
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2 or isinstance(module, _NO_KERNEL):
            return None
        values = weight.detach().float().cpu()
        if isinstance(module, nn.modules.conv._ConvTransposeNd):  # (in, out of one group, …)
            grouped = values.reshape(module.groups, -1, *values.shape[1:])
            values = grouped.transpose(1, 2).flatten(0, 1)
        return np.array(values.numpy(), order="C")  # never the live weights

    def _shuffle(self, path: str, random: np.random.Generator) -> None:
        held = self.modules[path].parameters(recurse=False) if path in self.modules else ()
        for parameter in held:
            if parameter.ndim > 1:
                order = torch.from_numpy(random.permutation(parameter.numel()))
                with torch.no_grad():
                    parameter.copy_(
                        parameter.flatten()[order.to(parameter.device)].view_as(parameter)
                    )

    def _state(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, value in self.module.state_dict().items():
            if isinstance(value, Tensor):
                plain = value.dequantize() if value.is_quantized else value
                raw = plain.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                yield f"{name} {value.dtype} {tuple(value.shape)}", raw.numpy()

    def _untrained_evidence(self) -> str:
        parts = list(self.module.modules())
        means = [m.running_mean for m in parts if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if means and all(mean is not None and not mean.any() for mean in means):
            return FRESH_NORMS
        return untrained_kernels(
            [
                (m.weight, m.bias)
                for m in parts
                if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear))
            ]
        )


def _is_convolution(module: nn.Module) -> bool:
    """Whether a module is one of torch's convolutions, a quantized one, or one like them."""
    if any(base.__name__ == "_ConvNd" for base in type(module).__mro__):
        return True
    kernel = vars(module).get("_parameters", {}).get("weight")
    leaf = next(module.children(), None) is None
    return leaf and "conv" in type(module).__name__.lower() and getattr(kernel, "ndim", 0) > 2


def families(kind: type, is_convolution: bool) -> tuple[str, ...]:
    """Wider kinds from the names of a class and its bases: ``MaxPool2d`` is a ``pool``."""
    names = " ".join(base.__name__.lower() for base in kind.__mro__)
    found = (word for word in _FAMILY_WORDS if word in names)
    return ("conv", *found) if is_convolution else tuple(found)
