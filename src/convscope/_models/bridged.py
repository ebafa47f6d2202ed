"""Keras models on the TensorFlow or the JAX backend: torch sees their layers through a bridge.

Their layers are no ``nn.Module``s, so there are no hooks: for the time of a pass each layer's
``call`` is wrapped. Variables, losses and random states stay as they were: a pass runs in Keras's
``StatelessScope``.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import wraps
from math import prod
from typing import Any

import torch
from torch import Tensor

from convscope._errors import ModelError, UnknownLayer
from convscope._layers import Layers
from convscope._models.base import Input, Model
from convscope._models.bridge import Bridge, Cut, Link, Walk
from convscope._models.capture import Keep, Stop, lock_of, numbered, parts, replace_first
from convscope._models.editing import apply
from convscope._models.hooked import requiring_grad, sample
from convscope._models.keras import KerasModel
from convscope._models.positions import Positions
from convscope._models.receptive import ReceptiveField
from convscope._models.recording import Tracer
from convscope._models.streaming import Consume, Streamer

BACKENDS = ("tensorflow", "jax")


class BridgedModel(KerasModel):
    """A ``keras.Model``, any kind of it, on a backend that is not torch.

    Results of functions have addresses where the model is functional: there Keras knows of them.
    """

    in_torch = False

    def __init__(self, module: Any, name: str, input: Input) -> None:
        super().__init__(module, name, input)
        self._bridge = _bridge(module)

    def _native(self, values: Tensor) -> Any:
        return self._bridge.array(self._laid_out(values))

    def _standard(self, result: Any) -> Tensor:
        return super()._standard(self._bridge.tensor(result))

    def _held(self, layer: Any, name: str) -> Tensor | None:
        variable = getattr(layer, name, None)
        value = getattr(variable, "value", variable)
        return None if value is None else self._bridge.tensor(value)

    @contextmanager
    def _alone(self, grad: bool) -> Iterator[None]:
        scope = importlib.import_module("keras").StatelessScope
        self.modules  # noqa: B018 – what is not built yet is built now, outside the scope
        with (
            lock_of(self.module),
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
            scope(collect_losses=True),
        ):
            yield

    def _trace(self) -> Layers:
        height, width = self.input.size or self._find_size()
        tracer = _Tracer(self.modules, self.parents, self, self._families, Positions())

        def keep(address: str, result: Any) -> None:
            found = self._first(result)
            symbol = found is None or self._bridge.is_symbol(found)
            tracer.keep(address, None if symbol else self._standard(found))

        with self._alone(grad=False):
            watching = self._watching(keep, begin=tracer.begin)
            self._run(sample(self.input.channels, height, width), watching)
        return Layers(tracer.layers(), self.name)

    def _fields(self, size: tuple[int, int] | None) -> Mapping[str, ReceptiveField]:
        return Model._fields(self, size)  # no torch, nothing to trace

    def _record(
        self, values: Tensor, paths: Sequence[str], grad: bool, raw: bool = False
    ) -> dict[str, Tensor]:
        if grad:
            self._check_gradient()
        nothing = [path for path in paths if self.layers[path].shape is None]
        if nothing:
            raise self._not_called(nothing[0])
        walk = _Recording(self, paths)
        found = self._passed(values, walk, grad, cuts=len(paths) - 1)
        results = dict(zip(walk.order, found, strict=True))
        if raw:
            results = {path: self._as_it_was(found, found) for path, found in results.items()}
        return {path: results[path] for path in paths}

    def _stream(self, values: Tensor, paths: Sequence[str], consume: Consume) -> None:
        streamer = Streamer(lambda _address, array: self._standard(array), paths, consume)

        def keep(address: str, result: Any) -> Any:
            changed = self._edit(address, result)
            array = self._first(result if changed is None else changed)
            if array is not None and address in paths:
                streamer.give(address, self._bridge.floats(array))
            return changed

        with (
            self._alone(grad=False),
            self._in_one_line(values),
            suppress(Stop),
            self._watching(keep, only=[*paths, *self._edits]),
        ):
            self._call(self._native(self._unstacked(values.clone())))
        streamer.finish(self.name)

    def _forward(self, values: Tensor, grad: bool) -> Tensor:
        if grad:
            self._check_gradient()

        def walk(native: Any, cut: Cut | None = None) -> list[Any]:
            with self._watching(self._edit, only=self._edits) if self._edits else nullcontext():
                output = self._first(self._call(native))
            if output is None:
                raise ModelError(f"{self.name} returns no tensor of floats")
            return [self._bridge.floats(output)]

        return self._passed(values, walk, grad, cuts=0)[0]

    def _check_gradient(self) -> None:
        if self._edits:
            raise ModelError(
                f"{self.name} has no gradient through the edit at {min(self._edits)!r} on "
                f"{self._bridge.framework}. Load it on torch: KERAS_BACKEND=torch"
            )

    def _edit(self, address: str, result: Any) -> Any:
        """The result after its edit; ``None`` where there is none."""
        array = self._first(result)
        if address not in self._edits or array is None:
            return None
        changed = apply(self._edits[address], address, self._standard(array))
        native = self._bridge.array(self._as_it_was(changed, changed))
        return replace_first(result, array, self._bridge.cast(native, array))

    def _passed(self, values: Tensor, walk: Walk, grad: bool, cuts: int) -> list[Tensor]:
        """What ``walk`` records, as torch has it."""
        values = requiring_grad(values) if grad else values
        with self._alone(grad), self._in_one_line(values):
            if grad:
                return self._linked(values.clone(), walk, cuts)
            return [
                self._standard(array)
                for array in walk(self._native(self._unstacked(values.clone())))
            ]

    def _linked(self, values: Tensor, walk: Walk, cuts: int) -> list[Tensor]:
        """The same as nodes of a graph that begins with ``values``."""
        native = self._laid_out(self._unstacked(values))
        tape = self._bridge.tape(walk, self._bridge.array(native), cuts)
        link = Link(self._bridge, tape, self.name)
        sources, found = [native], []
        for index in range(len(tape.values)):
            node = link.node(index, *sources)
            found.append(super()._standard(node))
            sources.append(self._as_it_was(found[-1], node))
        return found

    def _first(self, result: Any) -> Any:
        """The first array of floats in a result."""
        return next(filter(self._bridge.is_floats, parts(result)), None)

    def _not_called(self, path: str) -> UnknownLayer:
        return UnknownLayer(
            f"Layer {path!r} of {self.name} was not called, or gave no floats, for this input"
        )

    @contextmanager
    def _watching(
        self,
        keep: Keep,
        only: Iterable[str] | None = None,
        begin: Callable[[str], None] = lambda address: None,
    ) -> Iterator[None]:
        """Call ``keep(address, result)`` for results inside the block, or for ``only`` some."""
        wanted = None if only is None else set(only)
        calls: Counter[str] = Counter()

        def report(address: str, result: Any) -> Any:
            return keep(address, result) if wanted is None or address in wanted else None

        def around(path: str, call: Any) -> Any:
            @wraps(call)
            def reported(*inputs: Any, **options: Any) -> Any:
                address = numbered(path, calls)
                begin(address)
                result = call(*inputs, **options)
                replacement = report(address, result)
                return result if replacement is None else replacement

            return reported

        plain = None if wanted is None else {address.partition("#")[0] for address in wanted}
        callees = [(p, c) for p, c in self._callees() if plain is None or p in plain]
        fused = plain is None or any(path.endswith("/pre") for path in plain)
        with (
            _wrapped(callees, around),
            self._fused(lambda path, result: report(numbered(path, calls), result))
            if fused
            else nullcontext(),
        ):
            yield

    def _callees(self) -> Iterator[tuple[str, Any]]:
        """Layers, and the functions of functional models, by path."""
        for path, layer in self.modules.items():
            if path:
                yield path, layer
            for operation in getattr(layer, "operations", ()):
                if not hasattr(operation, "_flatten_layers"):
                    yield f"{path}/{_function_name(operation)}", operation


class _Recording:
    """The walk that records some addresses and ends with the last of them."""

    def __init__(self, model: BridgedModel, paths: Sequence[str]) -> None:
        self.order: list[str] = []
        self._model = model
        self._paths = paths

    def __call__(self, native: Any, cut: Cut | None = None) -> list[Any]:
        model, bridge = self._model, self._model._bridge
        found: dict[str, Any] = {}

        def keep(address: str, result: Any) -> Any:
            changed = model._edit(address, result)
            result = result if changed is None else changed
            array = model._first(result)
            if array is None or address not in self._paths:
                return changed
            found[address] = bridge.floats(array)
            if len(found) == len(self._paths):
                raise Stop
            if cut is None:
                return changed
            return replace_first(result, array, bridge.cast(cut(found[address]), array))

        with suppress(Stop), model._watching(keep, only=[*self._paths, *model._edits]):
            model._call(native)
        for path in self._paths:
            if path not in found:
                raise model._not_called(path)
        self.order = list(found)
        return list(found.values())


class _Tracer(Tracer):
    """A tracer of results that are in the standard layout already."""

    def _shape(self, address: str, tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor.shape[1:])

    def _parameters(self, module: Any) -> int:
        return sum(prod(variable.shape) for variable in module.variables)


def _bridge(module: Any) -> Bridge:
    keras: Any = importlib.import_module("keras")
    if keras.backend.backend() == "jax":
        from convscope._models.jax import JaxBridge

        return JaxBridge(module.variables)
    from convscope._models.tensorflow import TensorFlowBridge

    return TensorFlowBridge()


def _function_name(operation: Any) -> str:
    """``log_softmax`` for a ``LogSoftmax``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(operation).__name__).lower()


@contextmanager
def _wrapped(
    callees: Iterable[tuple[str, Any]], around: Callable[[str, Any], Any]
) -> Iterator[None]:
    """For the length of the block ``call`` is ``around(path, call)``."""
    with ExitStack() as restore:
        for path, callee in callees:
            held = vars(callee)  # past Keras's tracking of attributes
            for name in {"call", "quantized_call"} & set(dir(callee)):
                if name in held:
                    restore.callback(held.__setitem__, name, held[name])
                else:
                    restore.callback(held.pop, name)
                held[name] = around(path, getattr(callee, name))
        yield
