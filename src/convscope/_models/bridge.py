"""Bridges from torch to TensorFlow and JAX: arrays cross one way, gradients the other.

torch stays the only gradient engine. A pass with gradients is a chain of torch nodes, one for each
recorded result in the order of execution: ``result k = F(image, result 1 … result k-1)``. Inside
the other framework a recorded result is cut off from what came before it: paths through it lead to
it and no further, and paths around it (skip connections) to what stands before them, so that none
is counted twice. A node's backward is that one vector-Jacobian product, computed there.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils import dlpack

from convscope._errors import ConvscopeError, ModelError, one_line

_ALIGNMENT = 64  # TensorFlow ends the whole process on memory that is aligned to less

Cut = Callable[[Any], Any]
"""Given what a layer computed, returns what the network goes on with: equal, and a new source."""


class Pass(Protocol):
    """A forward pass in the other framework's arrays, all float32."""

    def __call__(self, native: Any, cut: Cut | None = None) -> list[Any]:
        """The recorded results in execution order; each but the last goes through ``cut``."""


class Tape(abc.ABC):
    """A forward pass that has been done, ready for gradients."""

    values: Sequence[Any]

    @abc.abstractmethod
    def vjp(self, index: int, gradient: Any) -> Sequence[Any]:
        """The gradient at value ``index`` as gradients at the input and at the values before it."""


class Bridge(abc.ABC):
    """What convscope needs of a framework that is not torch."""

    framework: str

    @abc.abstractmethod
    def is_floats(self, value: Any) -> bool:
        """Whether ``value`` is an array of floats that has a gradient."""

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
    def tape(self, forward: Pass, native: Any, cuts: int) -> Tape:
        """Run ``forward`` on ``native``, ready for gradients; it cuts ``cuts`` times."""

    @abc.abstractmethod
    def _shared_tensor(self, array: Any) -> Tensor:
        """The array's memory as a tensor; raises where it cannot be."""

    @abc.abstractmethod
    def _copied_tensor(self, array: Any) -> Tensor:
        """The array as a tensor of its own."""

    @abc.abstractmethod
    def _shared_array(self, tensor: Tensor) -> Any:
        """The tensor's memory as an array; raises where it cannot be."""

    @abc.abstractmethod
    def _copied_array(self, tensor: Tensor) -> Any:
        """The tensor as an array of its own."""

    def tensor(self, array: Any) -> Tensor:
        """An array as a float32 tensor, which shares its memory where the two can."""
        values = self.floats(array)
        with suppress(Exception):  # another device, or no DLPack for it
            return self._shared_tensor(values)
        return self._copied_tensor(values)

    def array(self, tensor: Tensor) -> Any:
        """A tensor as an array, which shares its memory where the two can."""
        values = tensor.detach().contiguous()
        if values.data_ptr() % _ALIGNMENT:
            values = values.clone()
        with suppress(Exception):
            return self._shared_array(values)
        return self._copied_array(values.cpu())


class _Node(torch.autograd.Function):
    """One recorded result as a function of the image and of the results before it."""

    @staticmethod
    def forward(ctx: Any, source: DifferentiablePass, index: int, *inputs: Tensor) -> Tensor:
        ctx.source, ctx.index, ctx.device = source, index, inputs[0].device
        # A tensor of its own: the tape still needs the numbers, whatever is done to these.
        return source.bridge.tensor(source.tape.values[index]).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.source.vjp(ctx.index, gradient)
        return None, None, *(tensor.to(ctx.device) for tensor in gradients)


@dataclass(frozen=True)
class DifferentiablePass:
    """A forward pass whose results torch can differentiate; ``model`` is its name, for messages."""

    bridge: Bridge
    tape: Tape
    model: str

    def node(self, index: int, *sources: Tensor) -> Tensor:
        """Result ``index``; ``sources`` are the input and the results before it."""
        function: Any = _Node  # torch types it in some versions only
        result: Tensor = function.apply(self, index, *sources)
        return result

    def vjp(self, index: int, gradient: Tensor) -> list[Tensor]:
        """Gradients at the sources of result ``index``."""
        try:
            arrays = self.tape.vjp(index, self.bridge.array(gradient))
        except ConvscopeError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.model} has no gradient: {self.bridge.framework} raised "
                f"{type(error).__name__}: {one_line(error)}. Take a later layer"
            ) from error
        # One array may stand for two gradients, and torch adds to them in place.
        return [self.bridge.tensor(array).clone() for array in arrays]


