"""The bridge to TensorFlow: a gradient tape, cut at the results that are recorded."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import dlpack

from convscope._models.bridge import Bridge, Tape, Walk


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

    def tape(self, walk: Walk, native: Any, cuts: int) -> Tape:
        return _GradientTape(self._tf, walk, native)

    def _exported(self, array: Any) -> Tensor:
        exported: Tensor = dlpack.from_dlpack(self._tf.experimental.dlpack.to_dlpack(array))
        return exported

    def _copied(self, array: Any) -> Tensor:
        return torch.from_numpy(np.array(array.numpy()))

    def _imported(self, tensor: Tensor) -> Any:
        capsule = dlpack.to_dlpack(tensor)  # type: ignore[attr-defined]
        return self._tf.experimental.dlpack.from_dlpack(capsule)

    def _entered(self, tensor: Tensor) -> Any:
        return self._tf.constant(tensor.numpy())


class _GradientTape(Tape):
    def __init__(self, tf: Any, walk: Walk, native: Any) -> None:
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

            self.values = walk(native, cut)

    def pull(self, index: int, gradient: Any) -> Sequence[Any]:
        found = self._tape.gradient(
            self.values[index],
            self._sources[: index + 1],
            output_gradients=gradient,
            unconnected_gradients=self._zero,
        )
        return [self._as_tensor(array) for array in found]
