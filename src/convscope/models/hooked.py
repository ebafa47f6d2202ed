"""Models whose layers are ``torch.nn.Module``s: what hooks can do, for both frameworks."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ConvscopeError, ModelError
from convscope.layers import Layers
from convscope.models.base import Input, Model
from convscope.models.capture import Keep, Stop, first_tensor, observing, undisturbed
from convscope.models.recording import Recorder, Tracer

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
    def _as_it_was(self, standard: Tensor, result: Tensor) -> Tensor:
        """The inverse: ``standard`` in the layout and type of ``result``."""

    @abc.abstractmethod
    def _walk(self) -> Mapping[str, nn.Module]:
        """Every module by path, parents before children; the root has the path ``""``."""

    @abc.abstractmethod
    def _families(self, module: nn.Module) -> tuple[str, ...]:
        """The wider kinds a module belongs to."""

    def _fused(self, report: Keep) -> AbstractContextManager[None]:
        """A context that reports ``PATH/pre`` of the layers that hold an activation."""
        return nullcontext()

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
        tracer = Tracer(self.modules, self.parents, self._standard, self._families)
        with self._alone(grad=False), tracer.timing():
            self._run(
                sample(self.input.channels, height, width),
                observing(self.modules, self.parents, tracer.keep, fused=self._fused),
            )
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
        with undisturbed(self.module, self.modules.values(), grad=grad):
            yield

    def at_rest(self) -> AbstractContextManager[None]:
        return self._alone(grad=True)

    def _run(self, values: Tensor, within: AbstractContextManager[None] | None = None) -> Any:
        """The forward pass ``within`` a context; what the network raises becomes one line.

        The network gets a copy: some write into their input.
        """
        native = self._native(values.clone())
        try:
            with within or ExitStack():
                return self._call(native)
        except (ConvscopeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise self._failed(values, error) from error

    def _failed(self, values: Tensor, error: Exception) -> ModelError:
        line = " ".join(str(error).split())[:200].rstrip(".")
        shape = "×".join(map(str, values.shape[1:]))
        expected = (self.input.channels, *(self.input.size or ()))
        advice = "If the size is wrong: --input C,H,W"
        if self.input.size and expected != tuple(values.shape[1:]):
            advice = f"It takes {'×'.join(map(str, expected))}"
        return ModelError(
            f"{self.name} failed on an input of {shape}: {type(error).__name__}: {line}. {advice}"
        )

    def _record(self, values: Tensor, paths: Sequence[str], grad: bool) -> dict[str, Tensor]:
        recorder = Recorder(self, paths, frozenset(self._fragile), grad)
        entered = _requiring_grad(values) if grad else values
        watching = observing(
            self.modules, self.parents, recorder.keep, only=paths, fused=self._fused
        )
        with self._alone(grad), suppress(Stop):
            self._run(entered, watching)
        overwritten = recorder.overwritten(self.name)
        if overwritten:  # known only afterwards; the next pass copies them in time
            self._fragile |= overwritten
            return self._record(values, paths, grad)
        results = recorder.complete(self.name)
        return {path: results[path] for path in paths}

    def _forward(self, values: Tensor, grad: bool) -> Tensor:
        with self._alone(grad):
            output = first_tensor(self._run(values))
        if output is None:
            raise ModelError(f"{self.name} returns no tensor of floats")
        return self._standard(output)


def sample(channels: int, height: int, width: int) -> Tensor:
    """One batch of fixed noise; nothing global is drawn from."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, height, width, generator=generator)


def _requiring_grad(values: Tensor) -> Tensor:
    return values if values.requires_grad else values.detach().requires_grad_()
