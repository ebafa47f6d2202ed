"""Results of layers in any structure: tuples, lists, mappings, dataclasses, plain objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

Report = Callable[[str, Any], Any]
"""Called with an address and a result; what it returns, unless ``None``, replaces the result."""


def is_float_tensor(value: Any) -> bool:
    """Whether this is a tensor of floats, quantized or not."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_quantized)


def first_tensor(result: Any) -> Tensor | None:
    """The first tensor of floats in a result, at any depth."""
    return next(filter(is_float_tensor, leaves(result)), None)


def report_values(
    address: str,
    result: Any,
    report: Report,
    chosen: Collection[str] | None,
    is_value: Callable[[Any], bool] = is_float_tensor,
) -> Any:
    """Report each value in a result: the first at ``address``, further ones at ``address[1]``, ….

    ``chosen`` are the addresses that are reported, all where it is ``None``: then also what holds
    no value, as ``None``. Returns the result with what ``report`` replaced, else ``None``.
    """
    values = list({id(leaf): leaf for leaf in leaves(result) if is_value(leaf)}.values())
    if not values and chosen is None:
        report(address, None)
    changed = result
    for index, value in enumerate(values):
        own = f"{address}[{index}]" if index else address
        if chosen is None or own in chosen:
            replacement = report(own, value)
            if replacement is not None and replacement is not value:
                changed = replaced(changed, value, replacement)
    return None if changed is result else changed


def leaves(result: Any) -> Iterator[Any]:
    """The result itself, or what its containers and objects hold, at any depth."""
    held = _held(result)
    if held is None:
        yield result
    else:
        for value in held.values():
            yield from leaves(value)


def replaced(result: Any, old: Any, new: Any) -> Any:
    """``result`` with ``old`` replaced by ``new``, in a structure of the same kind."""
    if result is old:
        return new
    held = _held(result)
    if held is None:
        return result
    changed = {
        key: made for key, value in held.items() if (made := replaced(value, old, new)) is not value
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
