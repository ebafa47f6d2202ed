"""A structural replica of a network: its own modules, hooks, modes and buffers; shared parameters.

Whatever convscope hooks or switches, and whatever a forward pass writes, belongs to the replica.
The user's modules are read and never touched, in any thread. Data-parallel training replicates in
the same way; here containers, closures, bound methods and plain objects that lead to modules are
followed too.
"""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convscope._models.wrappers import is_compiled

_DEPTH = 16  # nesting of plain objects that is searched for modules
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type,
    types.NoneType,
    types.ModuleType,
    types.BuiltinFunctionType,
    torch.dtype,
    torch.device,
    torch.Size,
    torch.Generator,
)


class Replica:
    """A replica that follows its original.

    Attributes:
        module: The replica of the network, in evaluation mode.
        shared: Modules that cannot be replicated (TorchScript) and are the user's own.
    """

    def __init__(self, original: nn.Module) -> None:
        copier = _Copier()
        with torch.inference_mode(False), torch.no_grad():
            self.module: nn.Module = copier.of(original)
        self._modules = copier.modules
        self._values, self._copies = copier.values, copier.copies
        self._parameters = copier.parameters
        self.shared = copier.shared
        for module in self.module.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                module.training = False
        self._structure = self._observed()
        self._held = [(holder, holder.copy()) for holder in copier.holders]

    def is_current(self) -> bool:
        """Whether the original is built as it was when it was replicated."""
        return self._structure == self._observed()

    def freeze(self, frozen: bool) -> None:
        """Let gradients stop at its parameters, or give these the flags of the original.

        Some products take another path in memory where a weight requires gradients, and round
        otherwise: only with the flags of the original are results equal to the last bit.
        """
        for original, own in self._parameters:
            requires = original.requires_grad and not frozen
            if own.requires_grad != requires:
                own.requires_grad_(requires)

    def restore(self) -> None:
        """Give buffers and other tensors the original's values, whoever has written since.

        Attributes and containers hold again what they held: what a pass caches would outlive the
        weights that it was made of.
        """
        for holder, held in self._held:
            if holder or held:
                holder.clear()
                holder.extend(held) if isinstance(holder, list) else holder.update(held)
        if self._values:  # versions would not tell: batch normalization does not count its writes
            with torch.inference_mode(False), torch.no_grad():
                torch._foreach_copy_(self._copies, self._values)

    def _observed(self) -> list[int]:
        """Identities of all that the original's modules hold."""
        seen: list[int] = []
        for module in self._modules:
            for value in vars(module).values():
                seen.append(id(value))
                if type(value) in (dict, OrderedDict):
                    seen.extend(map(id, value.values()))
            for parameter in module._parameters.values():
                if parameter is not None and not _is_lazy(parameter):
                    seen.append(parameter.data_ptr())
        return [*seen, *(hash((value.dtype, value.shape)) for value in self._values)]


