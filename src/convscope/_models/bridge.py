"""A bridge from torch to another framework: arrays cross it one way, gradients the other.

torch stays the only gradient engine. A pass with gradients is a chain of torch nodes, one for each
recorded result in the order of execution: ``result k = F(image, result 1 … result k-1)``. Inside
the other framework a recorded result is cut off from what came before it: paths through it lead to
it and no further, and paths around it (skip connections) to what stands before them, so that none
is counted twice. A node's backward asks the other framework for that one vector-Jacobian product.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from convscope._errors import ConvscopeError, ModelError, one_line

_ALIGNMENT = 64  # TensorFlow ends the whole process on memory that is aligned to less

Cut = Callable[[Any], Any]
"""Given what a layer computed, returns what the network goes on with: equal, and a new source."""


class Walk(Protocol):
    """One way through a network, in the other framework's arrays, all float32."""

    def __call__(self, native: Any, cut: Cut | None = None) -> list[Any]:
        """What is recorded, in the order of execution; each but the last goes through ``cut``."""


class Tape(abc.ABC):
    """A walk that has been done, and can be asked for gradients."""

    values: Sequence[Any]

    @abc.abstractmethod
    def pull(self, index: int, gradient: Any) -> Sequence[Any]:
        """The gradient at value ``index`` as gradients at the input and at the values before it."""


class Bridge(abc.ABC):
    """What convscope asks of a framework that is not torch."""

    framework: str

    @abc.abstractmethod
    def is_floats(self, value: Any) -> bool:
        """Whether ``value`` is an array of floats that gradients can be asked at."""

    @abc.abstractmethod
    def is_symbol(self, value: Any) -> bool:
        """Whether an array of floats holds none, as inside a vectorized loop."""

    @abc.abstractmethod
    def cast(self, array: Any, like: Any) -> Any:
        """``array`` in the type of ``like``."""

    @abc.abstractmethod
    def floats(self, array: Any) -> Any:
        """``array``, or a variable's value, in float32: only that crosses."""

    @abc.abstractmethod
    def tape(self, walk: Walk, native: Any, cuts: int) -> Tape:
        """Do ``walk`` from ``native``, ready for gradients; it cuts ``cuts`` times."""

    @abc.abstractmethod
    def _exported(self, array: Any) -> Tensor:
        """The array's memory as a tensor; raises where it cannot be."""

    @abc.abstractmethod
    def _copied(self, array: Any) -> Tensor:
        """The array as a tensor of its own."""

    @abc.abstractmethod
    def _imported(self, tensor: Tensor) -> Any:
        """The tensor's memory as an array; raises where it cannot be."""

    @abc.abstractmethod
    def _entered(self, tensor: Tensor) -> Any:
        """The tensor as an array of its own."""

    def tensor(self, array: Any) -> Tensor:
        """An array as a float32 tensor, which shares its memory where the two can."""
        values = self.floats(array)
        with suppress(Exception):  # another device, or no DLPack for it
            return self._exported(values)
        return self._copied(values)

    def array(self, tensor: Tensor) -> Any:
        """A tensor as an array, which shares its memory where the two can."""
        values = tensor.detach().contiguous()
        if values.data_ptr() % _ALIGNMENT:
            values = values.clone()
        with suppress(Exception):
            return self._imported(values)
        return self._entered(values.cpu())


class _Node(torch.autograd.Function):
    """One recorded result as a function of the image and of the results before it."""

    @staticmethod
    def forward(ctx: Any, link: Link, index: int, *sources: Tensor) -> Tensor:
        ctx.link, ctx.index, ctx.device = link, index, sources[0].device
        # A tensor of its own: the tape still needs the numbers, whatever is done to these.
        return link.bridge.tensor(link.tape.values[index]).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pulled = ctx.link.pull(ctx.index, gradient)
        return None, None, *(tensor.to(ctx.device) for tensor in pulled)


@dataclass(frozen=True)
class Link:
    """A walk whose results torch can differentiate; ``model`` is its name, for messages."""

    bridge: Bridge
    tape: Tape
    model: str

    def node(self, index: int, *sources: Tensor) -> Tensor:
        """Result ``index``; ``sources`` are the input and the results before it."""
        function: Any = _Node  # torch types it in some versions only
        made: Tensor = function.apply(self, index, *sources)
        return made

    def pull(self, index: int, gradient: Tensor) -> list[Tensor]:
        """Gradients at the sources of result ``index``."""
        try:
            arrays = self.tape.pull(index, self.bridge.array(gradient))
        except ConvscopeError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.model} has no gradient: {self.bridge.framework} raised "
                f"{type(error).__name__}: {one_line(error)}. Ask at a layer further on"
            ) from error
        # One array may stand for two gradients, and torch adds to them in place.
        return [self.bridge.tensor(array).clone() for array in arrays]
