"""The seam between ``Model`` and the frameworks: what a backend does, and what they all share.

A ``Model`` owns one backend: ``HookBackend`` for ``nn.Module``s (PyTorch, and Keras on its torch
backend), ``BridgeBackend`` for Keras on TensorFlow or JAX. Layouts, devices and hooks are settled
below this line and nowhere else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import ConvscopeError, ModelError, UnknownLayer, UsageError, one_line
from convscope._layers import Layer
from convscope._models.forward_errors import forward_error
from convscope._models.hooks import lock_of
from convscope._models.inputs import Input, NativeLayout
from convscope._models.tracing import ReceptiveField

Edit = Callable[[Tensor], Tensor]
"""Given a layer's result, returns what the network goes on with; must not write into it."""

Consume = Callable[[str, Tensor], None]
"""Called with a path and the activation of its layer, in the standard layout, while it exists."""

_Module = TypeVar("_Module")


class ModelInfo(Protocol):
    """What a backend needs of the model that it runs for; ``Model`` itself is one."""

    name: str
    edits: Mapping[str, Edit]

    @property
    def input(self) -> Input: ...


class Backend(NativeLayout, Protocol):
    """One network in one framework. ``info`` is the model that a call is made for.

    ``values`` are standard batches, float32 ``(N, C, H, W)``; volumes with their slices one below
    the other, signals one pixel high. Results are float32, channels second.

    - ``module``: the network itself, an ``nn.Module`` or a ``keras.Model``.
    - ``runs_in_torch``: whether a pass consists of torch operations, which torch's modes see.
    """

    runs_in_torch: bool

    @property
    def module(self) -> Any: ...

    def trace(self, info: ModelInfo, size: tuple[int, int]) -> list[Layer]:
        """Run one sample of that height and width and list the layers, in execution order."""

    def run(self, info: ModelInfo, values: Tensor, grad: bool) -> Tensor | None:
        """The network's output; ``None`` where it returns no tensor of floats."""

    def record(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], grad: bool, raw: bool = False
    ) -> dict[str, Tensor]:
        """The outputs of some layers; ``raw``: in the network's own layout."""

    def stream(
        self, info: ModelInfo, values: Tensor, paths: Sequence[str], consume: Consume
    ) -> None:
        """Pass the outputs of some layers to ``consume``, each as soon as it is computed."""

    def check(self, info: ModelInfo, values: Tensor, paths: Sequence[str]) -> dict[str, str]:
        """How what is observed differs from the network itself, by address; see ``self_check``."""

    def weights(self, info: ModelInfo, path: str) -> NDArray[np.float32] | None:
        """The kernel of a layer in the standard layout, ``None`` where it has none."""

    def randomized(self, info: ModelInfo, paths: Iterable[str], seed: int) -> Self:
        """A copy in which the kernels of some layers are randomly permuted."""

    def state(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Every parameter and buffer by name, in a fixed order."""

    def untrained_evidence(self, info: ModelInfo) -> str:
        """What in the weights looks as initialized; empty where nothing does."""

    def eval_frozen(self, info: ModelInfo, grad: bool) -> AbstractContextManager[None]:
        """Hold the network in evaluation mode, frozen and locked against other threads."""

    def memory_budget(self) -> int:
        """Bytes that the activations of one batch may take where the network lives."""


@runtime_checkable
class TracesReceptiveFields(Protocol):
    """A backend whose operations can be followed one by one."""

    def receptive_fields(
        self, info: ModelInfo, size: tuple[int, int]
    ) -> Mapping[str, ReceptiveField]:
        """The receptive field of every layer for an image of that height and width, by path."""


class KerasNetwork(Protocol):
    """A ``keras.Model``, by what is used of it; Keras itself need not be installed."""

    @property
    def name(self) -> str: ...
    @property
    def variables(self) -> Sequence[Any]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


DEFAULT_BUDGET = 1 << 28  # bytes, in main memory


def sample(channels: int, height: int, width: int, count: int = 1) -> Tensor:
    """A batch of fixed noise images, all different; no global random state is used."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=generator)


def requiring_grad(values: Tensor) -> Tensor:
    """A batch from which a graph can begin."""
    if values.requires_grad:
        return values
    with torch.inference_mode(False):  # the caller may be in it, and cannot differentiate there
        entered = values.clone() if values.is_inference() else values.detach()
        return entered.requires_grad_()


def to_volumes(info: ModelInfo, values: Tensor) -> Tensor:
    """Volumes ``(N, C, D, H, W)`` from images of their slices, for a network of volumes; for one of
    signals, ``(N, C, L)`` from images one pixel high."""
    if info.input.signal:
        if values.shape[2] != 1:
            raise UsageError(
                f"{info.name} takes signals, which are images one pixel high, and not "
                f"{values.shape[2]}×{values.shape[3]}. Give a length: --size 1x{values.shape[3]}"
            )
        return values.squeeze(2)
    depth = info.input.depth
    if not depth:
        return values
    if values.shape[2] % depth:
        raise UsageError(
            f"{info.name} takes volumes of {depth} slices, one below the other: a height of "
            f"{values.shape[2]} is no multiple of {depth}"
        )
    return values.reshape(*values.shape[:2], depth, -1, values.shape[3])


def copied_module(info: ModelInfo, module: _Module) -> _Module:
    """A deep copy; raises ``ModelError`` where the network cannot be copied."""
    try:
        with lock_of(module):
            return copy.deepcopy(module)
    except Exception as error:  # whatever a user's own class raises
        raise ModelError(
            f"{info.name} cannot be copied ({one_line(error, 80)}), and it is not to be changed"
        ) from error


def not_called(model: str, paths: Iterable[str]) -> UnknownLayer:
    """The error for layers that gave nothing to record."""
    return UnknownLayer(
        f"Layer {min(paths)!r} of {model} was not called, or gave no floats, for this input"
    )


@contextmanager
def one_line_errors(info: ModelInfo, values: Tensor, modules: Iterable[Any] = ()) -> Iterator[None]:
    """Turn what a network raises for ``values`` into a one-line error that says what to do."""
    try:
        yield
    except (ConvscopeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise forward_error(info.name, info.input, values, error, list(modules)) from error
