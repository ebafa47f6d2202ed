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

from convscope._models.receptive_field import arithmetic_rules, rearranging_rules, window_rules
from convscope._models.receptive_field.field import ReceptiveField, receptive_field_of
from convscope._models.receptive_field.rules import (
    Call,
    Dependence,
    ValueDependent,
    is_composite,
    rule_of,
    tensors,
)
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
RULE_MODULES = (arithmetic_rules, rearranging_rules, window_rules)  # imported so that they register
_TO_PYTHON = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"}


@contextmanager
def tracing_receptive_fields(image: Tensor) -> Iterator[Callable[[Tensor], ReceptiveField]]:
    """Follow what depends on ``image``, ``(N, C, H, W)``, through all that runs in the block.

    Yields a function that returns the receptive field of any tensor computed in the block, inside
    it or after it. Nothing is computed twice and nothing is changed: each operation runs as it
    would, and beside it its rule. A tensor that does not depend on the image has an empty field.
    """
    tracing = _Tracing(image)
    # In inference mode a view does not know its base, so writing into a part would go unseen.
    grad = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grad), tracing:
        yield tracing.field_of


class _Tracing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the dependence of every tensor on the image, as long as the tensor lives."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = image.shape[-2:]
        self._image = (int(height), int(width))
        self._dependences: MutableMapping[Tensor, Dependence] = WeakTensorKeyDictionary()
        self._fields: dict[tuple[Dependence, Shape], ReceptiveField] = {}
        self._escaped = False  # values became Python numbers: from there on anything may depend
        lead = (1,) * (image.ndim - 2)
        rows = pixels(height).reshape(6, *lead, -1, 1)
        columns = pixels(width).reshape(6, *lead, 1, -1)
        self._dependences[image] = Dependence(rows, columns)

    def field_of(self, tensor: Tensor) -> ReceptiveField:
        """The receptive field of a tensor ``(…, H, W)``, or ``(N, H, W, C)`` where that shows."""
        with torch._C.DisableTorchFunction():
            nowhere = Dependence(nothing(tensor.ndim), nothing(tensor.ndim))
            key = self._dependences.get(tensor, nowhere), tuple(tensor.shape)
            if key not in self._fields:  # a convolution, its norm and its ReLU share one dependence
                self._fields[key] = receptive_field_of(*key, self._image)
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
            self._follow(Call(func, args, kwargs, result, sources, self._image))
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
        rule, value_dependent = rule_of(call.func)
        if rule is arithmetic_rules.pointwise and len(inputs) == 1 and not self._escaped:
            [(source, dependence)] = call.sources.values()
            if all(out.shape == source.shape for out in call.outputs):
                return [dependence] * len(call.outputs)
        unknown = frozenset().union(*(each.unknown for each in inputs))
        by_data = self._escaped or value_dependent or any(each.data_dependent for each in inputs)
        rows, columns = self._everything(call, 0), self._everything(call, 1)
        try:
            if rule is None:
                raise NotImplementedError
            rows, columns = (_per_output(rule(call, axis), call) for axis in (0, 1))
        except ValueDependent:
            by_data = True
        except Exception:  # a rule that fails must neither stop the network nor invent a field
            _log.debug("No rule holds for %s", call.func, exc_info=True)
            unknown |= {call.func._schema.name}
        return [_dependence(*both, by_data, unknown) for both in zip(rows, columns, strict=True)]

    def _everything(self, call: Call, axis: int) -> list[Spans]:
        return [everything(self._image[axis], out.ndim) for out in call.outputs]

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
                rows, columns = (everything(size, other.ndim) for size in self._image)
                self._dependences[other] = Dependence(rows, columns, unknown=unknown)

    def _write_through(self, written: Tensor, others: list[Tensor]) -> None:
        """Lay out the spans in memory as the values are, overwrite a part, and read all anew."""
        tracked = [tensor for tensor in others if tensor in self._dependences]
        dependences = [self._dependences[tensor] for tensor in (*tracked, written)]
        layouts = []
        for axis in (0, 1):
            size = written.untyped_storage().nbytes() // written.element_size()
            layout = torch.zeros(6, size, dtype=torch.int32)
            for tensor, dependence in zip((*tracked, written), dependences, strict=True):
                spans = full(dependence.along(axis), tuple(tensor.shape))
                _window(layout, tensor).copy_(torch.from_numpy(spans.copy()))
            layouts.append(layout)
        data_dependent = any(each.data_dependent for each in dependences)
        unknown = frozenset().union(*(each.unknown for each in dependences))
        for other in others:
            rows, columns = (
                compact(_window(layout, other).numpy(), range(other.ndim)) for layout in layouts
            )
            self._dependences[other] = _dependence(rows, columns, data_dependent, unknown)


def _window(layout: Tensor, view: Tensor) -> Tensor:
    """The part of a layout ``(6, memory)`` where a tensor has its elements."""
    strides = (layout.shape[1], *view.stride())
    return layout.as_strided((6, *view.shape), strides, view.storage_offset())


def _dependence(
    rows: Spans, columns: Spans, data_dependent: bool, unknown: frozenset[str]
) -> Dependence:
    """What depends on nothing is neither data-dependent nor unknown."""
    if rows.any() or columns.any():
        return Dependence(rows, columns, data_dependent, unknown)
    return Dependence(rows, columns)


def _per_output(spans: Spans | list[Spans], call: Call) -> list[Spans]:
    """Spans that fit each output; statistics returned beside it depend on all of it."""
    each = spans if isinstance(spans, list) else [spans] * len(call.outputs)
    return [_fitted(part, out) for part, out in zip(each, call.outputs, strict=True)]


def _fitted(spans: Spans, out: Tensor) -> Spans:
    sizes = zip(spans.shape[1:], out.shape, strict=False)
    if spans.ndim == out.ndim + 1 and all(own in (1, size) for own, size in sizes):
        return spans
    total: Spans = spans.reshape(6, -1).max(1)
    return total.reshape(6, *(1,) * out.ndim)
