"""Following one forward pass, operation by operation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from convscope.models.receptive import mixing, moves, windows
from convscope.models.receptive.calls import Call, ChosenByValues, Reach, rule_of, tensors
from convscope.models.receptive.field import ReceptiveField, summarised
from convscope.models.receptive.spans import Spans, compact, everything, full, nothing, pixels

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
    with tracing:
        yield tracing.field_of


class _Tracing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the reach of every tensor that depends on the image, as long as the tensor lives."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = image.shape[-2:]
        self._image = (int(height), int(width))
        self._reaches: MutableMapping[Tensor, Reach] = WeakTensorKeyDictionary()
        self._escaped = False  # values became Python numbers: from there on anything may depend
        lead = (1,) * (image.ndim - 2)
        rows = pixels(height).reshape(6, *lead, -1, 1)
        columns = pixels(width).reshape(6, *lead, 1, -1)
        self._reaches[image] = Reach(rows, columns)

    def field_of(self, tensor: Tensor) -> ReceptiveField:
        """The receptive field of a tensor in the standard layout, ``(…, H, W)``."""
        with torch._C.DisableTorchFunction():
            nowhere = Reach(nothing(tensor.ndim), nothing(tensor.ndim))
            reach = self._reaches.get(tensor, nowhere)
            return summarised(reach, tuple(tensor.shape), self._image)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.inplace_view in func.tags:  # it takes another shape: keep the one it had
            before = args[0].detach()
            self._copy_reach(args[0], before)
            result, args = func(*args, **kwargs), (before, *args[1:])
        else:
            result = func(*args, **kwargs)
        sources = {}
        for tensor in tensors([*args, *kwargs.values()]):
            reach = self._reaches.get(tensor)
            if reach is not None:
                sources[id(tensor)] = (tensor, reach)
        if sources:
            with torch._C.DisableTorchFunction():
                self._follow(Call(func, args, kwargs, result, sources, self._image))
        return result

    def _copy_reach(self, tensor: Tensor, to: Tensor) -> None:
        reach = self._reaches.get(tensor)
        if reach is not None:
            self._reaches[to] = reach

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
        memory = written.untyped_storage()._cdata
        base = written if written._base is None else written._base
        others = [
            tensor
            for tensor in self._reaches
            if tensor is not written and tensor.untyped_storage()._cdata == memory
        ]
        if base is not written and all(base is not other for other in others):
            others.append(base)
        if others:
            self._write_through(written, base, others)

    def _write_through(self, written: Tensor, base: Tensor, others: list[Tensor]) -> None:
        """Write the reach of ``base`` out in full, overwrite a part of it, and read it anew."""
        reach = self._reaches[written]
        before = self._reaches.get(base)
        axes = []
        for axis in (0, 1):
            spans = nothing(base.ndim) if before is None else before.along(axis)
            canvas = _laid_out(spans, base)
            for kind, layer in enumerate(canvas):
                part = torch.from_numpy(full(reach.along(axis), tuple(written.shape))[kind].copy())
                _window(layer, written, base).copy_(part)
            axes.append(canvas)
        moved = reach.data_dependent or bool(before and before.data_dependent)
        unknown = reach.unknown | (before.unknown if before else frozenset())
        for other in others:
            rows, columns = (
                np.stack([_window(layer, other, base).numpy() for layer in canvas])
                for canvas in axes
            )
            dims = range(other.ndim)
            self._reaches[other] = Reach(
                compact(rows, dims), compact(columns, dims), moved, unknown
            )


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


def _laid_out(spans: Spans, base: Tensor) -> list[Tensor]:
    """Spans of ``base`` in memory as its values are."""
    written = torch.from_numpy(full(spans, tuple(base.shape)).copy())
    return [
        torch.empty_strided(base.shape, base.stride(), dtype=torch.int32).copy_(layer)
        for layer in written
    ]


def _window(layer: Tensor, view: Tensor, base: Tensor) -> Tensor:
    offset = view.storage_offset() - base.storage_offset()
    return layer.as_strided(view.shape, view.stride(), offset)
