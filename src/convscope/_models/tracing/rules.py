"""The one table of rules: how each operation of torch passes on what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch

from convscope._models.tracing.calls import PLACE, Call
from convscope._models.tracing.spans import (
    Spans,
    covers,
    everything,
    exact_only,
    union,
    varies,
)


class ValueDependent(Exception):
    """Raised by a rule where values in the image decide which elements are read."""


Rule = Callable[[Call, int], Spans | list[Spans]]
"""Given a call and an axis, the spans of what it returns; of each output, where a list."""

PlaceRule = Callable[[Call], Spans | list[Spans]]
"""Given a call, the places of what it returns; of each output, where a list."""

_Rule = TypeVar("_Rule", bound=Rule)


class Entry(NamedTuple):
    """What is known of an operation.

    - ``spans``: its rule for dependence; for places, too, where it moves elements.
    - ``places``: its rule for places where it computes.
    - ``value_dependent``: whether values in the image decide which elements it reads.
    """

    spans: Rule
    places: PlaceRule | None
    value_dependent: bool

    def along(self, call: Call, axis: int) -> Spans | list[Spans]:
        """The spans, or places, of what the operation returned."""
        if axis == PLACE and self.places is not None:
            return self.places(call)
        return self.spans(call, axis)


_TABLE: dict[str, Entry] = {}


def rule(
    *names: str, places: PlaceRule | None = None, value_dependent: bool = False
) -> Callable[[_Rule], _Rule]:
    """Register the rule for the operations ``names``, their in-place variants included."""

    def register(function: _Rule) -> _Rule:
        for name in names:
            known = Entry(function, places, value_dependent)
            _TABLE[name if "::" in name else f"aten::{name}"] = known
        return function

    return register


def rule_of(func: Any) -> Entry | None:
    """What is known of an operation."""
    return _TABLE.get(_plain(func))


@lru_cache(maxsize=1024)
def is_composite(func: Any) -> bool:
    """Whether an operation without a rule is made of others, which may have theirs."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return rule_of(func) is None and bool(func.has_kernel_for_dispatch_key(key))


@lru_cache(maxsize=1024)
def _plain(func: Any) -> str:
    """The name without the underscore of in-place variants; ``pointwise`` where it is tagged so."""
    name: str = func._schema.name
    name = name.rstrip("_") if name.endswith("_") else name
    if name in _TABLE:
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
