"""Rules for what moves elements about and computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope._models.tracing import places
from convscope._models.tracing.calls import KINDS, PLACE, Call, tensors
from convscope._models.tracing.rules import ValueDependent, broadcast_alone, rule
from convscope._models.tracing.spans import (
    Shape,
    Spans,
    Taps,
    compact,
    merged_along,
    nothing,
    read,
    reshaped,
    squeezed,
)


@rule(
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_alias",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_copy",
)
def reshape(call: Call, axis: int) -> Spans:
    source = next(tensors(call.args))
    return reshaped(call.of(source, axis), tuple(source.shape), tuple(call.out.shape))


@rule("permute")
def permute(call: Call, axis: int) -> Spans:
    dims = call.dims("dims", call.out.ndim)
    return call.spans("self", axis).transpose(0, *(dim + 1 for dim in dims))


@rule("transpose")
def transpose(call: Call, axis: int) -> Spans:
    first, second = (call[name] % call.out.ndim + 1 for name in ("dim0", "dim1"))
    return call.spans("self", axis).swapaxes(first, second)


@rule("t", "numpy_T", "mT")
def transposed(call: Call, axis: int) -> Spans:
    spans = call.spans("self", axis)
    return spans.swapaxes(-1, -2) if call.out.ndim > 1 else spans


@rule("expand", "expand_copy", "repeat", "tile")
def expand(call: Call, axis: int) -> Spans:
    """New dimensions come first; those that grow repeat what is there."""
    source, out = call["self"], tuple(call.out.shape)
    lead = len(out) - source.ndim
    shape: Shape = (*(1,) * lead, *source.shape)
    spans = call.spans("self", axis)
    spans = spans.reshape(len(spans), *(1,) * lead, *spans.shape[1:])
    if axis != PLACE and any(old == 1 < new for old, new in zip(shape, out, strict=True)):
        spans = broadcast_alone(spans, call.extents[axis])
    times = [
        new // old if old and own > 1 else 1
        for old, new, own in zip(shape, out, spans.shape[1:], strict=True)
    ]
    return spans if set(times) <= {1} else np.tile(spans, (1, *times))


@rule("select")
def select(call: Call, axis: int) -> Spans:
    dim = call["dim"] % call["self"].ndim
    spans = call.spans("self", axis)
    return _at(spans, dim, call["index"])


def _at(spans: Spans, dim: int, index: int) -> Spans:
    index = index % spans.shape[dim + 1]
    at = (slice(None),) * (dim + 1)
    return squeezed(spans[(*at, slice(index, index + 1))], [dim])


@rule("slice")
def slice_of(call: Call, axis: int) -> Spans:
    dim = call["dim"] % call.out.ndim
    spans = call.spans("self", axis)
    if spans.shape[dim + 1] == 1:
        return spans
    at = (slice(None),) * (dim + 1)
    return spans[(*at, slice(call["start"], call["end"], call["step"]))]


@rule(
    "split",
    "split_with_sizes",
    "unsafe_split",
    "unsafe_split_with_sizes",
    "chunk",
    "unsafe_chunk",
    "tensor_split",
)
def split(call: Call, axis: int) -> list[Spans]:
    dim = call["dim"] % call.out.ndim
    spans = call.spans("self", axis)
    if spans.shape[dim + 1] == 1:
        return [spans for _ in call.outputs]
    ends = np.cumsum([out.shape[dim] for out in call.outputs])
    return np.split(spans, ends[:-1], dim + 1)


@rule("unbind")
def unbind(call: Call, axis: int) -> list[Spans]:
    dim = call["dim"] % call["self"].ndim
    spans = call.spans("self", axis)
    return [_at(spans, dim, k) for k in range(len(call.outputs))]


@rule("cat", "concat", "concatenate")
def concatenate(call: Call, axis: int) -> Spans:
    parts = [part for part in call["tensors"] if part.ndim == call.out.ndim]
    return _joined([call.of(part, axis) for part in parts], parts, call["dim"] % call.out.ndim)


@rule("stack")
def stack(call: Call, axis: int) -> Spans:
    dim = call["dim"] % call.out.ndim
    parts = [part.unsqueeze(dim) for part in call["tensors"]]
    pieces = [np.expand_dims(call.of(part, axis), dim + 1) for part in call["tensors"]]
    return _joined(pieces, parts, dim)


def _joined(pieces: Sequence[Spans], parts: Sequence[Tensor], dim: int) -> Spans:
    if all(spans is pieces[0] for spans in pieces) and pieces[0].shape[dim + 1] == 1:
        return pieces[0]
    shape = np.broadcast_shapes(*(merged_along(spans, [dim]).shape for spans in pieces))
    written = [
        np.broadcast_to(spans, (*shape[: dim + 1], part.shape[dim], *shape[dim + 2 :]))
        for spans, part in zip(pieces, parts, strict=True)
    ]
    return compact(np.concatenate(written, dim + 1), [dim])


@rule("flip")
def flip(call: Call, axis: int) -> Spans:
    dims = call.dims("dims", call.out.ndim)
    return np.flip(call.spans("self", axis), tuple(dim + 1 for dim in dims))


@rule("roll")
def roll(call: Call, axis: int) -> Spans:
    spans, shape = call.spans("self", axis), call.shape("self")
    if not call["dims"]:
        raise NotImplementedError("a roll of all elements as one line")
    for dim, shift in zip(call.dims("dims", len(shape)), _several(call["shifts"]), strict=True):
        at = (np.arange(shape[dim]) - shift) % max(shape[dim], 1)
        spans = read(spans, dim, Taps(at[:, None], shape[dim]))
    return spans


def _several(values: Any) -> list[int]:
    return [values] if isinstance(values, int) else list(values)


@rule("index_select")
def index_select(call: Call, axis: int) -> Spans:
    if call.depends("index"):
        raise ValueDependent
    size = call["self"].shape[call["dim"]]
    at = call["index"].reshape(-1, 1).cpu().numpy()
    return read(call.spans("self", axis), call["dim"] % call.out.ndim, Taps(at, size))


@rule("pixel_shuffle", places=places.on_grid)
def pixel_shuffle(call: Call, axis: int) -> Spans:
    """``(C · r · r, H, W)`` to ``(C, H · r, W · r)``."""
    *lead, channels, height, width = call["self"].shape
    r, n = call["upscale_factor"], len(lead)
    split_shape = (*lead, channels // (r * r), r, r, height, width)
    spans = reshaped(call.spans("self", axis), call.shape("self"), split_shape)
    spans = spans.transpose(*range(n + 2), n + 4, n + 2, n + 5, n + 3)
    middle = (*lead, channels // (r * r), height, r, width, r)
    return reshaped(spans, middle, tuple(call.out.shape))


@rule("pixel_unshuffle", places=places.on_grid)
def pixel_unshuffle(call: Call, axis: int) -> Spans:
    *lead, channels, height, width = call["self"].shape
    r, n = call["downscale_factor"], len(lead)
    split_shape = (*lead, channels, height // r, r, width // r, r)
    spans = reshaped(call.spans("self", axis), call.shape("self"), split_shape)
    spans = spans.transpose(*range(n + 2), n + 3, n + 5, n + 2, n + 4)
    middle = (*lead, channels, r, r, height // r, width // r)
    return reshaped(spans, middle, tuple(call.out.shape))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(call: Call, axis: int) -> Spans:
    batch, channels, *space = call["self"].shape
    groups = call["groups"]
    spans = reshaped(
        call.spans("self", axis),
        call.shape("self"),
        (batch, groups, channels // groups, *space),
    )
    middle = (batch, channels // groups, groups, *space)
    return reshaped(spans.swapaxes(2, 3), middle, tuple(call.out.shape))


@rule("view_as_real")
def pairs(call: Call, axis: int) -> Spans:
    return call.spans("self", axis)[..., None]


@rule("view_as_complex")
def unpaired(call: Call, axis: int) -> Spans:
    return merged_along(call.spans("self", axis), [call.out.ndim])[..., 0]


@rule("index", "_unsafe_index")
def index(call: Call, axis: int) -> Spans | list[Spans]:
    """Dimensions without an index stay as they are."""
    given = call["indices"]
    if any(id(each) in call.sources for each in given if each is not None):
        raise ValueDependent
    ndim = call["self"].ndim
    masks = any(each is not None and each.ndim > 1 and each.dtype == torch.bool for each in given)
    indexed = [dim for dim in range(ndim) if dim < len(given) and given[dim] is not None]
    return _replayed(call, axis, range(ndim) if masks else indexed)


@rule(
    "gather",
    "take_along_dim",
    "take",
    "index_put",
    "scatter",
    "slice_scatter",
    "select_scatter",
    "diagonal_scatter",
    "index_copy",
    "tril",
    "triu",
    "rot90",
    "diag_embed",
)
def rearrangement(call: Call, axis: int) -> Spans | list[Spans]:
    given = call["indices"] if call.has("indices") else call["index"] if call.has("index") else ()
    if any(id(each) in call.sources for each in tensors(given)):
        raise ValueDependent
    if call.has("accumulate") and call["accumulate"]:
        raise NotImplementedError("sums where places coincide")
    return _replayed(call, axis)


@rule(
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_empty_strided",
    "new_full",
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
    "rand_like",
    "randn_like",
    "randint_like",
    "zero",
    "fill",
    "uniform",
    "normal",
    "random",
    "exponential",
    "zeros",
    "ones",
    "empty",
    "full",
)
def constant(call: Call, axis: int) -> Spans:
    """Takes the shape of a tensor, not its values."""
    if call.depends("value"):
        return call.spans("value", axis)
    return nothing(call.out.ndim, KINDS[axis])


@rule("as_strided")
def as_strided(call: Call, axis: int) -> Spans | list[Spans]:
    """Often only other strides for dimensions of size 1."""
    source, out = call["self"], call.out
    same = source.shape == out.shape and source.storage_offset() == out.storage_offset()
    pairs = zip(source.shape, source.stride(), out.stride(), strict=False)
    if same and all(size == 1 or old == new for size, old, new in pairs):
        return call.spans("self", axis)
    return _replayed(call, axis)


@rule("aliasing")
def aliasing(call: Call, axis: int) -> Spans | list[Spans]:
    """Any other view."""
    if call.out.shape == call["self"].shape and not call.has("dim"):
        return call.spans("self", axis)  # other strides, or another type
    return _replayed(call, axis)


def _replayed(call: Call, axis: int, dims: Iterable[int] | None = None) -> Spans | list[Spans]:
    """The operation itself, applied to the spans: for what only moves numbers.

    Constants bring in no dependence. ``dims``: where the spans have to be written out.
    """
    replayed = [list(tensors(_replay(call, axis, kind, dims))) for kind in range(KINDS[axis])]
    results = [np.stack([part.numpy() for part in parts]) for parts in zip(*replayed, strict=True)]
    return [compact(spans, range(spans.ndim - 1)) for spans in results]


def _replay(call: Call, axis: int, kind: int, dims: Iterable[int] | None) -> Any:
    def proxy(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [proxy(each) for each in value]
        if not isinstance(value, Tensor):
            return value
        if id(value) not in call.sources:
            return torch.zeros_like(value, dtype=torch.int32) if _is_value(value) else value
        spans = call.of(value, axis)
        shape = [
            value.shape[dim] if dims is None or dim in dims else spans.shape[dim + 1]
            for dim in range(value.ndim)
        ]
        written = torch.from_numpy(np.array(np.broadcast_to(spans[kind], shape)))
        if dims is not None:
            return written
        strided = torch.empty_strided(value.shape, value.stride(), dtype=torch.int32)
        return strided.copy_(written)  # as_strided looks at strides

    values = {name: proxy(value) for name, value in call.kwargs.items()}
    return call.func(*map(proxy, call.args), **values)


def _is_value(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
