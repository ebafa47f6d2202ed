"""What a network computes, recorded by plain hooks on an untouched copy: nothing is switched."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def tensors(result: Any) -> Iterator[Tensor]:
    """All tensors of floats in a result, whatever it is packed in."""
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result
        return
    parts: Any = ()
    if isinstance(result, Mapping):
        parts = result.values()
    elif isinstance(result, (tuple, list)):
        parts = result
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        parts = [getattr(result, field.name) for field in dataclasses.fields(result)]
    elif hasattr(result, "__dict__") and not isinstance(result, (type, nn.Module)):
        parts = vars(result).values()
    for part in parts:
        yield from tensors(part)


def first(result: Any) -> Tensor | None:
    return next(tensors(result), None)


def function_key(address: str) -> tuple[str, str]:
    """``layer1.0/add#2``: the calling module and the function; which call, and which of its
    results, is left to the comparison."""
    module, _, function = address.rpartition("/")
    return module, re.sub(r"(#\d+|\[.*\])+$", "", function).strip("_")


class Functions(TorchFunctionMode):
    """Keeps what functions return, by the module that called them and their name.

    ``keep`` makes what is kept of a result: by default a copy.
    """

    def __init__(
        self, wanted: Collection[tuple[str, str]], keep: Callable[[Tensor], Any] = torch.clone
    ) -> None:
        super().__init__()
        self.wanted = set(wanted)
        self.keep = keep
        self.callers = [""]
        self.results: dict[tuple[str, str], list[Any]] = defaultdict(list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        key = (self.callers[-1], getattr(func, "__name__", "").strip("_"))
        if key in self.wanted:
            with torch._C.DisableTorchFunction():
                # A write (``x[0] = 1``) returns nothing: its result is what was written into.
                kept = [args[0]] if result is None else list(tensors(result))
                self.results[key] += [self.keep(one) for one in kept if isinstance(one, Tensor)]
        return result


@contextmanager
def hooked(module: nn.Module, hook: Callable[[str, Any], Any]) -> Iterator[None]:
    """Calls ``hook(address, result)`` after each module; what it returns replaces the result."""
    calls: Counter[str] = Counter()

    def after(path: str) -> Callable[..., Any]:
        def run(_part: nn.Module, _inputs: Any, output: Any) -> Any:
            calls[path] += 1
            return hook(path if calls[path] == 1 else f"{path}#{calls[path]}", output)

        return run

    handles = [part.register_forward_hook(after(path)) for path, part in module.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def callers(module: nn.Module, functions: Functions) -> Iterator[None]:
    """Tells ``functions`` which module is running."""

    def enter(path: str) -> Callable[..., None]:
        return lambda *_: functions.callers.append(path)

    def leave(*_: Any) -> None:
        functions.callers.pop()

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(enter(path)))
        handles.append(part.register_forward_hook(leave))
    try:
        with functions:
            yield
    finally:
        for handle in handles:
            handle.remove()


def record(
    module: nn.Module,
    images: Tensor,
    functions: Collection[str] = (),
    keep: Callable[[Tensor], Any] = torch.clone,
) -> tuple[dict[str, Any], dict[tuple[str, str], list[Any]], Any]:
    """The first tensor of each call of a module, what the named functions returned, the output."""
    results: dict[str, Any] = {}
    mode = Functions({function_key(address) for address in functions}, keep)

    def note(address: str, output: Any) -> None:
        tensor = first(output)
        if tensor is not None:
            with torch._C.DisableTorchFunction():
                results[address] = keep(tensor)

    with callers(module, mode), hooked(module, note):
        output = module(images)
    return results, mode.results, output


def replaced(result: Any, old: Tensor, new: Tensor) -> Any:
    """The same result with another tensor in the place of ``old``."""
    if result is old:
        return new
    if isinstance(result, Mapping):
        kept = {key: replaced(part, old, new) for key, part in result.items()}
        return type(result)(kept)  # type: ignore[call-arg]
    if isinstance(result, (tuple, list)):
        parts = [replaced(part, old, new) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        names = [field.name for field in dataclasses.fields(result)]
        return dataclasses.replace(
            result, **{name: replaced(getattr(result, name), old, new) for name in names}
        )
    if hasattr(result, "__dict__") and not isinstance(result, (type, nn.Module)):
        return type(result)(**{k: replaced(v, old, new) for k, v in vars(result).items()})
    return result


def state(module: nn.Module) -> dict[str, Any]:
    """Everything that could be left changed, in values that can be compared."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        held = {
            key: (id(value), sorted(value) if isinstance(value, dict) else None)
            for key, value in vars(part).items()
        }
        found[f"{path} (attributes)"] = held
        found[f"{path} (mode)"] = part.training
        found[f"{path} (inplace)"] = getattr(part, "inplace", None)
    for path, one in [*module.named_parameters(), *module.named_buffers()]:
        grad = one.grad is None
        found[path] = (id(one), one.requires_grad, grad, one._version, one.detach().clone().numpy())
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not as it was."""
    return [key for key in {**before, **after} if repr(before.get(key)) != repr(after.get(key))]
