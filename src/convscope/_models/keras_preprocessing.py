"""The preprocessing that a Keras network holds itself: measured, wherever it stands.

Images of one value each run up to the first layer that owns weights. What reaches it tells which
values the network takes: layers, nested networks, functions of a graph and a layer's own code are
all alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._images import Preprocess
from convscope._models.hooks import StopPass
from convscope._models.inputs import UNKNOWN_PREPROCESS
from convscope._models.keras_layers import (
    channels_last,
    is_leaf,
    kernel_name,
    sublayers,
    wrapping_calls,
)
from convscope._models.model import Model

_VALUES = np.array([0, 1, 64, 255], np.float32)
_SIDE = 64  # of the images, where the network takes any size
_NAMED = ("Rescaling", "Normalization", "BatchNormalization")


def find_preprocessing(model: Model) -> None:
    """Set the preprocessing of a Keras network of which none is known, where one is measured.

    Other networks, and those that are not built and have no size yet, are left as they are.
    """
    is_keras = hasattr(model.module, "_flatten_layers")
    if not is_keras or model.stated_input.preprocess.origin != UNKNOWN_PREPROCESS.origin:
        return
    if found := _found(model):
        size = model.stated_input.size
        model.set_input(preprocess=found.at(size) if size else found)


def _found(model: Model) -> Preprocess | None:
    inputs = getattr(model.module, "inputs", None) or []
    if any("int" in str(getattr(each, "dtype", "")) for each in inputs[:1]):
        return Preprocess(scale=255.0, origin="0…255: the network takes whole numbers")
    arrived = _arrived(model)
    line = None if arrived is None else _Line.through(arrived.values)
    if arrived is None or line is None or not (white := line.white()):
        return None
    return Preprocess(scale=float(white), origin=f"0…{white}: {arrived.describe(line, white)}")


@dataclass(frozen=True)
class _Line:
    """``scale * (value - zero)``: what reaches the first weights of a pixel of ``value``."""

    scale: float
    zero: float

    @staticmethod
    def through(arrived: NDArray[np.float32]) -> _Line | None:
        """The usual line of the elements that depend on the image; ``None`` where one is bent."""
        rows = arrived.reshape(len(_VALUES), -1).astype(np.float64)
        if not np.isfinite(rows).all():
            return None
        span = rows[-1] - rows[0]
        rows, span = rows[:, span != 0], span[span != 0]
        scales = span / _VALUES[-1]
        bent = np.abs(rows - rows[0] - _VALUES[:, None] * scales) > 0.01 * np.abs(span)
        if not len(span) or bent.any():
            return None
        return _Line(float(np.median(scales)), float(np.median(-rows[0] / scales)))

    def at(self, value: float) -> float:
        return self.scale * (value - self.zero)

    def white(self) -> int:
        """The value of white, 1 or 255, for which numbers of order one arrive; 0 where unclear."""
        steps, zero = abs(self.scale), self.zero
        one = steps > 0.3 and -0.5 < zero < 1.5
        # More than about ten arrive only where they are centered (or inverted), not scaled.
        small = 255 * steps < 13 or abs(zero) > 5
        byte = 255 * steps > 0.6 and small and -0.5 < zero / 255 < 1.5
        if byte and not one:
            return 255
        centered = steps > 0.5 and 0.05 < zero < 0.95
        return int(one and not byte and centered)


@dataclass
class _Arrived:
    """What reaches the first weights, those of ``path``, after layers of the ``passed`` kinds."""

    values: NDArray[np.float32]
    path: str
    passed: list[str] = field(default_factory=list)

    def describe(self, line: _Line, white: int) -> str:
        kind = next((kind for kind in _NAMED if kind in self.passed), "")
        if kind:
            return f"the network begins with its own {kind}"
        low, high = sorted((line.at(0), line.at(white)))
        return f"measured, {low:.3g}…{high:.3g} of it reaches the first weights ({self.path})"


def _arrived(model: Model) -> _Arrived | None:
    """What reaches the first weights, ``None`` where that cannot be told."""
    import keras

    module, shape = (
        model.module,
        model.stated_input.shape or (model.stated_input.channels, _SIDE, _SIDE),
    )
    if not module.built and model.stated_input.size is None:
        return None
    images = np.empty((len(_VALUES), *shape), np.float32)
    images[:] = _VALUES.reshape(-1, *[1] * len(shape))
    native = np.moveaxis(images, 1, -1) if channels_last(module) else images
    found = None
    with suppress(Exception), model.backend.eval_frozen(model, grad=False):  # of any network
        batch = keras.ops.convert_to_tensor(np.ascontiguousarray(native))
        found = _first_weights(module, batch)
        if found is not None and (own := list(_weights_of_containers(module))):
            changed = [(each, keras.ops.convert_to_tensor(each) * 2 + 1) for each in own]
            with keras.StatelessScope(changed, collect_losses=True):
                again = _first_weights(module, batch)
            if again is None or not np.array_equal(again.values, found.values):
                return None  # weights had been applied before
    return found


def _first_weights(module: Any, batch: Any) -> _Arrived | None:
    here, found, passed = threading.get_ident(), list[_Arrived](), list[str]()
    layers = dict(_leaves(module))

    def around(path: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def measured(*inputs: Any, **options: Any) -> Any:
            if threading.get_ident() != here:
                return call(*inputs, **options)
            if not _has_weights(layers[path]):
                result = call(*inputs, **options)
                passed.append(type(layers[path]).__name__)
                return result
            values = _as_array([*inputs, *options.values()][0])
            found.append(_normalized(_Arrived(values, path, passed), layers[path]))
            raise StopPass

        return measured

    with suppress(StopPass), wrapping_calls(layers.items(), around):
        module(batch, training=False)
    return found[0] if found else None


def _leaves(module: Any) -> Iterator[tuple[str, Any]]:
    """Layers that are not made of others, each once."""
    seen = set[int]()
    for path, layer in sublayers(module, ""):
        if is_leaf(layer) and id(layer) not in seen:
            seen.add(id(layer))
            yield path, layer


def _has_weights(layer: Any) -> bool:
    """Whether a layer owns trained numbers; it may be frozen, as parts of a backbone are."""
    if type(layer).__name__ == "Normalization":
        return False
    if kernel_name(layer):
        return True
    return any(variable.trainable or not layer.trainable for variable in layer.weights)


def _weights_of_containers(module: Any) -> Iterator[Any]:
    """Trainable variables that belong to a network or block itself, not to a layer in it."""
    held = {id(variable) for _, layer in _leaves(module) for variable in layer.variables}
    yield from (v for v in module.trainable_variables if id(v) not in held)


def _normalized(arrived: _Arrived, layer: Any) -> _Arrived:
    """Through a batch normalization that has seen batches: its statistics are those of images."""
    if type(layer).__name__ != "BatchNormalization" or not _as_array(layer.moving_mean).any():
        return arrived
    shape = [1] * arrived.values.ndim
    shape[layer.axis] = -1
    mean, variance = (
        _as_array(each).reshape(shape) for each in (layer.moving_mean, layer.moving_variance)
    )
    arrived.values = (arrived.values - mean) / np.sqrt(variance + layer.epsilon)
    arrived.passed.append("BatchNormalization")
    return arrived


def _as_array(values: Any) -> NDArray[np.float32]:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(values, "float32")))
