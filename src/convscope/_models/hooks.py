"""Observing what layers compute during one forward pass of ``nn.Module``s.

Everything here has a lifetime: hooks, function mode and switched flags exist inside a ``with`` and
are gone after it, also after an exception or Ctrl-C. Works on any ``torch.nn.Module``, and so on
Keras layers under Keras's torch backend.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convscope._models.structure import Report, first_tensor, report_values

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


class StopPass(BaseException):
    """Ends a forward pass once everything requested is recorded.

    A ``BaseException``, because frameworks wrap every ``Exception`` that a layer raises.
    """


@dataclass(frozen=True, eq=False)
class ModuleTree:
    """The modules of a network by path, parents before children; the root has the path ``""``.

    - ``aliases``: further paths of the same modules, each with the one in ``modules``.
    """

    modules: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def parents(self) -> frozenset[str]:
        """Paths of the modules that are made of others."""
        named = {path.rpartition(".")[0] for path in (*self.modules, *self.aliases)}
        return frozenset(self.aliases.get(path, path) for path in named)

    def at(self, address: str) -> Any:
        """The module that an address belongs to; ``None`` where it is a function's."""
        return self.modules.get(base_path(address))


def lock_of(module: Any) -> threading.RLock:
    """The lock that every pass through ``module`` holds."""
    with _locks_guard:
        return _locks.setdefault(module, threading.RLock())


def in_this_thread(act: Callable[..., Any]) -> Callable[..., Any]:
    """``act`` for calls from the thread that is running now; in others it does nothing.

    Modules that cannot be replicated are hooked themselves, and their owner may be using them.
    """
    here = threading.get_ident()

    def acting(*args: Any) -> Any:
        return act(*args) if threading.get_ident() == here else None

    return acting


@contextmanager
def observing(
    tree: ModuleTree,
    report: Report,
    *,
    only: Iterable[str] | None = None,
    fused: Callable[[Report], AbstractContextManager[None]] | None = None,
) -> Iterator[None]:
    """Call ``report(address, result)`` for the results of a forward pass inside the block.

    A result that is a structure is reported value by value; the root is not reported. Functions are
    reported where modules with children call them, for what a leaf computes is the leaf's own
    result. ``fused`` gives a context that reports what layers compute before an activation of their
    own (``PATH/pre``). With ``only``, just those addresses are reported, and nothing but what they
    need is hooked. Passes of other threads are not reported.
    """
    chosen = None if only is None else set(only)
    calls: Counter[str] = Counter()

    @in_this_thread
    def report_call(path: str, result: Any) -> Any:
        address = numbered(path, calls)
        with torch._C.DisableTorchFunction():  # what is done here is no result of the network
            return report_values(address, result, report_plain, chosen)

    def report_plain(address: str, value: Any) -> Any:
        plain = without_vmap(value)
        replacement = report(address, plain)
        return None if replacement is None else within_vmap(replacement, value)

    functions = chosen is None or any(map(_is_function, chosen))
    hooked: Iterable[str] = tree.modules
    if chosen is not None and not functions:
        hooked = {base_path(address) for address in chosen} & tree.modules.keys()
    with ExitStack() as stack:
        if functions:
            stack.enter_context(_observing_functions(tree, report_call))
        if fused and (chosen is None or any(map(_is_fused, chosen))):
            stack.enter_context(fused(report_call))
        for path in hooked:
            if path:
                hook = tree.modules[path].register_forward_hook(_hook(path, report_call))
                stack.callback(hook.remove)
        yield


def numbered(path: str, calls: Counter[str]) -> str:
    """The address of one more call of ``path``: ``pool``, then ``pool#2``."""
    calls[path] += 1
    return path if calls[path] == 1 else f"{path}#{calls[path]}"


def base_path(address: str) -> str:
    """An address without which call, and which of its results: ``pool`` of ``pool#2[1]``."""
    return re.sub(r"\[\d+\]$", "", address).partition("#")[0]


def _is_fused(address: str) -> bool:
    return base_path(address).endswith("/pre")


