"""Models whose layers are ``torch.nn.Module``s: everything that hooks can do, for both frameworks."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cached_property
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ConvscopeError, ModelError, UnknownLayer
from convscope.layers import Layer, Layers
from convscope.models.base import Input, Model
from convscope.models.capture import Stop, first_tensor, observing, replace_first, undisturbed

_TRIED_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 227, 48, 160, 192, 331, 384, 512)


class HookedModel(Model):
    """A model made of ``nn.Module``s; ``TorchModel`` and ``KerasModel`` say how to call it."""

    def __init__(self, module: nn.Module, name: str, input: Input) -> None:
        super().__init__(name, input)
        self.module = module
        self._fragile: set[str] = set()  # results that later code overwrites: they need a copy

    @abc.abstractmethod
    def _call(self, native: Tensor) -> Any:
        """Run the network on a batch in its own layout."""

    @abc.abstractmethod
    def _native(self, values: Tensor) -> Tensor:
        """A standard batch in the network's own layout, type and device."""

    @abc.abstractmethod
    def _standard(self, result: Tensor) -> Tensor:
        """A layer's result in the standard layout, float32."""

    @abc.abstractmethod
    def _walk(self) -> Mapping[str, nn.Module]:
        """Every module by path, parents before children; the root has the path ``""``."""

    def _build(self, values: Tensor) -> None:  # noqa: B027 (most models have all their layers)
        """Bring layers into being that a model makes at its first call."""

    @abc.abstractmethod
    def _families(self, module: nn.Module) -> tuple[str, ...]:
        """The wider kinds a module belongs to."""

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        """Every module by path, parents before children."""
        return self._walk()

    @cached_property
    def parents(self) -> frozenset[str]:
        """Paths of the modules that are made of others."""
        return frozenset(path.rpartition(".")[0] for path in self.modules)

    def _trace(self) -> Layers:
        height, width = self.input.size or self._find_size()
        self._build(sample(self.input.channels, height, width))
        tracer = _Tracer(self)
        with self._alone(grad=False):
            self._run(sample(self.input.channels, height, width), tracer.tracing())
        return Layers(tracer.layers(), self.name)

    def _find_size(self) -> tuple[int, int]:
        """A size that passes through a network which does not say what it takes."""
        for side in _TRIED_SIZES:
            with suppress(ModelError), self._alone(grad=False):
                self._run(sample(self.input.channels, side, side))
                self.told(note=f"input size unknown, {side}×{side} assumed for the layer table")
                return side, side
        with self._alone(grad=False):  # for its error
            self._run(sample(self.input.channels, _TRIED_SIZES[0], _TRIED_SIZES[0]))
        raise ModelError(f"{self.name} ran at no size tried. Tell it: --input C,H,W")

    @contextmanager
    def _alone(self, grad: bool) -> Iterator[None]:
        with undisturbed(self.module, self.modules.values()), torch.set_grad_enabled(grad):
            yield

    def _run(self, values: Tensor, within: AbstractContextManager[None] | None = None) -> Any:
        """The forward pass ``within`` a context; what the network raises becomes one line."""
        native = self._native(values)
        try:
            with within or ExitStack():
                return self._call(native)
        except (ConvscopeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            shape = "×".join(map(str, values.shape[1:]))
            line = " ".join(str(error).split())
            raise ModelError(
                f"{self.name} failed on an input of {shape}: {type(error).__name__}: {line[:200]}. "
                "If the size is wrong: --input C,H,W"
            ) from error

    def _record(self, values: Tensor, paths: Sequence[str], grad: bool) -> dict[str, Tensor]:
        recorder = _Recorder(paths, self._fragile, grad)
        entered = _requiring_grad(values) if grad else values
        with self._alone(grad), suppress(Stop):
            self._run(entered, observing(self.modules, self.parents, recorder.keep, only=paths))
        overwritten = recorder.overwritten()
        if overwritten:
            self._fragile |= overwritten
            return self._record(values, paths, grad)
        recorder.check(self.name)
        return {path: self._standard(recorder.results[path]) for path in paths}

    def _forward(self, values: Tensor, grad: bool) -> Tensor:
        with self._alone(grad):
            output = first_tensor(self._run(values))
        if output is None:
            raise ModelError(f"{self.name} returns no tensor of floats")
        return output.float()


def sample(channels: int, height: int, width: int) -> Tensor:
    """One batch of fixed noise; nothing global is drawn from."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, height, width, generator=generator)


def _requiring_grad(values: Tensor) -> Tensor:
    return values if values.requires_grad else values.detach().requires_grad_()


class _Recorder:
    """Keeps the results asked for, and ends the pass when it has them all."""

    def __init__(self, paths: Sequence[str], fragile: set[str], grad: bool) -> None:
        self.results: dict[str, Tensor] = {}
        self._missing = set(paths)
        self._fragile = fragile
        self._grad = grad
        self._versions: dict[str, int] = {}

    def keep(self, address: str, result: Any) -> Any:
        # Without this guard a copy made here would itself be reported as a function's result.
        with torch._C.DisableTorchFunction():
            tensor = first_tensor(result)
            if tensor is None:
                return None
            replacement = None
            if self._grad:
                # The original stays in the graph and is recorded; what follows gets the copy.
                replacement = replace_first(result, tensor, tensor.clone())
            elif address in self._fragile:
                tensor = tensor.clone()
            self.results[address] = tensor
            self._versions[address] = tensor._version
        self._missing.discard(address)
        if not self._missing:
            raise Stop
        return replacement

    def overwritten(self) -> set[str]:
        """Results that something after them wrote into."""
        return {
            address
            for address, tensor in self.results.items()
            if tensor._version != self._versions[address]
        }

    def check(self, model: str) -> None:
        if self._missing:
            path = sorted(self._missing)[0]
            raise UnknownLayer(
                f"Layer {path!r} of {model} was not called, or gave no floats, for this input"
            )


class _Tracer:
    """Lists what a forward pass computes, in the order in which it is begun."""

    def __init__(self, model: HookedModel) -> None:
        self._model = model
        self._clock = count()
        self._begun: dict[str, int] = {}
        self._found: dict[str, tuple[int, Any]] = {}

    @contextmanager
    def tracing(self) -> Iterator[None]:
        calls: Counter[str] = Counter()

        def begin(path: str) -> Any:
            def note(_module: nn.Module, _inputs: Any) -> None:
                calls[path] += 1
                address = path if calls[path] == 1 else f"{path}#{calls[path]}"
                self._begun[address] = next(self._clock)

            return note

        with ExitStack() as hooks:
            for path, module in self._model.modules.items():
                hooks.callback(module.register_forward_pre_hook(begin(path)).remove)
            with observing(self._model.modules, self._model.parents, self._note):
                yield

    def _note(self, address: str, result: Any) -> None:
        with torch._C.DisableTorchFunction():
            tensor = first_tensor(result)
            shape = None if tensor is None else tuple(self._model._standard(tensor).shape[1:])
        order = self._begun.get(address)
        self._found[address] = (next(self._clock) if order is None else order, shape)

    def layers(self) -> list[Layer]:
        by_order = sorted(self._found.items(), key=lambda item: item[1][0])
        return [self._layer(address, shape) for address, (_, shape) in by_order]

    def _layer(self, address: str, shape: tuple[int, ...] | None) -> Layer:
        plain = address.partition("#")[0]
        owner, _, function = plain.rpartition("/")
        if "/" in plain and plain not in self._model.modules:
            depth = self._depth(owner) + 1 if owner else 0
            return Layer(address, function, shape, depth=depth, function=True)
        module = self._model.modules[plain]
        return Layer(
            path=address,
            kind=type(module).__name__,
            shape=shape,
            parameters=sum(p.numel() for p in module.parameters()),
            families=self._model._families(module),
            depth=self._depth(plain),
            container=plain in self._model.parents,
        )

    def _depth(self, path: str) -> int:
        parts = path.split(".")
        return sum(".".join(parts[:k]) in self._found for k in range(1, len(parts)))

