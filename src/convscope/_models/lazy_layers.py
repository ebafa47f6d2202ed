"""Lazy layers, whose sizes the weights tell before any image does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_lazy(tensor: Any) -> bool:
    """Whether the shape of a parameter or a buffer is not known yet."""
    return isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer))


def materialize(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Give the lazy layers of torch the sizes of the tensors that will be loaded."""
    for path, layer in module.named_modules():
        if not isinstance(layer, nn.modules.lazy.LazyModuleMixin):
            continue
        lazy: Any = layer
        held = [values.get(f"{path}.{name}".lstrip(".")) for name in ("weight", "running_mean")]
        tensor = next((value for value in held if isinstance(value, Tensor)), None)
        if tensor is not None and (shape := _input_shape(layer, tensor)) is not None:
            with torch.no_grad():  # what its first forward pass does
                lazy._infer_parameters(lazy, (torch.empty(shape),))


def channels_of(convolution: nn.modules.conv._ConvNd) -> int:
    """The channels of its input; a lazy one that has not run knows them by its weights alone."""
    if convolution.in_channels:
        return convolution.in_channels
    shape = _input_shape(convolution, convolution.weight)
    return shape[1] if shape else 0


def _input_shape(layer: object, weight: Tensor) -> tuple[int, ...] | None:
    """The shape of an input for which a lazy layer has such a weight."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
        if weight.ndim < 2:
            return None
        channels = weight.shape[0] if transposed else weight.shape[1] * layer.groups
        return (1, channels, *(1 for _ in layer.kernel_size))
    if isinstance(layer, nn.Linear):
        return (1, weight.shape[-1]) if weight.ndim else None
    return (
        (1, weight.shape[0])
        if isinstance(layer, nn.modules.batchnorm._NormBase) and weight.ndim
        else None
    )
