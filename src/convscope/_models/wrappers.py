"""Wrappers around a network (compiled, parallel), and what is given in place of one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from convscope._errors import ModelError

_ADVICE = {
    "ExportedProgram": "An exported program has no modules left to inspect. Give the nn.Module "
    "it was made from",
    "ModelProto": "ONNX is not read. Give the network it was exported from",
    "InferenceSession": "ONNX is not read. Give the network it was exported from",
    "Interpreter": "TensorFlow Lite is not read. Give the Keras model it was converted from",
    "dict": "A dict holds weights at most, not their network. Build it, and "
    "network.load_state_dict(...)",
    "function": "A function is not a model. Give what it returns",
}
_ADVICE["OrderedDict"] = _ADVICE["dict"]


def not_a_model(value: Any) -> ModelError:
    """The error for a value that is not a model; says what to give instead."""
    kind = type(value).__name__
    return ModelError(
        _ADVICE.get(kind)
        or f"A {kind} is not a model. Give a name such as 'torchvision:vgg16', a file, an "
        "nn.Module or a keras.Model"
    )


def unwrapped(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The network inside ``torch.compile`` and ``DataParallel``; a lone layer becomes a network."""
    while True:
        if is_compiled(module):
            inside = module._orig_mod
        elif isinstance(module, nn.DataParallel) or _is_named(module, "DistributedDataParallel"):
            inside = module.module
        else:
            break
        assert isinstance(inside, nn.Module)
        name = type(inside).__name__ if name == type(module).__name__ else name
        module = inside
    if _is_named(module, "FullyShardedDataParallel") or _is_sharded(module):
        raise ModelError(
            f"{name} has its weights sharded over several processes (FSDP). Load its full "
            "state_dict into the plain network, and give that"
        )
    return _as_network(module), name


def is_compiled(module: nn.Module) -> bool:
    """Whether this is what ``torch.compile`` puts around a module."""
    return _is_named(module, "OptimizedModule") and "_orig_mod" in module._modules


def eager_mode() -> AbstractContextManager[Any]:
    """Compiled functions run eagerly for a while, so that hooks see what they compute."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def plain_modules(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """``named_modules`` with every name of a module, without wrappers of compiled parts,
    TorchScript's inside, and what computes weights: parametrizations see no image."""
    hidden: list[str] = []
    for path, module in root.named_modules(remove_duplicate=False):
        if any(path.startswith(above) for above in hidden):
            continue
        if "parametrizations" in module._modules and is_parametrized(module):
            hidden.append(f"{path}.parametrizations".lstrip("."))
        if path and isinstance(module, torch.jit.ScriptModule):
            hidden.append(f"{path}.")
        elif not is_compiled(module):
            yield ".".join(part for part in path.split(".") if part != "_orig_mod"), module


def _as_network(module: nn.Module) -> nn.Module:
    """A lone layer has no path: it becomes the one layer of a network."""
    if isinstance(module, torch.jit.ScriptModule) or type(module).__module__[:9] != "torch.nn.":
        return module
    if next(module.children(), None) is not None:
        return module
    network = nn.Sequential()
    network.add_module(type(module).__name__.lower(), module)
    return network


def _is_named(module: nn.Module, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(module).__mro__)


def _is_sharded(module: nn.Module) -> bool:
    """Whether weights are sharded over several devices."""
    if "torch.distributed.tensor" not in sys.modules:
        return False
    kind: type = sys.modules["torch.distributed.tensor"].DTensor
    held: Iterable[Tensor] = module.parameters()
    return any(isinstance(tensor, kind) for tensor in held)