class _Copier:
    """Copies what leads to modules or tensors; shares everything else."""

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self.values: list[Tensor] = []
        self.copies: list[Tensor] = []
        self.parameters: list[tuple[Tensor, Tensor]] = []  # of the original, of the replica
        self.shared: list[nn.Module] = []
        self.holders: list[Any] = []  # the replica's attributes and plain containers
        self._copies: dict[int, Any] = {}
        self._leads: dict[int, bool] = {}
        self._alive: list[Any] = []  # an identity is a key only while its object lives

    def of(self, value: Any) -> Any:
        """The copy of ``value``, the same one each time; else ``value`` itself."""
        if isinstance(value, _PLAIN):
            return value
        if id(value) not in self._copies:
            self._alive.append(value)
            self._copies[id(value)] = value  # of circles through what is not made in steps
            self._copies[id(value)] = self._copy(value)
        return self._copies[id(value)]

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if not self._leads_to_network(value):
            return self._shallow(value)
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._sequence(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self.of(value.__func__), self.of(value.__self__))
        if isinstance(value, partial):
            return partial(self.of(value.func), *self.of(value.args), **self.of(value.keywords))
        if isinstance(value, weakref.ref):
            return weakref.ref(self.of(value()))
        return self._object(value)

    def _tensor(self, value: Tensor) -> Tensor:
        if _is_lazy(value):
            return value
        if isinstance(value, nn.Parameter):
            # What was made in inference mode cannot take part in gradients: then a copy.
            data = value.clone() if value.is_inference() else value.detach()
            parameter = nn.Parameter(data, requires_grad=False)
            self.parameters.append((value, parameter))
            return parameter
        copy = value.detach().clone()
        self.values.append(value)
        self.copies.append(copy)
        return copy

    def _module(self, module: nn.Module) -> Any:
        if isinstance(module, torch.jit.ScriptModule):
            self.shared.append(module)
            return module
        if is_compiled(module):  # hooks see what eager code computes
            return self.of(module._orig_mod)
        self.modules.append(module)
        copy = object.__new__(type(module))
        self._copies[id(module)] = copy
        self.holders.append(copy.__dict__)
        for name, value in vars(module).items():
            copy.__dict__[name] = None if name == "_compiled_call_impl" else self.of(value)
        return copy

    def _mapping(self, value: Any) -> Any:
        kind: Any = type(value)
        copy = defaultdict(value.default_factory) if kind is defaultdict else kind.__new__(kind)
        self._copies[id(value)] = copy
        if kind in (dict, OrderedDict, defaultdict):
            self.holders.append(copy)
        for name, held in getattr(value, "__dict__", {}).items():
            copy.__dict__[name] = self.of(held)
        put = OrderedDict.__setitem__ if isinstance(value, OrderedDict) else dict.__setitem__
        for key, held in value.items():
            put(copy, key, self.of(held))
        return copy

    def _sequence(self, value: Any) -> Any:
        kind: Any = type(value)
        if isinstance(value, list):
            copy = kind.__new__(kind)
            self._copies[id(value)] = copy
            if kind is list:
                self.holders.append(copy)
            list.extend(copy, [self.of(item) for item in value])
            return copy
        items = [self.of(item) for item in value]
        if isinstance(value, tuple):
            return kind(*items) if hasattr(value, "_fields") else tuple.__new__(kind, items)
        return kind(items)

    def _function(self, function: types.FunctionType) -> Any:
        """A closure over copies; what it shares with other functions stays shared."""
        if compiled := getattr(function, "_torchdynamo_orig_callable", None):
            return self.of(compiled)  # hooks see what eager code computes
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        copy = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            self.of(function.__defaults__),
            cells,
        )
        copy.__kwdefaults__ = self.of(function.__kwdefaults__)
        copy.__dict__.update(function.__dict__)
        return copy

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell) not in self._copies:
            self._alive.append(cell)
            held = list(_held_by(cell))
            self._copies[id(cell)] = types.CellType()
            if held:
                self._copies[id(cell)].cell_contents = self.of(held[0])
        copy: types.CellType = self._copies[id(cell)]
        return copy

    def _object(self, value: Any) -> Any:
        try:
            copy = object.__new__(type(value))
        except TypeError:  # a type of an extension: it cannot be rebuilt from its attributes
            return value
        self._copies[id(value)] = copy
        self.holders.append(copy.__dict__)
        for name, held in vars(value).items():
            copy.__dict__[name] = self.of(held)
        return copy

    def _shallow(self, value: Any) -> Any:
        """Containers are copied also where no module is in them: a pass may append to them."""
        if type(value) not in (list, dict, OrderedDict, set):
            return value
        copy = value.copy()
        self.holders.append(copy)
        return copy

    def _leads_to_network(self, value: Any, depth: int = 0) -> bool:
        """Whether a module or a tensor can be reached from an object."""
        if isinstance(value, (Tensor, nn.Module)):
            return True
        if isinstance(value, _PLAIN) or depth > _DEPTH:
            return False
        if id(value) not in self._leads:
            self._alive.append(value)
            self._leads[id(value)] = False  # while it is searched, for circles
            self._leads[id(value)] = any(
                self._leads_to_network(held, depth + 1) for held in _held_by(value)
            )
        return self._leads[id(value)]


def _held_by(value: Any) -> Iterator[Any]:
    """What an object holds, for the kinds that a network may be reached through."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.FunctionType):
        yield from (*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__)
    elif isinstance(value, types.CellType):
        try:
            yield value.cell_contents
        except ValueError:  # an empty cell
            return
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, weakref.ref) and isinstance(value(), (Tensor, nn.Module)):
        yield value()
    if isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, type):
        yield from vars(value).values()


def _is_lazy(tensor: Tensor) -> bool:
    return isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer))
