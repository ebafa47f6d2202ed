"""The bridge to JAX: one linearization, with an additive probe at every recorded result.

A probe is zero, so values do not change; ``∂/∂probe`` is the gradient at the result. The linear
map is transposed for one result at a time: what does not lead to that result costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import dlpack

from convscope._models.bridge import Bridge, Tape, Walk


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

    def tape(self, walk: Walk, native: Any, cuts: int) -> Tape:
        return _Linearized(self._jax, walk, native, cuts)

    def _exported(self, array: Any) -> Tensor:
        exported: Tensor = dlpack.from_dlpack(array.block_until_ready())
        return exported

    def _copied(self, array: Any) -> Tensor:
        return torch.from_numpy(np.array(array))

    def _imported(self, tensor: Tensor) -> Any:
        if self._jax.__version_info__ < (0, 5):
            raise BufferError("these take a foreign layout and then refuse to compute with it")
        return self._at_home(self._jax.dlpack.from_dlpack(tensor))

    def _entered(self, tensor: Tensor) -> Any:
        return self._at_home(self._jax.numpy.array(tensor.numpy()))

    def _at_home(self, array: Any) -> Any:
        """On the model's device; JAX computes nothing across two."""
        home = self._variables[0].value.devices() if self._variables else array.devices()
        return array if array.devices() == home else self._jax.device_put(array, min(home, key=id))


class _Linearized(Tape):
    def __init__(self, jax: Any, walk: Walk, native: Any, cuts: int) -> None:
        probes: list[Any] = jax.eval_shape(walk, native)[:-1] if cuts else []
        zeros = [jax.numpy.zeros(probe.shape, probe.dtype) for probe in probes]

        def probed(native: Any, *probes: Any) -> list[Any]:
            onward = iter(probes)
            return walk(native, lambda value: jax.lax.stop_gradient(value) + next(onward))

        self.values, self._linear = jax.linearize(probed, native, *zeros)
        self._transpose = jax.linear_transpose
        self._sources = [jax.ShapeDtypeStruct(s.shape, s.dtype) for s in (native, *zeros)]

    def pull(self, index: int, gradient: Any) -> Sequence[Any]:
        towards = self._transpose(lambda *steps: self._linear(*steps)[index], *self._sources)
        found: Sequence[Any] = towards(gradient)
        return found[: index + 1]
