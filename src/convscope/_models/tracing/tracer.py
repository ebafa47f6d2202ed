"""Following one forward pass, operation by operation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from convscope._models.tracing import arithmetic_rules, rearranging_rules, window_rules
from convscope._models.tracing.calls import (
    COLUMNS,
    IMAGES,
    KINDS,
    PLACE,
    ROWS,
    Call,
    Dependence,
    tensors,
)
from convscope._models.tracing.field import ReceptiveField, receptive_field_of
from convscope._models.tracing.places import grid
from convscope._models.tracing.rules import Entry, ValueDependent, is_composite, rule_of
from convscope._models.tracing.spans import (
    Shape,
    Spans,
    compact,
    everything,
    full,
    nothing,
    pixels,
)

_log = logging.getLogger(__name__)
RULE_MODULES = (arithmetic_rules, rearranging_rules, window_rules)  # imported so that they register
_TO_PYTHON = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"}


@contextmanager
def tracing(images: Tensor, axes: Sequence[int]) -> Iterator[Tracer]:
    """Follow what depends on ``images``, ``(N, C, H, W)``, through all that runs in the block.

    Nothing is computed twice and nothing is changed: each operation runs as it would, and beside it
    its rule for each of ``axes``.
    """
    tracer = Tracer(images, axes)
    # In inference mode a view does not know its base, so writing into a part would go unseen.
    grad = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grad), tracer:
        yield tracer


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the dependence of every tensor on the images, as long as the tensor lives."""

    def __init__(self, images: Tensor, axes: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        count, (height, width) = len(images), images.shape[-2:]
        self._axes = axes
        self._extents = {ROWS: int(height), COLUMNS: int(width), IMAGES: count}
        self._dependences: MutableMapping[Tensor, Dependence] = WeakTensorKeyDictionary()
        self._fields: dict[tuple[Dependence, Shape], ReceptiveField] = {}
        self._escaped = False  # values became Python numbers: from there on anything may depend
        lead = (1,) * (images.ndim - 2)
        spans = {
            ROWS: pixels(height).reshape(6, *lead, -1, 1),
            COLUMNS: pixels(width).reshape(6, *lead, 1, -1),
            IMAGES: pixels(count).reshape(6, -1, *lead[1:], 1, 1),
            PLACE: grid(height, width, images.ndim),
        }
        self._dependences[images] = Dependence({axis: spans[axis] for axis in axes})

    def of(self, tensor: Tensor) -> Dependence | None:
        """What a tensor depends on; ``None`` where no image reaches it."""
        return self._dependences.get(tensor)

    def field_of(self, tensor: Tensor) -> ReceptiveField:
        """The receptive field of a tensor ``(…, H, W)``, or ``(N, H, W, C)`` where that shows.

        Empty where the tensor does not depend on the images.
        """
        with torch._C.DisableTorchFunction():
            nowhere = Dependence({axis: nothing(tensor.ndim) for axis in (ROWS, COLUMNS)})
            key = self._dependences.get(tensor, nowhere), tuple(tensor.shape)
            if key not in self._fields:  # a convolution, its norm and its ReLU share one dependence
                size = self._extents[ROWS], self._extents[COLUMNS]
                self._fields[key] = receptive_field_of(*key, size)
            return self._fields[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        sources = self._sources([*args, *kwargs.values()])
        if not sources:
            return func(*args, **kwargs)
        if is_composite(func):  # dispatched whole on tensors made in inference mode only
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
            self._follow(Call(func, args, kwargs, result, sources, self._extents))
        return result

    def _sources(self, arguments: list[Any]) -> dict[int, tuple[Tensor, Dependence]]:
        """The tensors among the arguments that depend on the image."""
        sources = {}
        for tensor in tensors(arguments):
            dependence = self._dependences.get(tensor)
            if dependence is not None:
                sources[id(tensor)] = (tensor, dependence)
        return sources

    def _follow(self, call: Call) -> None:
        if call.func._schema.name in _TO_PYTHON:
            self._escaped = True
        if not call.outputs:
            return
        dependences = self._dependences_of(call)
        for out, dependence in zip(call.outputs, dependences, strict=True):
            self._dependences[out] = dependence
        if call.func._schema.is_mutable and torch.Tag.inplace_view not in call.func.tags:
            for out in call.outputs:
                self._overwrite(out)

    def _dependences_of(self, call: Call) -> list[Dependence]:
        """What each output depends on, by the rule; everything, where there is none."""
        inputs = [dependence for _, dependence in call.sources.values()]
        entry = rule_of(call.func)
        if entry and entry.spans is arithmetic_rules.pointwise and len(inputs) == 1:
            [(source, dependence)] = call.sources.values()
            same = all(out.shape == source.shape for out in call.outputs)
            if same and not self._escaped:
                return [dependence] * len(call.outputs)
        unknown = frozenset().union(*(each.unknown for each in inputs))
        by_data = self._escaped or any(each.data_dependent for each in inputs)
        by_data = by_data or (entry is not None and entry.value_dependent)
        each: dict[int, list[Spans]] = {}
        for axis in self._axes:
            try:
                each[axis] = self._along(entry, call, axis)
            except ValueDependent:
                by_data, each[axis] = True, self._assumed(call, axis)
            except Exception:  # a rule that fails must neither stop the network nor invent a field
                _log.debug("No rule holds for %s", call.func, exc_info=True)
                unknown |= {call.func._schema.name}
                each[axis] = self._assumed(call, axis)
        return [
            _dependence({axis: each[axis][k] for axis in self._axes}, by_data, unknown)
            for k in range(len(call.outputs))
        ]

    def _along(self, entry: Entry | None, call: Call, axis: int) -> list[Spans]:
        if entry is None:
            raise NotImplementedError
        return _per_output(entry.along(call, axis), call)

    def _assumed(self, call: Call, axis: int) -> list[Spans]:
        """Every row; each image its own where their number stays; places where the shape does.

        The last two are checked afterwards, on values.
        """
        if axis == PLACE:
            alike = [t for t, _ in call.sources.values() if t.shape == call.out.shape]
            return [
                call.of(alike[0], axis)
                if alike and out.shape == alike[0].shape
                else nothing(out.ndim, 1)
                for out in call.outputs
            ]
        if axis == IMAGES:
            known = [
                spans for t, d in call.sources.values() if (spans := _by_image(t, d)) is not None
            ]
            if known and all(len(out) == known[0].size // 6 for out in call.outputs if out.ndim):
                return [known[0].reshape(6, -1, *(1,) * (out.ndim - 1)) for out in call.outputs]
        return [everything(self._extents[axis], out.ndim) for out in call.outputs]

    def _overwrite(self, written: Tensor) -> None:
        """Tensors that share memory with one that was written into now depend on the same."""
        memory, base = written.untyped_storage()._cdata, written._base
        others = [
            tensor
            for tensor in self._dependences
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
            unknown = self._dependences[written].unknown | {"a write into shared memory"}
            for other in others:
                spans = {axis: self._all(axis, other.ndim) for axis in self._axes}
                self._dependences[other] = Dependence(spans, unknown=unknown)

    def _all(self, axis: int, ndim: int) -> Spans:
        return nothing(ndim, 1) if axis == PLACE else everything(self._extents[axis], ndim)

    def _write_through(self, written: Tensor, others: list[Tensor]) -> None:
        """Lay out the spans in memory as the values are, overwrite a part, and read all anew."""
        tracked = [tensor for tensor in others if tensor in self._dependences]
        dependences = [self._dependences[tensor] for tensor in (*tracked, written)]
        layouts = {}
        for axis in self._axes:
            size = written.untyped_storage().nbytes() // written.element_size()
            layout = torch.zeros(KINDS[axis], size, dtype=torch.int32)
            for tensor, dependence in zip((*tracked, written), dependences, strict=True):
                spans = full(dependence.along(axis), tuple(tensor.shape))
                new, part = torch.from_numpy(spans.copy()), _window(layout, tensor)
                # Who writes into a map writes at the map's places, whatever it writes.
                part.copy_(torch.where(part > 0, part, new) if axis == PLACE else new)
            layouts[axis] = layout
        data_dependent = any(each.data_dependent for each in dependences)
        unknown = frozenset().union(*(each.unknown for each in dependences))
        for other in others:
            rewritten = {
                axis: compact(_window(layout, other).numpy(), range(other.ndim))
                for axis, layout in layouts.items()
            }
            self._dependences[other] = _dependence(rewritten, data_dependent, unknown)


def _window(layout: Tensor, view: Tensor) -> Tensor:
    """The part of a layout ``(kinds, memory)`` where a tensor has its elements."""
    strides = (layout.shape[1], *view.stride())
    return layout.as_strided((len(layout), *view.shape), strides, view.storage_offset())


def _dependence(
    spans: Mapping[int, Spans], data_dependent: bool, unknown: frozenset[str]
) -> Dependence:
    """What depends on nothing is neither data-dependent nor unknown."""
    if any(each.any() for axis, each in spans.items() if axis != PLACE):
        return Dependence(spans, data_dependent, unknown)
    return Dependence(spans)


def _by_image(tensor: Tensor, dependence: Dependence) -> Spans | None:
    """The images along dimension 0 of a tensor that holds one after the other."""
    spans = dependence.along(IMAGES)
    if not tensor.ndim or spans.shape[1] < 2 or spans.size != 6 * len(tensor):
        return None
    return spans.reshape(6, -1)


def _per_output(spans: Spans | list[Spans], call: Call) -> list[Spans]:
    """Spans that fit each output; statistics returned beside it depend on all of it."""
    each = spans if isinstance(spans, list) else [spans] * len(call.outputs)
    return [_fitted(part, out) for part, out in zip(each, call.outputs, strict=True)]


def _fitted(spans: Spans, out: Tensor) -> Spans:
    sizes = zip(spans.shape[1:], out.shape, strict=False)
    if spans.ndim == out.ndim + 1 and all(own in (1, size) for own, size in sizes):
        return spans
    if len(spans) == 1:
        return nothing(out.ndim, 1)  # a place belongs to an element
    total: Spans = spans.reshape(len(spans), -1).max(1)
    return total.reshape(-1, *(1,) * out.ndim)
