"""Results of layers in any structure: tuples, lists, mappings, dataclasses, plain objects."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn


def first_tensor(result: Any) -> Tensor | None:
    """The first tensor of floats in a result, quantized or not, at any depth."""
    tensors = (leaf for leaf in leaves(result) if isinstance(leaf, Tensor))
    return next((t for t in tensors if t.is_floating_point() or t.is_quantized), None)


def leaves(result: Any) -> Iterator[Any]:
    """The result itself, or what its containers and objects hold, at any depth."""
    held = _held(result)
    if held is None:
        yield result
    else:
        for value in held.values():
            yield from leaves(value)


def replace_first(result: Any, old: Any, new: Any) -> Any:
    """``result`` with ``old`` replaced by ``new``, in a structure of the same kind."""
    if result is old:
        return new
    held = _held(result)
    if held is None:
        return result
    changed = {
        key: made
        for key, value in held.items()
        if (made := replace_first(value, old, new)) is not value
    }
    return _with(result, changed) if changed else result


def _held(value: Any) -> Mapping[Any, Any] | None:
    """What a structure holds, by key, index or attribute; ``None`` for what is no structure."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, (tuple, list)):
        return dict(enumerate(value))
    if isinstance(value, (Tensor, nn.Module, type)) or hasattr(value, "dtype"):
        return None
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not callable(value):
        return attributes
    slots = getattr(type(value), "__slots__", None)  # dataclass(slots=True)
    names = (slots,) if isinstance(slots, str) else tuple(slots or ())
    return {name: getattr(value, name) for name in names if hasattr(value, name)} or None


def _with(value: Any, changed: Mapping[Any, Any]) -> Any:
    """A shallow copy of a structure in which some of what it holds is changed."""
    kind: Any = type(value)
    if isinstance(value, tuple):
        items = [changed.get(k, item) for k, item in enumerate(value)]
        return kind._make(items) if hasattr(value, "_fields") else tuple.__new__(kind, items)
    if isinstance(value, Mapping) and not isinstance(value, MutableMapping):
        return kind({**value, **changed})
    made = copy.copy(value)
    for key, item in changed.items():
        if isinstance(value, (MutableMapping, list)):
            made[key] = item
        else:
            object.__setattr__(made, key, item)  # also of a frozen dataclass
    return made
