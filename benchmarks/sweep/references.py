"""What a network computes, recorded without convscope, as checksums."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import plain_reference as plain
import torch
from torch import Tensor, nn

AT_ONCE = 150  # outputs of a sub-model of Keras


class Digest(NamedTuple):
    """A result in brief: two are equal where the results are, to the last bit."""

    shape: tuple[int, ...]
    bits: int

    @classmethod
    def of(cls, result: Tensor) -> Digest:
        numbers = result.detach()
        numbers = numbers.dequantize() if numbers.is_quantized else numbers
        array = numbers.float().cpu().contiguous().numpy()
        return cls(tuple(result.shape), zlib.crc32(array.reshape(-1).view("u1").data))


@dataclass
class Reference:
    """Of modules by path; of functions by the calling module and the name, all calls."""

    modules: dict[str, Digest]
    functions: dict[tuple[str, str], list[Digest]] = field(default_factory=dict)


def torch_reference(module: nn.Module, images: Tensor, paths: Sequence[str]) -> Reference:
    """Plain hooks on an untouched copy: nothing is switched."""
    shared: Any = {id(p): p for p in module.parameters()}  # the weights need no second copy
    replica = copy.deepcopy(module, shared).eval()
    functions = [path for path in paths if "/" in path]
    torch.manual_seed(0)
    with torch.no_grad():
        modules, called, _ = plain.record(replica, images.clone(), functions, Digest.of)
    return Reference(modules, called)


def keras_reference(module: Any, images: Tensor, paths: Sequence[str]) -> Reference:
    """Keras's own sub-models, from the inputs to the outputs of the layers."""
    inside: dict[str, list[str]] = {}
    for path in paths:
        if "/" not in path and path:
            inside.setdefault(path.rpartition(".")[0], []).append(path.rpartition(".")[2])
    results: dict[str, Digest] = {}
    for nested, names in inside.items():
        for at in range(0, len(names), AT_ONCE):
            some = names[at : at + AT_ONCE]
            for name, result in zip(some, _of_keras(module, images, nested, some), strict=True):
                if (tensor := plain.first(result)) is not None:
                    results[f"{nested}.{name}".strip(".")] = Digest.of(tensor)
    return Reference(results)


def _of_keras(module: Any, images: Tensor, nested: str, names: Sequence[str]) -> Sequence[Any]:
    import keras

    entered, within = images, module
    if nested:  # a model inside the model: what it is given, then its own sub-model
        within = module.get_layer(nested)
        (given,) = within._inbound_nodes[-1].input_tensors
        entered = keras.Model(module.inputs, given)(images, training=False)
    outputs = [within.get_layer(name).output for name in names]
    with torch.no_grad():
        returned = keras.Model(within.inputs, outputs)(entered, training=False)
    return returned if isinstance(returned, (list, tuple)) else [returned]
