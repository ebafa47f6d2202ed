"""Fitting the weights of a file to a network: which of its readings is loaded, or why none is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope._errors import WeightsError, closest
from convscope._models.lazy_layers import is_lazy, materialize
from convscope._models.pickles import is_data
from convscope._models.readings import Reading, canonical, flattened, readings, same_shape
from convscope._models.weights import Weights, error_text, shard_count, unsafe


def fit_weights(module: nn.Module, weights: Weights, name: str) -> str:
    """Load ``weights`` into ``module``; every name and shape must fit.

    Nesting (``state_dict``, ``params_ema``), prefixes (``model.``) and wrappers (``module.``) are
    looked through. Where averaged weights and others fit, the averaged ones are taken, unless a
    part is asked for.

    Returns:
        The name of the file, and in brackets what was taken of it where it holds more.

    Raises:
        WeightsError: If nothing fits (names the first keys that do not), or several parts do.
        UnsafeFile: If the file holds a whole model and no weights.
    """
    found = readings(module, weights.held, weights.part)
    one = _chosen(found, weights)
    if not one.values and weights.objects:
        raise unsafe(weights.source, weights.objects[0])
    materialize(module, one.values)
    own = module.state_dict()
    one.shapes = [k for k in one.values if not same_shape(k, own[k], one.values[k])]
    if one.fits:
        _load(module, one, weights.source)
    elif not _translated(module, one):
        shards = shard_count(weights.source)
        hint = f"; it is one of {shards} shards: put the others beside it" if shards else ""
        raise WeightsError(f"{weights.source} does not fit {name}: {_differences(one, own)}{hint}")
    more = bool(weights.part) or len(found) > 1 or one.is_part
    return Path(weights.source).name + _said(one, more)


def _said(one: Reading, more: bool) -> str:
    """What was taken of a file that holds more, and what it lacks, in brackets."""
    notes = [canonical(one.place)] if more else []
    notes += ["without extra state"] if one.lacks_state else []
    said = ", ".join(filter(None, notes))
    return f" ({said})" if said else ""


def _chosen(found: list[Reading], weights: Weights) -> Reading:
    """The averaged weights of those that fit; an error where several remain that differ."""
    if not found:
        raise WeightsError(
            f"{weights.source} keeps nothing under {weights.part!r}."
            f"{closest(weights.part, _names(weights.held))}"
        )
    left = [one for one in found if one.is_averaged] or found
    if any(not _equal(left[0].values, other.values) for other in left[1:]):
        names = [one.place for one in left]
        raise WeightsError(
            f"{weights.source} holds several weights that fit: {_first(names)}. Choose one: "
            f"--weights {weights.source}#{names[0]}"
        )
    return left[0]


def _names(held: Any) -> list[str]:
    """The names that tensors of a file stand under, for a message."""
    paths = (name.split(".")[:-1] for name in flattened(held).entries)
    return list(dict.fromkeys(name for path in paths for name in path))


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a.keys() != b.keys():
        return False
    pairs = [(value, b[name]) for name, value in a.items()]
    return all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else repr(x) == repr(y)
        for x, y in pairs
    )


def _load(module: nn.Module, one: Reading, source: str) -> None:
    try:
        objects = [name for name, value in one.values.items() if not is_data(value)]
        if not objects:
            module.load_state_dict(one.state, strict=False)
    except Exception as error:  # also what the network's own set_extra_state raises
        raise WeightsError(
            f"{source} cannot be loaded: {type(error).__name__}: {error_text(error)}"
        ) from None
    if objects:
        raise WeightsError(
            f"{source} has objects of classes in {objects[0]!r}, which are not made. Save numbers, "
            "text and tensors there"
        )


def _translated(module: nn.Module, one: Reading) -> bool:
    """Whether the network's own hooks understand the names, as those of an older version."""
    before = module.state_dict()  # with the versions of its modules
    for name, value in list(before.items()):
        if is_lazy(value):
            del before[name]
        elif isinstance(value, Tensor):
            before[name] = value.clone()
    try:
        nn.Module.load_state_dict(module, one.state, strict=True)
    except Exception:  # hooks may raise anything
        with suppress(Exception):
            nn.Module.load_state_dict(module, before, strict=False)
        return False
    return True


def _differences(one: Reading, own: Mapping[str, Any]) -> str:
    parts = []
    if one.shapes:
        have, want = tuple(one.values[one.shapes[0]].shape), tuple(own[one.shapes[0]].shape)
        parts.append(f"{one.shapes[0]!r} is {have} in the file and {want} in the network")
    if one.missing:
        parts.append(f"the file lacks {_first(one.missing)}")
    if one.unexpected:
        parts.append(f"the network lacks {_first(list(one.unexpected))}")
    return "; ".join(parts)


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
    return ", ".join(map(repr, keys[:2])) + more
