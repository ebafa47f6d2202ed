"""The table of rules, and the call of an operation that a rule gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from convscope._models.receptive_field.spans import (
    Shape,
    Spans,
    covers,
    everything,
    exact_only,
    nothing,
    union,
    varies,
)


@dataclass(frozen=True, eq=False)
class Dependence:
    """What the elements of a tensor depend on: spans of image rows and of image columns.

    - ``data_dependent``: which rows and columns they are depends on the values in the image.
    - ``unknown``: operations on the way that no rule describes; everything was assumed of them.
    """

    rows: Spans
    columns: Spans
    data_dependent: bool = False
    unknown: frozenset[str] = frozenset()

    def along(self, axis: int) -> Spans:
        """The spans along image axis 0 (rows) or 1 (columns)."""
        return self.columns if axis else self.rows


class Call:
    """An operation, its arguments and what it returned.

    ``sources`` are the tensors among its arguments that depend on the image.
    """

    def __init__(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        result: Any,
        sources: dict[int, tuple[Tensor, Dependence]],
        image: tuple[int, int],
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.outputs = list(tensors(result))
        self.sources = sources
        self.image = image

    def __getitem__(self, name: str) -> Any:
        """The argument ``name`` of the operation's schema, or its default."""
        position, default = _arguments(self.func)[name]
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else default

    def has(self, name: str) -> bool:
        """Whether the operation takes an argument ``name``."""
        return name in _arguments(self.func)

    @property
    def out(self) -> Tensor:
        """What it returned, or the first of it."""
        return self.outputs[0]

    def shape(self, name: str) -> Shape:
        """The shape of a tensor argument."""
        return tuple(self[name].shape)

    def of(self, tensor: Tensor | None, axis: int) -> Spans:
        """The spans of a tensor among the arguments; nothing where it is a constant."""
        if tensor is None:
            return nothing(0)
        source = self.sources.get(id(tensor))
        return source[1].along(axis) if source else nothing(tensor.ndim)

    def spans(self, name: str, axis: int) -> Spans:
        """The spans of the tensor argument ``name``."""
        return self.of(self[name], axis)

    def depends(self, name: str) -> bool:
        """Whether the argument ``name`` is a tensor that depends on the image."""
        return self.has(name) and id(self[name]) in self.sources

    def dims(self, name: str, ndim: int) -> list[int]:
        """Dimensions given as one number, as several, or as none for all of them; from 0 on."""
        given = self[name] if self.has(name) else None
        if isinstance(given, int):
            given = [given]
        return [dim % ndim for dim in given] if given else list(range(ndim))

    def all_sources(self, axis: int) -> Spans:
        """The hull of everything that the operation reads, without dimensions."""
        return union([_total(dependence.along(axis)) for _, dependence in self.sources.values()])


def _total(spans: Spans) -> Spans:
    total: Spans = spans.reshape(6, -1).max(1)
    return total


@lru_cache(maxsize=1024)
def _arguments(func: Any) -> dict[str, tuple[int, Any]]:
    """Position and default by name."""
    return {
        argument.name: (position, argument.default_value)
        for position, argument in enumerate(func._schema.arguments)
    }


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results, looking into tuples and lists."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)


class ValueDependent(Exception):
    """Raised by a rule where values in the image decide which elements are read."""


Rule = Callable[[Call, int], Spans | list[Spans]]
"""Given a call and an image axis, the spans of what it returns; of each output, where a list."""

_Rule = TypeVar("_Rule", bound=Rule)
_RULES: dict[str, Rule] = {}
_VALUE_DEPENDENT: set[str] = set()


def rule(*names: str, value_dependent: bool = False) -> Callable[[_Rule], _Rule]:
    """Register the rule for the operations ``names``, their in-place variants included.

    ``value_dependent``: which positions they read depends on the values in the image.
    """

    def register(function: _Rule) -> _Rule:
        for name in names:
            _RULES[name if "::" in name else f"aten::{name}"] = function
            if value_dependent:
                _VALUE_DEPENDENT.add(name)
        return function

    return register


def rule_of(func: Any) -> tuple[Rule | None, bool]:
    """The rule for an operation, and whether what it reads depends on values."""
    name = _plain(func)
    return _RULES.get(name), name.removeprefix("aten::") in _VALUE_DEPENDENT


@lru_cache(maxsize=1024)
def is_composite(func: Any) -> bool:
    """Whether an operation without a rule is made of others, which may have theirs."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return rule_of(func)[0] is None and bool(func.has_kernel_for_dispatch_key(key))


@lru_cache(maxsize=1024)
def _plain(func: Any) -> str:
    """The name without the underscore of in-place variants; ``pointwise`` where it is tagged so."""
    name: str = func._schema.name
    name = name.rstrip("_") if name.endswith("_") else name
    if name in _RULES:
        return name
    namespace, _, short = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), short, None)
    overloads = [getattr(packet, each) for each in packet.overloads()] if packet else []
    if any(torch.Tag.pointwise in each.tags for each in (func, *overloads)):
        return "aten::pointwise"
    return "aten::aliasing" if _returns_view(func) else name


def _returns_view(func: Any) -> bool:
    aliases = [returned.alias_info for returned in func._schema.returns]
    return bool(aliases) and all(alias and not alias.is_write for alias in aliases)


def union_without_gates(
    pieces: Sequence[Spans], judged: Sequence[Spans], grown: Sequence[list[int]]
) -> Spans:
    """The union of what an operation combines, the local part without global gates.

    A gate is a factor (or an addend) that is broadcast over positions, and that already depends
    on all that the others depend on: every position gets the same value of the whole. ``grown``
    are the dimensions along which each piece is broadcast; ``judged`` is each as it was before
    the operation summed over any of it.
    """
    parts = []
    for k, piece in enumerate(pieces):
        gate = any(
            other is not piece
            and varies(other, [dim for dim in grown[k] if other.shape[dim + 1] > 1])
            and covers(judged[k], judged[j])
            for j, other in enumerate(pieces)
        )
        parts.append(exact_only(piece) if gate else piece)
    return union(parts)


def broadcast_alone(spans: Spans, image: int) -> Spans:
    """The same for what is broadcast alone, before it meets anything: ``expand``, a resize from 1.

    One value that depends on the whole image is given to every position.
    """
    alone = spans.size == 6
    return exact_only(spans) if alone and covers(spans, everything(image, 0)) else spans
