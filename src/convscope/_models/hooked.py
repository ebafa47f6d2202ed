"""Models whose layers are ``torch.nn.Module``s: what hooks can do, for both frameworks."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from convscope._errors import ConvscopeError, ModelError, UsageError, one_line
from convscope._layers import Layers
from convscope._models.base import Input, Model
from convscope._models.capture import Keep, Stop, eval_frozen, first_tensor, lock_of, observing
from convscope._models.editing import editing
from convscope._models.failures import failed
from convscope._models.layouts import Layout
from convscope._models.positions import Positions, grid
from convscope._models.receptive import ReceptiveField, tracing_receptive_fields
from convscope._models.recording import Arrangement, Recorder, Tracer, Unarranged
from convscope._models.streaming import Consume, Streamer

_TRIED_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 227, 48, 160, 192, 331, 384, 512)


class HookedModel(Model):
    """A model made of ``nn.Module``s; ``TorchModel`` and ``KerasModel`` say how to call it."""

    _grid = (2, 3)  # which dimensions of a map are its height and width, as a rule

    def __init__(self, module: nn.Module, name: str, input: Input) -> None:
        super().__init__(name, input)
        self.module = module
        self._fragile: set[str] = set()  # results that later code overwrites: they need a copy
        self._layouts: dict[tuple[int, int], Mapping[str, Layout]] = {}  # by the image's size

    @abc.abstractmethod
    def _call(self, native: Tensor) -> Any:
        """Run the network on a batch in its own layout."""

    @abc.abstractmethod
    def _native(self, values: Tensor) -> Tensor:
        """A standard batch in the network's own layout, type and device."""

    def _laid_out(self, values: Tensor) -> Tensor:
        """A standard batch in the network's own layout."""
        return values

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
        return Layers(self._traced(self.input.size or self._find_size()).layers(), self.name)

    def _traced(self, size: tuple[int, int]) -> Tracer:
        """Run a sample of that size: what is computed, and how it is laid out."""
        try:
            tracer = self._trace_at(size, following=True)
        except ModelError:  # it may be the following that some operation does not bear
            tracer = self._trace_at(size, following=False)
        self._layouts[size] = tracer.layouts
        return tracer

    def _trace_at(self, size: tuple[int, int], following: bool) -> Tracer:
        positions = Positions()
        tracer = Tracer(self.modules, self.parents, self, self._families, positions)
        with self._alone(grad=False), tracer.timing():
            self._run(
                sample(self.input.channels, *size),
                observing(self.modules, self.parents, tracer.keep, fused=self._fused),
                positions if following else None,
            )
        return tracer

    def _arrangement(self, values: Tensor, paths: Sequence[str], raw: bool) -> Arrangement:
        """How results for such images are laid out: seen once for every size, where it matters."""
        if raw:
            return Unarranged()
        size = (int(values.shape[2]), int(values.shape[3]))
        if size not in self._layouts:
            known = next(iter(self._layouts.values()), {})
            if all(path not in known or known[path].is_grid(*self._grid) for path in paths):
                return Arrangement(self, {})
            self._traced(size)
        return Arrangement(self, self._layouts[size])

    def _fields(self, size: tuple[int, int] | None) -> Mapping[str, ReceptiveField]:
        if self.input.depth:
            raise ModelError(
                f"{self.name} takes volumes; receptive fields are traced for pictures alone"
            )
        size = size or self.input.size or self._find_size()
        if size not in self._layouts:
            self._traced(size)
        arranged, values = (
            Arrangement(self, self._layouts[size]),
            sample(self.input.channels, *size),
        )
        fields: dict[str, ReceptiveField] = {}
        with self._alone(grad=False), tracing_receptive_fields(values) as field_of:

            def keep(address: str, result: Any) -> None:
                with torch._C.DisableTorchFunction():  # what is done here is not the network's
                    tensor = first_tensor(result)
                    if tensor is not None:
                        fields[address] = field_of(arranged.standard(address, tensor))

            self._run(values, observing(self.modules, self.parents, keep, fused=self._fused))
        return fields

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
        with eval_frozen(self.module, self.modules.values(), grad=grad):
            yield

    def at_rest(self) -> AbstractContextManager[None]:
        return self._alone(grad=True)

    def _run(
        self,
        values: Tensor,
        within: AbstractContextManager[None] | None = None,
        positions: Positions | None = None,
    ) -> Any:
        """The forward pass ``within`` a context; what the network raises becomes one line.

        The network gets a copy: some write into their input.
        """
        native = self._native(self._unstacked(values.clone()))
        if positions is not None:
            marks = grid(*values.shape[2:]).expand(values.shape)
            positions.mark(native, self._laid_out(self._unstacked(marks)))
        with self._in_one_line(values), positions or ExitStack(), within or ExitStack():
            return self._call(native)

    def _unstacked(self, values: Tensor) -> Tensor:
        """Volumes ``(N, C, D, H, W)`` from pictures of their slices, for a network of volumes."""
        depth = self.input.depth
        if not depth:
            return values
        if values.shape[2] % depth:
            raise UsageError(
                f"{self.name} takes volumes of {depth} slices, one below the other: a height of "
                f"{values.shape[2]} is no multiple of {depth}"
            )
        return values.reshape(*values.shape[:2], depth, -1, values.shape[3])

    @contextmanager
    def _in_one_line(self, values: Tensor) -> Iterator[None]:
        try:
            yield
        except (ConvscopeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise self._failed(values, error) from error

    def _failed(self, values: Tensor, error: Exception) -> ModelError:
        volumes = any(type(module).__name__ == "Conv3d" for module in self.modules.values())
        return failed(self.name, self.input, values, error, volumes)

    def _record(
        self, values: Tensor, paths: Sequence[str], grad: bool, raw: bool = False
    ) -> dict[str, Tensor]:
        arranged = self._arrangement(values, paths, raw)
        recorder = Recorder(arranged, paths, frozenset(self._fragile), grad)
        entered = requiring_grad(values) if grad else values
        with self._alone(grad), suppress(Stop):
            self._run(entered, self._reported(recorder.keep, paths, values))
        overwritten = recorder.overwritten(self.name)
        if overwritten:  # known only afterwards; the next pass copies them in time
            self._fragile |= overwritten
            return self._record(values, paths, grad, raw)
        results = recorder.complete(self.name)
        return {path: results[path] for path in paths}

    def _reported(
        self, keep: Keep, paths: Sequence[str], values: Tensor
    ) -> AbstractContextManager[None]:
        """Report the results of ``paths``, as they are after the edits."""
        if self._edits:
            arranged = self._arrangement(values, list(self._edits), raw=False)
            keep = editing(self._edits, arranged, keep, paths)
        only = [*paths, *self._edits]
        return observing(self.modules, self.parents, keep, only=only, fused=self._fused)

    def _stream(self, values: Tensor, paths: Sequence[str], consume: Consume) -> None:
        arranged = self._arrangement(values, paths, raw=False)
        streamer = Streamer(arranged.standard, paths, consume)
        with self._alone(grad=False), suppress(Stop):
            self._run(values, self._reported(streamer.keep, paths, values))
        streamer.finish(self.name)

    def room(self) -> int:
        first = next(self.module.parameters(), None)
        if first is None or first.device.type != "cuda":
            return super().room()
        return torch.cuda.mem_get_info(first.device)[0] // 4

    def _forward(self, values: Tensor, grad: bool) -> Tensor:
        watching = self._reported(_ignore, (), values) if self._edits else None
        with self._alone(grad):
            output = first_tensor(self._run(values, watching))
        if output is None:
            raise ModelError(f"{self.name} returns no tensor of floats")
        return self._standard(output)

    def shuffled(self, layers: Iterable[str], *, seed: int = 0) -> Self:
        chosen = [self.layers[path].path for path in layers]
        try:
            with lock_of(self.module):
                module = copy.deepcopy(self.module)
        except Exception as error:  # whatever a class of somebody's own does not bear
            raise ModelError(
                f"{self.name} cannot be copied ({one_line(error, 80)}), and it is not to be changed"
            ) from error
        twin = type(self)(module, self.name, self.input)
        twin.weights_file, twin._edits = self.weights_file, self._edits
        random = np.random.default_rng(seed)
        for path in chosen:
            twin._shuffle(path.partition("#")[0], random)
        return twin

    @abc.abstractmethod
    def _shuffle(self, path: str, random: np.random.Generator) -> None:
        """Shuffle the numbers of the kernels that the layer itself holds."""


def _ignore(address: str, result: Any) -> None:
    """Keep nothing."""


def sample(channels: int, height: int, width: int) -> Tensor:
    """One batch of fixed noise; nothing global is drawn from."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, height, width, generator=generator)


def requiring_grad(values: Tensor) -> Tensor:
    """A batch from which a graph can begin."""
    return values if values.requires_grad else values.detach().requires_grad_()
