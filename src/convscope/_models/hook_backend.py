"""The backend of networks whose layers are ``nn.Module``s: PyTorch, and Keras on PyTorch.

It observes passes with hooks; what differs between the two frameworks is in ``TorchModules`` and
``KerasLayers``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, Protocol, Self, final

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
    one_line_errors,
    requiring_grad,
    sample,
    to_volumes,
)
from convscope._models.hooks import (
    ModuleTree,
    StopPass,
    base_path,
    observing,
)
from convscope._models.inputs import Input, NativeLayout
from convscope._models.layer_table import LayerTable
from convscope._models.layouts import Layout, LayoutFinder
from convscope._models.recording import (
    Arrangement,
    ChannelOrder,
    OverwriteWatch,
    RawOrder,
    Recorder,
    Streamer,
)
from convscope._models.recording import editing as editing_results
from convscope._models.self_check import OUTPUT, Observed, Pass, differences
from convscope._models.structure import Report, first_tensor
from convscope._models.tracing import (
    COLUMNS,
    IMAGES,
    PLACE,
    ROWS,
    ReceptiveField,
    tracing,
)


class HookedFramework(ChannelOrder, NativeLayout, Protocol):
    """How one framework's ``nn.Module``s are called and read.

    - ``grid_dims``: which dimensions of a map are its height and width, as a rule.
    """

    module: Any
    grid_dims: tuple[int, int]

    def tree(self, info: ModelInfo) -> ModuleTree:
        """Every module by path."""

    def eval_frozen(self, info: ModelInfo, grad: bool) -> AbstractContextManager[None]:
        """Hold the network in evaluation mode, frozen and locked against other threads."""

    def call(self, native: Tensor) -> Any:
        """Run the network on a batch in its own layout."""

    def lay_out(self, values: Tensor) -> Tensor:
        """A standard batch in the network's own layout."""

    def enter(self, values: Tensor) -> Tensor:
        """A standard batch in the network's own layout, type and device."""

    def fused(self, tree: ModuleTree, report: Report) -> AbstractContextManager[None]:
        """A context that reports ``PATH/pre`` of the layers that hold an activation."""

    def plain_pass(self, paths: Collection[str]) -> Pass | None:
        """Runs an untouched copy with plain hooks at ``paths``; ``None`` where there is none."""

    def families(self, module: Any) -> tuple[str, ...]:
        """The wider kinds a module belongs to."""

    def parameters(self, module: Any) -> int:
        """The number of parameters of a module, those of its children included."""

    def kernel(self, module: Any) -> NDArray[np.float32] | None:
        """The kernel of a module in the standard layout, ``None`` where it has none."""

    def permute_weights(self, module: Any, random: np.random.Generator) -> None:
        """Randomly permute the kernels that the module itself holds."""

    def state(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Every parameter and buffer by name."""

    def untrained_evidence(self, modules: Iterable[Any]) -> str:
        """What in the weights looks as initialized; empty where nothing does."""

    def copied(self, info: ModelInfo) -> Self:
        """The same for a deep copy of the network."""


@final
class HookBackend:
    """Runs a network of ``nn.Module``s and observes it with hooks."""

    runs_in_torch = True

    def __init__(self, framework: HookedFramework) -> None:
        self._framework = framework
        self._fragile: set[str] = set()  # results that later code overwrites: they need a copy
        self._layouts: dict[tuple[int, int], Mapping[str, Layout]] = {}  # by the image's size
        self._one_by_one = False  # it takes one image at a time, or takes its batch apart

    @property
    def module(self) -> Any:
        return self._framework.module

    def tree(self, info: ModelInfo) -> ModuleTree:
        """Every module by path."""
        return self._framework.tree(info)

    def trace(self, info: ModelInfo, size: tuple[int, int]) -> list[Layer]:
        """Two images tell which dimension of each result counts them."""
        try:
            layers, finder = self._trace(info, size, count=2)
        except ModelError:  # perhaps it takes only one
            finder = None
        if finder is None or finder.taken_apart:
            layers, finder = self._trace_one(info, size, {} if finder is None else finder.found)
            self._one_by_one = True
        self._layouts[size] = finder.found
        return layers

    def _trace_one(
        self, info: ModelInfo, size: tuple[int, int], known: Mapping[str, Layout]
    ) -> tuple[list[Layer], LayoutFinder]:
        try:
            return self._trace(info, size, 1, known)
        except ModelError:  # some operation may not bear that it is followed
            return self._trace(info, size, 1, None)

    def _trace(
        self,
        info: ModelInfo,
        size: tuple[int, int],
        count: int,
        known: Mapping[str, Layout] | None = None,
    ) -> tuple[list[Layer], LayoutFinder]:
        """Run ``count`` images; one image is followed only where ``known`` is given."""
        framework, tree = self._framework, self.tree(info)
        table = LayerTable(tree, framework.families, framework.parameters)
        values = sample(info.input.channels, *size, count)
        followed = count > 1 or known is not None
        with ExitStack() as stack:
            stack.enter_context(self.eval_frozen(info, grad=False))
            tracer = stack.enter_context(tracing(values, (IMAGES, PLACE))) if followed else None
            stack.enter_context(table.timing())
            finder, written = LayoutFinder(tracer, known), OverwriteWatch()
            report = self._listing(info, table, finder, written)
            self._run(info, values, observing(tree, report, fused=self._fused(tree)))
        self._fragile |= written.found()
        return table.layers(), finder

    def _listing(
        self, info: ModelInfo, table: LayerTable, finder: LayoutFinder, written: OverwriteWatch
    ) -> Report:
        """Notes each result that images reach."""
        volumes = bool(info.input.depth)

        def report(address: str, result: Tensor | None) -> None:
            if result is None:
                table.add(address, None)
            elif finder.reached(result):
                written.watch(address, result, by_value=True)
                arranged = finder.find(address, result)
                layout = arranged.layout
                if arranged.problem:
                    shape = tuple(result.shape)
                elif layout is None:
                    shape = tuple(self._framework.to_standard(result, volumes).shape[1:])
                else:
                    shape = layout.shape
                table.add(
                    address,
                    shape,
                    apart=layout.apart if layout else 0,
                    problem=arranged.problem,
                    no_map=arranged.tangled or (len(shape) == 3 and not arranged.is_map),
                )

        return report

    def _fused(self, tree: ModuleTree) -> Any:
        return lambda report: self._framework.fused(tree, report)

    def _arrangement(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], raw: bool = False
    ) -> Arrangement:
        """How results for such images are laid out: traced once for every size, where it matters.

        ``raw`` leaves them in the network's own layout.
        """
        if raw:
            return Arrangement(RawOrder(), {})
        size, volumes = (int(values.shape[2]), int(values.shape[3])), bool(info.input.depth)
        if size not in self._layouts:
            known, dims = next(iter(self._layouts.values()), {}), self._framework.grid_dims
            if all(path not in known or known[path].is_grid(*dims) for path in paths):
                return Arrangement(self._framework, {}, volumes)
            self.trace(info, size)
        return Arrangement(self._framework, self._layouts[size], volumes)

    def receptive_fields(
        self, info: ModelInfo, size: tuple[int, int]
    ) -> Mapping[str, ReceptiveField]:
        if info.input.depth:
            raise ModelError(
                f"{info.name} takes volumes; receptive fields are traced for images alone"
            )
        if size not in self._layouts:
            self.trace(info, size)
        arrangement, tree = Arrangement(self._framework, self._layouts[size]), self.tree(info)
        values = sample(info.input.channels, *size)
        fields: dict[str, ReceptiveField] = {}
        with self.eval_frozen(info, grad=False), tracing(values, (ROWS, COLUMNS)) as tracer:

            def report(address: str, result: Tensor | None) -> None:
                if result is None:
                    return
                with suppress(ModelError):  # its shape depends on the image: it has no one field
                    standard = arrangement.to_standard(address, result)
                    line = info.input.signal and standard.ndim == 3  # as an image: one row
                    fields[address] = tracer.field_of(standard.unsqueeze(2) if line else standard)

            self._run(info, values, observing(tree, report, fused=self._fused(tree)))
        return fields

    def eval_frozen(self, info: ModelInfo, grad: bool) -> AbstractContextManager[None]:
        return self._framework.eval_frozen(info, grad)

    def _run(
        self,
        info: ModelInfo,
        values: Tensor,
        within: AbstractContextManager[None] | None = None,
    ) -> Any:
        """The forward pass ``within`` a context; what the network raises becomes one line.

        The network gets a copy: some write into their input.
        """
        native = self._framework.enter(to_volumes(info, values.clone()))
        errors = one_line_errors(info, values, self.tree(info).modules.values())
        with errors, within or ExitStack():
            return self._framework.call(native)

    def run(self, info: ModelInfo, values: Tensor, grad: bool) -> Tensor | None:
        edited = self._observing(info, _ignore, (), values) if info.edits else None
        with self.eval_frozen(info, grad):
            output = first_tensor(self._run(info, values, edited))
        return (
            None if output is None else self._framework.to_standard(output, bool(info.input.depth))
        )

    def record(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], grad: bool, raw: bool = False
    ) -> dict[str, Tensor]:
        if self._one_by_one and len(values) > 1:
            each = [self.record(info, one, paths, grad, raw) for one in torch.split(values, 1)]
            size = int(values.shape[2]), int(values.shape[3])
            layouts = self._layouts.get(size, {}) if raw else {}
            return {p: _joined([results[p] for results in each], layouts.get(p)) for p in paths}
        arrangement = self._arrangement(info, values, paths, raw)
        recorder = Recorder(arrangement, paths, frozenset(self._fragile), grad)
        entered = requiring_grad(values) if grad else values
        with self.eval_frozen(info, grad), suppress(StopPass):
            self._run(info, entered, self._observing(info, recorder.report, paths, values))
        overwritten = recorder.overwritten(info.name)
        if overwritten:  # known only afterwards; the next pass copies them in time
            self._fragile |= overwritten
            return self.record(info, values, paths, grad, raw)
        results = recorder.complete(info.name)
        return {path: results[path] for path in paths}

    def _observing(
        self, info: ModelInfo, report: Report, paths: Sequence[str], values: Tensor
    ) -> AbstractContextManager[None]:
        """Report the results of ``paths``, as they are after the edits."""
        if info.edits:
            arrangement = self._arrangement(info, values, list(info.edits))
            report = editing_results(info.edits, arrangement, report, paths)
        tree = self.tree(info)
        return observing(tree, report, only=[*paths, *info.edits], fused=self._fused(tree))

    def stream(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], consume: Consume
    ) -> None:
        if self._one_by_one and len(values) > 1:
            for path, result in self.record(info, values, paths, grad=False).items():
                consume(path, result)
            return
        arrangement = self._arrangement(info, values, paths)
        streamer = Streamer(arrangement.to_standard, paths, consume)
        with self.eval_frozen(info, grad=False), suppress(StopPass):
            self._run(info, values, self._observing(info, streamer.report, paths, values))
        streamer.finish(info.name)

    def check(self, info: ModelInfo, values: Tensor, paths: Sequence[str]) -> dict[str, str]:
        arrangement, tree = self._arrangement(info, values, paths), self.tree(info)

        def observed(images: Tensor) -> Observed:
            seen = Observed()

            def note(address: str, result: Tensor) -> None:
                copied = address in self._fragile or result.is_inference()
                kept = result.clone() if copied else result
                seen.note(address, result, arrangement.to_standard(address, kept))

            with self.eval_frozen(info, grad=False):
                watching = observing(tree, note, only=paths, fused=self._fused(tree))
                output = first_tensor(self._run(info, images, watching))
            if output is not None:
                seen.note(OUTPUT, output, output if output.ndim else None)
            return seen

        plain = self._framework.plain_pass({base_path(path) for path in paths})

        def reference(images: Tensor) -> Observed:
            assert plain is not None
            with one_line_errors(info, images, tree.modules.values()):
                return plain(to_volumes(info, images))

        return differences(values, reference if plain else None, observed, self._one_by_one)

    def weights(self, info: ModelInfo, path: str) -> NDArray[np.float32] | None:
        return self._framework.kernel(self.tree(info).at(path))

    def randomized(self, info: ModelInfo, paths: Iterable[str], seed: int) -> HookBackend:
        framework, random = self._framework.copied(info), np.random.default_rng(seed)
        tree = framework.tree(info)
        for path in paths:
            framework.permute_weights(tree.at(path), random)
        return HookBackend(framework)

    def state(self) -> Iterable[tuple[str, NDArray[Any]]]:
        return self._framework.state()

    def untrained_evidence(self, info: ModelInfo) -> str:
        return self._framework.untrained_evidence(self.tree(info).modules.values())

    def memory_budget(self) -> int:
        first = next(self.module.parameters(), None)
        if first is None or first.device.type != "cuda":
            return DEFAULT_BUDGET
        return int(torch.cuda.mem_get_info(first.device)[0] // 4)

    def standard_input(self, values: Tensor) -> Tensor:
        return self._framework.standard_input(values)

    def input_shape(self, input: Input, channels: int) -> tuple[int | str, ...]:
        return self._framework.input_shape(input, channels)


def _joined(results: list[Tensor], layout: Layout | None) -> Tensor:
    """The results of single images as one, along the dimension that counts the images."""
    if layout is None or layout.batch is None:
        return torch.cat(results)
    at, before = layout.batch, layout.split[layout.batch]
    cut = [r.reshape(*r.shape[:at], before, -1, *r.shape[at + 1 :]) for r in results]
    return torch.stack(cut, at + 1).flatten(at, at + 2)


def _ignore(address: str, result: Any) -> None:
    """Record nothing."""
