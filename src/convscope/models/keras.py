"""Keras 3 models on Keras's torch backend: their layers are ``nn.Module``s, so hooks apply.

The only place that knows that Keras keeps channels last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.models.base import Input
from convscope.models.hooked import HookedModel
from convscope.models.torch import families, untrained_kernels


class KerasModel(HookedModel):
    """A ``keras.Model``: functional, sequential, subclassed or nested, on the torch backend."""

    def __init__(self, module: Any, name: str, input: Input) -> None:
        super().__init__(module, name, input)
        import keras

        self._last = keras.config.image_data_format() == "channels_last"

    def _call(self, native: Tensor) -> Any:
        return self.module(native, training=False)

    def _build(self, values: Tensor) -> None:
        if not self.module.built:
            with torch.no_grad():
                self._call(self._native(values))

    def _native(self, values: Tensor) -> Tensor:
        first = next(iter(self.module.parameters()), None)
        if first is not None:
            values = values.to(first.device)
        return values.permute(0, 2, 3, 1) if self._last else values

    def _standard(self, result: Tensor) -> Tensor:
        if self._last and result.ndim == 4:
            result = result.permute(0, 3, 1, 2)
        return result.float()

    def _standard_input(self, values: Tensor) -> Tensor:
        return values.permute(0, 3, 1, 2) if self._last else values

    def _walk(self) -> Mapping[str, nn.Module]:
        return {"": self.module, **dict(_sublayers(self.module, ""))}

    def _families(self, module: nn.Module) -> tuple[str, ...]:
        named = " ".join(base.__name__ for base in type(module).__mro__)
        convolution = "Conv" in type(module).__name__ and "BaseConv" in named.replace(
            "BaseDepthwiseConv", "BaseConv").replace("BaseSeparableConv", "BaseConv")  # fmt: skip
        return families(type(module), convolution)

    def _weights(self, path: str) -> NDArray[np.float32] | None:
        layer = self.modules.get(path.partition("#")[0])
        kernel = _kernel(layer)
        if kernel is None:
            return None
        values = kernel.detach().float().cpu().numpy()
        if values.ndim == 2:
            return np.ascontiguousarray(values.T)
        if hasattr(layer, "depth_multiplier"):  # (height, width, in, multiplier), one in a group
            values = values.reshape(*values.shape[:2], 1, -1)
        if "Transpose" in type(layer).__name__:  # Keras keeps these as (height, width, out, in)
            values = np.swapaxes(values, -1, -2)
        return np.ascontiguousarray(np.moveaxis(values, (-1, -2), (0, 1)))

    def looks_untrained(self) -> str:
        norms = [m for m in self.modules.values() if hasattr(m, "moving_mean")]
        if norms and not any(bool(n.moving_mean.value.detach().any()) for n in norms):
            return "its batch normalisations have never seen a batch"
        layers = [m for m in self.modules.values() if _kernel(m) is not None]
        kernels = [(kernel, _bias(m)) for m in layers if (kernel := _kernel(m)) is not None]
        return untrained_kernels(kernels)


def _sublayers(layer: Any, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Layers by the names Keras gives them; nested models and layers after a dot."""
    for child in layer._flatten_layers(include_self=False, recursive=False):
        if not isinstance(child, nn.Module) or type(child).__name__ == "InputLayer":
            continue
        path = prefix + child.name
        yield path, child
        yield from _sublayers(child, f"{path}.")


def _kernel(layer: Any) -> Tensor | None:
    variable = getattr(layer, "kernel", None)
    if variable is None:
        variable = getattr(layer, "depthwise_kernel", None)
    value = getattr(variable, "value", None)
    return value if isinstance(value, Tensor) and value.ndim >= 2 else None


def _bias(layer: Any) -> Tensor | None:
    value = getattr(getattr(layer, "bias", None), "value", None)
    return value if isinstance(value, Tensor) else None
