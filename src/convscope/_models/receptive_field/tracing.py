"""Following one forward pass, operation by operation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from convscope._models.receptive_field import mixing, moves, windows
from convscope._models.receptive_field.calls import (
    Call,
    ChosenByValues,
    Reach,
    is_composite,
    rule_of,
    tensors,
)
from convscope._models.receptive_field.field import ReceptiveField, summarized
from convscope._models.receptive_field.spans import (
    Shape,
    Spans,
    compact,
    everything,
    full,
    nothing,
    pixels,
)

_log = logging.getLogger(__name__)
RULES = (mixing, moves, windows)  # imported so that they register
_TO_PYTHON = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"}


@contextmanager
def tracing_receptive_fields(image: Tensor) -> Iterator[Callable[[Tensor], ReceptiveField]]:
    """Follow what depends on ``image``, ``(N, C, H, W)``, through all that runs in the block.

    Gives a function that tells the receptive field of any tensor computed in the block, inside it
    or after it. Nothing is computed twice and nothing is changed: each operation runs as it would,
    and beside it its rule. A tensor that does not depend on the image has an empty field.
    """
    tracing = _Tracing(image)
    # In inference mode a view does not know its base, so writing into a part would go unseen.
    grad = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grad), tracing:
        yield tracing.field_of


class _Tracing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the reach of every tensor that depends on the image, as long as the tensor lives."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = image.shape[-2:]
        self._image = (int(height), int(width))
        self._reaches: MutableMapping[Tensor, Reach] = WeakTensorKeyDictionary()
        self._told: dict[tuple[Reach, Shape], ReceptiveField] = {}
        self._escaped = False  # values became Python numbers: from there on anything may depend
        lead = (1,) * (image.ndim - 2)
        rows = pixels(height).reshape(6, *lead, -1, 1)
        columns = pixels(width).reshape(6, *lead, 1, -1)
        self._reaches[image] = Reach(rows, columns)

    def field_of(self, tensor: Tensor) -> ReceptiveField:
        """The receptive field of a tensor ``(…, H, W)``, or ``(N, H, W, C)`` where that shows."""
        with torch._C.DisableTorchFunction():
            nowhere = Reach(nothing(tensor.ndim), nothing(tensor.ndim))
            key = self._reaches.get(tensor, nowhere), tuple(tensor.shape)
            if key not in self._told:  # a convolution, its norm and its ReLU share one reach
                self._told[key] = summarized(*key, self._image)
            return self._told[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        sources = self._sources([*args, *kwargs.values()])
        if not sources:
            return func(*args, **kwargs)
        if is_composite(func):  # seen whole on tensors made in inference mode only
            with self:
                return func.decompose(*args, **kwargs)
        if torch.Tag.inplace_view in func.tags:  # the tensor takes another shape: keep the old one
            before = args[0].detach()
            if id(args[0]) in sources:
                sources[id(before)] = (before, sources.pop(id(args[0]))[1])
            result, args = func(*args, **kwargs), (before, *args[1:])
        else:
            result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._follow(Call(func, args, kwargs, result, sources, self._image))
        return result

    def _sources(self, arguments: list[Any]) -> dict[int, tuple[Tensor, Reach]]:
        """The tensors among the arguments that depend on the image."""
        found = {}
        for tensor in tensors(arguments):
            reach = self._reaches.get(tensor)
            if reach is not None:
                found[id(tensor)] = (tensor, reach)
        return found

    def _follow(self, call: Call) -> None:
        if call.func._schema.name in _TO_PYTHON:
            self._escaped = True
        if not call.outputs:
            return
        reaches = self._reaches_of(call)
        for out, reach in zip(call.outputs, reaches, strict=True):
            self._reaches[out] = reach
        if call.func._schema.is_mutable and torch.Tag.inplace_view not in call.func.tags:
            for out in call.outputs:
                self._overwrite(out)

    def _reaches_of(self, call: Call) -> list[Reach]:
        """What each output reaches, by the rule; everything, where there is none."""
        found = [reach for _, reach in call.sources.values()]
        rule, uncertain = rule_of(call.func)
        if rule is mixing.pointwise and len(found) == 1 and not self._escaped:
            [(source, reach)] = call.sources.values()
            if all(out.shape == source.shape for out in call.outputs):
                return [reach] * len(call.outputs)
        unknown = frozenset().union(*(reach.unknown for reach in found))
        moved = self._escaped or uncertain or any(reach.data_dependent for reach in found)
        try:
            if rule is None:
                raise NotImplementedError
            rows, columns = (_per_output(rule(call, axis), call) for axis in (0, 1))
        except ChosenByValues:
            moved, rows, columns = True, self._everything(call, 0), self._everything(call, 1)
        except Exception:  # a rule that fails must neither stop the network nor invent a field
            _log.debug("No rule holds for %s", call.func, exc_info=True)
            unknown |= {call.func._schema.name}
            rows, columns = self._everything(call, 0), self._everything(call, 1)
        return [_reach(*both, moved, unknown) for both in zip(rows, columns, strict=True)]

    def _everything(self, call: Call, axis: int) -> list[Spans]:
        return [everything(self._image[axis], out.ndim) for out in call.outputs]

    def _overwrite(self, written: Tensor) -> None:
        """Tensors that share memory with one that was written into now depend on the same."""
        memory, base = written.untyped_storage()._cdata, written._base
        others = [
            tensor
            for tensor in self._reaches
            if tensor is not written and tensor.untyped_storage()._cdata == memory
        ]
        if base is not None and all(base is not other for other in others):
            others.append(base)  # a constant until now
        if not others:
            return
        try:
            self._write_through(written, others)
        except RuntimeError:  # memory shared in a way that as_strided cannot describe
            _log.debug("Cannot follow a write into %s", written.shape, exc_info=True)
            unknown = self._reaches[written].unknown | {"a write into shared memory"}
            for other in others:
                rows, columns = (everything(size, other.ndim) for size in self._image)
                self._reaches[other] = Reach(rows, columns, unknown=unknown)

    def _write_through(self, written: Tensor, others: list[Tensor]) -> None:
        """Lay out the spans in memory as the values are, overwrite a part, and read all anew."""
        tracked = [tensor for tensor in others if tensor in self._reaches]
        found = [self._reaches[tensor] for tensor in (*tracked, written)]
        layouts = []
        for axis in (0, 1):
            size = written.untyped_storage().nbytes() // written.element_size()
            layout = torch.zeros(6, size, dtype=torch.int32)
            for tensor, reach in zip((*tracked, written), found, strict=True):
                spans = full(reach.along(axis), tuple(tensor.shape))
                _window(layout, tensor).copy_(torch.from_numpy(spans.copy()))
            layouts.append(layout)
        moved = any(reach.data_dependent for reach in found)
        unknown = frozenset().union(*(reach.unknown for reach in found))
        for other in others:
            rows, columns = (
                compact(_window(layout, other).numpy(), range(other.ndim)) for layout in layouts
            )
            self._reaches[other] = _reach(rows, columns, moved, unknown)


def _window(layout: Tensor, view: Tensor) -> Tensor:
    """The part of a layout ``(6, memory)`` where a tensor has its elements."""
    strides = (layout.shape[1], *view.stride())
    return layout.as_strided((6, *view.shape), strides, view.storage_offset())


def _reach(rows: Spans, columns: Spans, moved: bool, unknown: frozenset[str]) -> Reach:
    """What depends on nothing has no doubts about it either."""
    if rows.any() or columns.any():
        return Reach(rows, columns, moved, unknown)
    return Reach(rows, columns)


def _per_output(spans: Spans | list[Spans], call: Call) -> list[Spans]:
    """Spans that fit each output; statistics returned beside it depend on all of it."""
    each = spans if isinstance(spans, list) else [spans] * len(call.outputs)
    return [_fitted(part, out) for part, out in zip(each, call.outputs, strict=True)]


def _fitted(spans: Spans, out: Tensor) -> Spans:
    sizes = zip(spans.shape[1:], out.shape, strict=False)
    if spans.ndim == out.ndim + 1 and all(seen in (1, size) for seen, size in sizes):
        return spans
    total: Spans = spans.reshape(6, -1).max(1)
    return total.reshape(6, *(1,) * out.ndim)
