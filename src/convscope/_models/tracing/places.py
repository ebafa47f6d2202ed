"""Where on a grid each element stands: the rules for what is computed, not merely moved.

A place is ``row * RADIX + column + 1``; 0 is none (a class token, a pooled value). What moves
elements about moves their places by its rule for spans. A convolution or a pooling begins a new
grid; a product keeps the places of its rows. So tokens, windows and channels that come last are all
recognized, and attention makes no difference.

Places are arrays ``(1, …)``, written as compactly as spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor

from convscope._models.tracing.calls import PLACE, Call, factors, tensors
from convscope._models.tracing.spans import Shape, Spans, squeezed

RADIX = 4096


@lru_cache(maxsize=64)
def grid(height: int, width: int, ndim: int = 2) -> Spans:
    """The places of a map, in the last two of ``ndim`` dimensions; nothing writes into them."""
    codes = np.arange(height)[:, None] * RADIX + np.arange(width) + 1
    return codes.astype(np.int32).reshape(1, *(1,) * (ndim - 2), height, width)


def none_of(tensor: Tensor) -> Spans:
    """No element stands anywhere."""
    return np.zeros((1, *(1,) * tensor.ndim), np.int32)


def changes(places: Spans, dim: int) -> bool:
    """Whether places change along a dimension."""
    axis = dim % (places.ndim - 1) + 1
    if places.shape[axis] == 1:
        return False
    return bool((places != places.take([0], axis)).any())


def on_grid(call: Call) -> Spans:
    """Those it had, where the size stays; else a new grid.

    A volume has none: which of its three axes would be the image's?
    """
    source, out = next(tensors(call.args)), call.out
    places = call.of(source, PLACE)
    stays = out.ndim < 5 and source.ndim == out.ndim and source.shape[2:] == out.shape[2:]
    if stays and places.any() and not changes(places, 1):
        return places.take([0], 2)
    return grid(*out.shape[2:], 4) if out.ndim == 4 else none_of(out)


def continued(call: Call) -> Spans:
    """Padding continues the grid, and is part of the map.

    Beside tokens, and beside rows that were rolled, it stands nowhere.
    """
    pad = call["pad"] if call.has("pad") else call["padding"]
    places, source = call.of(call["self"], PLACE), call["self"]
    dims = range(source.ndim - 1, -1, -1)
    sides = [(dim, *pad[k : k + 2]) for dim, k in zip(dims, range(0, len(pad), 2), strict=False)]
    along = [dim for dim in range(source.ndim) if changes(places, dim)]
    even = all(not changes(np.diff(places, axis=dim + 1), dim) for dim in along)
    extend = len(along) == 2 and even and bool((places != 0).all())
    for dim, before, after in sides:
        if extend or places.shape[dim + 1] > 1 or not (before or after):
            places = _padded(places, dim, before, after, extend)
        else:
            places = _padded(np.repeat(places, source.shape[dim], dim + 1), dim, before, after)
    return places


def _padded(places: Spans, dim: int, before: int, after: int, extend: bool = False) -> Spans:
    """Cut off what a negative number says; add steps of the same length, or zeros."""
    axis = dim + 1
    if places.shape[axis] == 1 and extend:
        return places
    size = places.shape[axis]
    kept = np.arange(max(0, -before), size + min(0, after))
    places, before, after = places.take(kept, axis), max(0, before), max(0, after)
    ends = [places.take([0], axis), places.take([-1], axis)]
    if not extend:
        zeros = [np.zeros_like(ends[0]).repeat(count, axis) for count in (before, after)]
        return np.concatenate([zeros[0], places, zeros[1]], axis)
    step = places.take([1], axis) - ends[0] if len(kept) > 1 else np.zeros_like(ends[0])
    counts = [np.arange(before, 0, -1), np.arange(1, after + 1)]
    shape = [-1 if k == axis else 1 for k in range(places.ndim)]
    first, last = (step * each.reshape(shape) for each in counts)
    joined = np.concatenate([ends[0] - first, places, ends[1] + last], axis)
    moved: Spans = joined + before * step  # so that none is negative
    return moved


def pointwise(call: Call) -> Spans:
    """The places of the operand of that shape; where it has none, those of the others."""
    out = tuple(call.out.shape)
    operands = [(tensor, call.of(tensor, PLACE)) for tensor, _ in call.sources.values()]
    operands.sort(key=lambda operand: tuple(operand[0].shape) != out)
    fitting = [_led(places, len(out)) for t, places in operands if _broadcasts(t.shape, out)]
    if not fitting:
        tensor, places = operands[0]  # features made of features, as recurrent layers make them
        same = tensor.ndim == len(out) and tuple(tensor.shape[:-1]) == out[:-1]
        return places.take([0], -1) if same else none_of(call.out)
    result = fitting[0]
    for other in fitting[1:]:
        moving = any(changes(other, dim) for dim in range(len(out)))  # a gate has one place
        if other is not result and moving and not result.all():
            result = np.where(result > 0, result, other)
    return result


def product(call: Call) -> Spans:
    """Rows stand where those of the left stood, columns where those of the right did."""
    names, ndim = factors(call), call.out.ndim
    left, right = (call.spans(name, PLACE) for name in names)
    if names[1] == "weight":
        right = right.swapaxes(-1, -2)
    if left.any() and not changes(left, -1):
        return _led(left.take([0], -1), ndim)
    if right.any() and right.ndim > 2 and not changes(right, -2):
        return _led(right.take([0], -2), ndim)
    for name, places in zip(names, (left, right), strict=True):
        if places.any() and call.shape(name) == tuple(call.out.shape):
            return places  # tokens mixed into as many
    first = left.take([0], -1)
    if any(changes(first, dim) for dim in range(first.ndim - 2)):
        return _led(first, ndim)  # patches joined in the channels
    return none_of(call.out)


def reduction(call: Call) -> Spans | list[Spans]:
    """What is taken together stands where its first did; all of it together stands nowhere."""
    source = next(tensors(call.args))
    places = call.of(source, PLACE)
    if call.has("other"):
        return pointwise(call)
    dims = call.dims("dim", source.ndim)
    places = places.min(tuple(dim + 1 for dim in dims), keepdims=True)
    if not any(changes(places, dim) for dim in range(source.ndim)):
        return [none_of(out) for out in call.outputs]
    kept = call["keepdim"] if call.has("keepdim") else False
    return places if kept else squeezed(places, dims)


def of_queries(call: Call) -> Spans:
    """Each stands where its query does."""
    return call.spans("query", PLACE).take([0], -1)


def of_first(call: Call) -> Spans:
    """Those of the first input, the features taken together."""
    places = call.of(next(tensors(call.args)), PLACE)
    return places.take([0], -1)


def nowhere(call: Call) -> list[Spans]:
    """Order and choice by value leave no place."""
    return [none_of(out) for out in call.outputs]


def _led(places: Spans, ndim: int) -> Spans:
    return places.reshape(1, *(1,) * (ndim - places.ndim + 1), *places.shape[1:])


def _broadcasts(shape: Sequence[int], to: Shape) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)