class TensorFlowBridge(Bridge):
    """Eager TensorFlow."""

    framework = "TensorFlow"

    def __init__(self) -> None:
        self._tf: Any = importlib.import_module("tensorflow")

    def is_floats(self, value: Any) -> bool:
        tf = self._tf
        if not tf.is_tensor(value) or tf.is_symbolic_tensor(value):
            return False  # a symbol belongs to a graph that outlives the pass
        return bool(getattr(value, "dtype", tf.string).is_floating)

    def is_symbol(self, value: Any) -> bool:
        return False

    def cast(self, array: Any, like: Any) -> Any:
        return self._tf.cast(array, like.dtype)

    def floats(self, array: Any) -> Any:
        return self._tf.cast(array, self._tf.float32)

    def tape(self, forward: Pass, native: Any, cuts: int) -> Tape:
        return _GradientTape(self._tf, forward, native)

    def _shared_tensor(self, array: Any) -> Tensor:
        exported: Tensor = dlpack.from_dlpack(self._tf.experimental.dlpack.to_dlpack(array))
        return exported

    def _copied_tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(np.array(array.numpy()))

    def _shared_array(self, tensor: Tensor) -> Any:
        capsule = dlpack.to_dlpack(tensor)  # type: ignore[attr-defined]
        return self._tf.experimental.dlpack.from_dlpack(capsule)

    def _copied_array(self, tensor: Tensor) -> Any:
        return self._tf.constant(tensor.numpy())


class _GradientTape(Tape):
    """A gradient tape, cut at the results that are recorded."""

    def __init__(self, tf: Any, forward: Pass, native: Any) -> None:
        self._zero = tf.UnconnectedGradients.ZERO
        self._as_tensor = tf.convert_to_tensor  # gradients of gathers are sparse
        self._sources = [native]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as self._tape:
            self._tape.watch(native)

            def cut(value: Any) -> Any:
                source = tf.stop_gradient(value)
                self._tape.watch(source)
                self._sources.append(source)
                return source

            self.values = forward(native, cut)

    def vjp(self, index: int, gradient: Any) -> Sequence[Any]:
        gradients = self._tape.gradient(
            self.values[index],
            self._sources[: index + 1],
            output_gradients=gradient,
            unconnected_gradients=self._zero,
        )
        return [self._as_tensor(array) for array in gradients]


class JaxBridge(Bridge):
    """Eager JAX; ``variables`` of the model say on which device it lives."""

    framework = "JAX"

    def __init__(self, variables: Sequence[Any]) -> None:
        self._jax: Any = importlib.import_module("jax")
        self._variables = variables

    def is_floats(self, value: Any) -> bool:
        numbers = self._jax.numpy
        is_array = isinstance(value, self._jax.Array)
        return is_array and bool(numbers.issubdtype(value.dtype, numbers.floating))

    def is_symbol(self, value: Any) -> bool:
        return isinstance(value, self._jax.core.Tracer)

    def cast(self, array: Any, like: Any) -> Any:
        return array.astype(like.dtype)

    def floats(self, array: Any) -> Any:
        return self._jax.numpy.asarray(array, self._jax.numpy.float32)

    def tape(self, forward: Pass, native: Any, cuts: int) -> Tape:
        return _Linearized(self._jax, forward, native, cuts)

    def _shared_tensor(self, array: Any) -> Tensor:
        exported: Tensor = dlpack.from_dlpack(array.block_until_ready())
        return exported

    def _copied_tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(np.array(array))

    def _shared_array(self, tensor: Tensor) -> Any:
        if self._jax.__version_info__ < (0, 5):
            raise BufferError("these take a foreign layout and then refuse to compute with it")
        return self._on_model_device(self._jax.dlpack.from_dlpack(tensor))

    def _copied_array(self, tensor: Tensor) -> Any:
        return self._on_model_device(self._jax.numpy.array(tensor.numpy()))

    def _on_model_device(self, array: Any) -> Any:
        """On the model's device; JAX computes nothing across two."""
        home = self._variables[0].value.devices() if self._variables else array.devices()
        return array if array.devices() == home else self._jax.device_put(array, min(home, key=id))


class _Linearized(Tape):
    """One linearization, with an additive probe at every recorded result.

    A probe is zero, so values do not change; ``∂/∂probe`` is the gradient at the result. The
    linear map is transposed for one result at a time: what does not lead to it costs nothing.
    """

    def __init__(self, jax: Any, forward: Pass, native: Any, cuts: int) -> None:
        probes: list[Any] = jax.eval_shape(forward, native)[:-1] if cuts else []
        zeros = [jax.numpy.zeros(probe.shape, probe.dtype) for probe in probes]

        def probed(native: Any, *probes: Any) -> list[Any]:
            onward = iter(probes)
            return forward(native, lambda value: jax.lax.stop_gradient(value) + next(onward))

        self.values, self._linear = jax.linearize(probed, native, *zeros)
        self._transpose = jax.linear_transpose
        self._sources = [jax.ShapeDtypeStruct(s.shape, s.dtype) for s in (native, *zeros)]

    def vjp(self, index: int, gradient: Any) -> Sequence[Any]:
        towards = self._transpose(lambda *steps: self._linear(*steps)[index], *self._sources)
        gradients: Sequence[Any] = towards(gradient)
        return gradients[: index + 1]


def bridge_for(module: Any) -> Bridge:
    """The bridge to the framework that a Keras model runs on."""
    keras: Any = importlib.import_module("keras")
    if keras.backend.backend() == "jax":
        return JaxBridge(module.variables)
    return TensorFlowBridge()