def _is_function(address: str) -> bool:
    return "/" in address and not _is_fused(address)


def _hook(path: str, report: Report) -> Callable[[nn.Module, Any, Any], Any]:
    return lambda _module, _inputs, output: report(path, output)


@contextmanager
def _observing_functions(tree: ModuleTree, report: Report) -> Iterator[None]:
    """Report results of torch functions called by modules that have children, and by the root."""
    stack: list[tuple[str, bool]] = [("", False)]

    def enter(path: str, leaf: bool) -> Callable[[nn.Module, Any], None]:
        return in_this_thread(lambda _module, _inputs: stack.append((path, leaf)))

    @in_this_thread
    def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        stack.pop()

    with ExitStack() as hooks:
        for path, module in tree.modules.items():
            if path:
                entering = enter(path, path not in tree.parents)
                hooks.callback(module.register_forward_pre_hook(entering, prepend=True).remove)
                # Also after an exception, which the network itself may catch.
                hooks.callback(module.register_forward_hook(leave, always_call=True).remove)
        hooks.enter_context(_FunctionObserver(stack, report))
        yield


class _FunctionObserver(TorchFunctionMode):
    """Intercepts each outermost torch function, not those that they call in turn."""

    def __init__(self, stack: list[tuple[str, bool]], report: Report) -> None:
        super().__init__()
        self._stack = stack
        self._report = report

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        caller, inside_leaf = self._stack[-1]
        name = function_name(function)
        written = args[0] if name == "setitem" else None  # it returns nothing, and writes
        computed = result if written is None else written
        if inside_leaf or name in _NOT_COMPUTED or not _has_batch(first_tensor(computed)):
            return result
        replacement = self._report(f"{caller}/{name}", computed)
        if replacement is None:
            return result
        return replacement if written is None else written.copy_(replacement)


# Attribute access, copies, conversions and constants: they are not results of a network.
_NOT_COMPUTED = {
    "get",
    "set",
    "copy",
    "clone",
    "detach",
    "contiguous",
    "alias",
    "requires_grad",
    "to",
    "float",
    "half",
    "double",
    "bfloat16",
    "type",
    "type_as",
    "cpu",
    "cuda",
    "tensor",
    "as_tensor",
    "asarray",
    "from_numpy",
    "zeros",
    "ones",
    "rand",
    "randn",
    "empty",
    "full",
    "zeros_like",
    "ones_like",
    "rand_like",
    "randn_like",
    "empty_like",
    "full_like",
    "new_tensor",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "eye",
    "arange",
    "linspace",
}
_REFLECTED = {"truediv": "div", "itruediv": "div", "rtruediv": "div"} | {
    f"{mark}{name}": name for name in ("add", "sub", "mul", "div", "pow", "matmul") for mark in "ri"
}


def function_name(function: Any) -> str:
    """The plain name of a torch function: ``Tensor.add_`` and ``Tensor.__radd__`` are ``add``."""
    name = str(getattr(function, "__name__", "function")).partition(".")[0].strip("_")
    return _REFLECTED.get(name, name)


def without_vmap(value: Any) -> Any:
    """A tensor inside ``torch.vmap`` with what it is mapped over as its first dimension."""
    functorch = torch._C._functorch
    while isinstance(value, Tensor) and functorch.is_batchedtensor(value):
        value = functorch.get_unwrapped(value).movedim(functorch.maybe_get_bdim(value), 0)
    return value


def within_vmap(value: Any, like: Any) -> Any:
    """The inverse, for what takes the place of ``like``."""
    functorch = torch._C._functorch
    levels = []
    while isinstance(like, Tensor) and functorch.is_batchedtensor(like):
        levels.append(functorch.maybe_get_level(like))
        like = functorch.get_unwrapped(like)
    for level in reversed(levels):
        value = functorch._add_batch_dim(value, 0, level)
    return value


def _has_batch(value: Tensor | None) -> bool:
    return value is not None and value.ndim > 1
