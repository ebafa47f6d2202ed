"""The backend of Keras models on TensorFlow or JAX: torch reaches their layers through a bridge.

Their layers are no ``nn.Module``s, so there are no hooks: for the time of a pass each layer's
``call`` is wrapped. Variables, losses and random states stay as they were: a pass runs in Keras's
``StatelessScope``. Results of functions have addresses where the model is functional: there Keras
knows of them.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import ModelError
from convscope._layers import Layer
from convscope._models.backend import (
    DEFAULT_BUDGET,
    Consume,
    ModelInfo,
    copied_module,
    not_called,
    one_line_errors,
    requiring_grad,
    sample,
    to_volumes,
)
from convscope._models.bridge import Cut, DifferentiablePass, Pass, bridge_for
from convscope._models.hooks import (
    ModuleTree,
    StopPass,
    base_path,
    in_this_thread,
    lock_of,
    numbered,
)
from convscope._models.inputs import Input
from convscope._models.keras_layers import KerasLayers, wrapping_calls
from convscope._models.layer_table import LayerTable
from convscope._models.recording import Streamer, apply_edit
from convscope._models.self_check import OUTPUT, Observed, differences
from convscope._models.structure import Report, leaves, report_values


@final
class BridgeBackend:
    """Runs a ``keras.Model``, any kind of it, on a backend of Keras that is not torch."""

    runs_in_torch = False

    def __init__(self, module: Any) -> None:
        self.bridge = bridge_for(module)
        self._keras = KerasLayers(module, self.bridge)

    @property
    def module(self) -> Any:
        return self._keras.module

    @contextmanager
    def eval_frozen(self, info: ModelInfo, grad: bool) -> Iterator[None]:
        scope = importlib.import_module("keras").StatelessScope
        self._keras.tree(info)  # what is not built yet is built now, outside the scope
        with (
            lock_of(self.module),
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
            scope(collect_losses=True),
        ):
            yield

    def trace(self, info: ModelInfo, size: tuple[int, int]) -> list[Layer]:
        tree = self._keras.tree(info)
        table = LayerTable(tree, self._keras.families, self._keras.parameters)

        def report(address: str, array: Any) -> None:
            if array is None or self.bridge.is_symbol(array):
                table.add(address, None)
            else:
                table.add(address, tuple(self._standard(info, array).shape[1:]))

        values = sample(info.input.channels, *size)
        with (
            self.eval_frozen(info, grad=False),
            one_line_errors(info, values, tree.modules.values()),
            self._watching(tree, report, begin=table.begin),
        ):
            self._call(info, values)
        return table.layers()

    def run(self, info: ModelInfo, values: Tensor, grad: bool) -> Tensor | None:
        if grad:
            self._check_gradient(info)
        tree, edit = self._keras.tree(info), self._editor(info)

        def forward(native: Any, cut: Cut | None = None) -> list[Any]:
            editing = self._watching(tree, edit, only=info.edits) if info.edits else nullcontext()
            with editing:
                output = self._first(self._keras.call(native))
            return [] if output is None else [self.bridge.floats(output)]

        results = self._results(info, values, forward, grad, cuts=0)
        return results[0] if results else None

    def record(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], grad: bool, raw: bool = False
    ) -> dict[str, Tensor]:
        if grad:
            self._check_gradient(info)
        order: list[str] = []
        forward = self._recording(info, paths, order)
        recorded = self._results(info, values, forward, grad, cuts=len(paths) - 1)
        results = dict(zip(order, recorded, strict=True))
        if raw:
            results = {path: self._native(info, each, each) for path, each in results.items()}
        return {path: results[path] for path in paths}

    def _recording(self, info: ModelInfo, paths: Sequence[str], order: list[str]) -> Pass:
        """A pass that records ``paths`` and ends with the last; it sets ``order`` to theirs."""
        tree, edit = self._keras.tree(info), self._editor(info)

        def forward(native: Any, cut: Cut | None = None) -> list[Any]:
            recorded: dict[str, Any] = {}

            def report(address: str, array: Any) -> Any:
                changed = edit(address, array)
                array = array if changed is None else changed
                if address not in paths:
                    return changed
                recorded[address] = self.bridge.floats(array)
                if len(recorded) == len(paths):
                    raise StopPass
                if cut is None:
                    return changed
                return self.bridge.cast(cut(recorded[address]), array)

            with suppress(StopPass), self._watching(tree, report, only=[*paths, *info.edits]):
                self._keras.call(native)
            if missing := [path for path in paths if path not in recorded]:
                raise not_called(info.name, missing)
            order[:] = recorded
            return list(recorded.values())

        return forward

    def stream(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], consume: Consume
    ) -> None:
        tree, edit = self._keras.tree(info), self._editor(info)
        streamer = Streamer(lambda _address, array: self._standard(info, array), paths, consume)

        def report(address: str, array: Any) -> Any:
            changed = edit(address, array)
            if address in paths:
                now = array if changed is None else changed
                streamer.report(address, self.bridge.floats(now))
            return changed

        with (
            self.eval_frozen(info, grad=False),
            one_line_errors(info, values, tree.modules.values()),
            suppress(StopPass),
            self._watching(tree, report, only=[*paths, *info.edits]),
        ):
            self._call(info, values)
        streamer.finish(info.name)

    def check(self, info: ModelInfo, values: Tensor, paths: Sequence[str]) -> dict[str, str]:
        def observed(images: Tensor) -> Observed:
            seen = Observed()
            for address, result in self.record(info, images, paths, grad=False).items():
                seen.note(address, result, result)
            output = self.run(info, images, grad=False)
            if output is not None:
                seen.note(OUTPUT, output, output if output.ndim else None)
            return seen

        return differences(values, None, observed, one_by_one=False)

    def weights(self, info: ModelInfo, path: str) -> NDArray[np.float32] | None:
        return self._keras.kernel(self._keras.tree(info).at(path))

    def randomized(self, info: ModelInfo, paths: Iterable[str], seed: int) -> BridgeBackend:
        backend = BridgeBackend(copied_module(info, self.module))
        random = np.random.default_rng(seed)
        tree = backend._keras.tree(info)
        for path in paths:
            backend._keras.permute_weights(tree.at(path), random)
        return backend

    def state(self) -> Iterable[tuple[str, NDArray[Any]]]:
        return self._keras.state()

    def untrained_evidence(self, info: ModelInfo) -> str:
        return self._keras.untrained_evidence(self._keras.tree(info).modules.values())

    def memory_budget(self) -> int:
        return DEFAULT_BUDGET  # neither framework says what is free without taking it

    def standard_input(self, values: Tensor) -> Tensor:
        return self._keras.standard_input(values)

    def input_shape(self, input: Input, channels: int) -> tuple[int | str, ...]:
        return self._keras.input_shape(input, channels)

    def _call(self, info: ModelInfo, values: Tensor) -> Any:
        return self._keras.call(self._keras.enter(to_volumes(info, values.clone())))

    def _standard(self, info: ModelInfo, array: Any) -> Tensor:
        return self._keras.to_standard(self.bridge.tensor(array), bool(info.input.depth))

    def _native(self, info: ModelInfo, standard: Tensor, like: Tensor) -> Tensor:
        return self._keras.to_native(standard, like, bool(info.input.depth))

    def _first(self, result: Any) -> Any:
        """The first array of floats in a result."""
        return next(filter(self.bridge.is_floats, leaves(result)), None)

    def _check_gradient(self, info: ModelInfo) -> None:
        if info.edits:
            raise ModelError(
                f"{info.name} has no gradient through the edit at {min(info.edits)!r} on "
                f"{self.bridge.framework}. Load it on torch: KERAS_BACKEND=torch"
            )

    def _editor(self, info: ModelInfo) -> Report:
        """Gives the result after its edit; ``None`` where there is none."""

        def edit(address: str, array: Any) -> Any:
            if address not in info.edits:
                return None
            standard = self._standard(info, array)
            changed = apply_edit(info.edits[address], address, standard)
            native = self.bridge.array(self._native(info, changed, changed))
            return self.bridge.cast(native, array)

        return edit

    def _results(
        self, info: ModelInfo, values: Tensor, forward: Pass, grad: bool, cuts: int
    ) -> list[Tensor]:
        """What ``forward`` records, as tensors in the standard layout."""
        values = requiring_grad(values) if grad else values
        modules = self._keras.tree(info).modules.values()
        with self.eval_frozen(info, grad), one_line_errors(info, values, modules):
            if grad:
                return self._linked(info, values.clone(), forward, cuts)
            native = self._keras.enter(to_volumes(info, values.clone()))
            return [self._standard(info, array) for array in forward(native)]

    def _linked(self, info: ModelInfo, values: Tensor, forward: Pass, cuts: int) -> list[Tensor]:
        """The same as nodes of a graph that begins with ``values``."""
        native = self._keras.lay_out(to_volumes(info, values))
        tape = self.bridge.tape(forward, self.bridge.array(native), cuts)
        differentiable = DifferentiablePass(self.bridge, tape, info.name)
        sources, results = [native], list[Tensor]()
        for index in range(len(tape.values)):
            node = differentiable.node(index, *sources)
            results.append(self._keras.to_standard(node, bool(info.input.depth)))
            sources.append(self._native(info, results[-1], node))
        return results

    @contextmanager
    def _watching(
        self,
        tree: ModuleTree,
        report: Report,
        only: Iterable[str] | None = None,
        begin: Callable[[str], None] = lambda address: None,
    ) -> Iterator[None]:
        """Call ``report(address, result)`` for results inside the block, or for ``only`` some."""
        chosen = None if only is None else set(only)
        calls: Counter[str] = Counter()

        @in_this_thread
        def report_chosen(address: str, result: Any) -> Any:
            return report_values(address, result, report, chosen, self.bridge.is_floats)

        here = threading.get_ident()

        def around(path: str, call: Any) -> Any:
            @wraps(call)
            def reported(*inputs: Any, **options: Any) -> Any:
                if threading.get_ident() != here:
                    return call(*inputs, **options)
                address = numbered(path, calls)
                begin(address)
                result = call(*inputs, **options)
                replacement = report_chosen(address, result)
                return result if replacement is None else replacement

            return reported

        @in_this_thread
        def report_fused(path: str, result: Any) -> Any:
            return report_chosen(numbered(path, calls), result)

        paths = None if chosen is None else {base_path(address) for address in chosen}
        callees = [(p, c) for p, c in _callees(tree) if paths is None or p in paths]
        fused = paths is None or any(path.endswith("/pre") for path in paths)
        fusing = self._keras.fused(tree, report_fused) if fused else nullcontext()
        with wrapping_calls(callees, around), fusing:
            yield


def _callees(tree: ModuleTree) -> Iterator[tuple[str, Any]]:
    """Layers, and the functions of functional models, by path."""
    for path, layer in tree.modules.items():
        if path:
            yield path, layer
        for operation in getattr(layer, "operations", ()):
            if not hasattr(operation, "_flatten_layers"):
                yield f"{path}/{_function_name(operation)}", operation


def _function_name(operation: Any) -> str:
    """``log_softmax`` for a ``LogSoftmax``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(operation).__name__).lower()
