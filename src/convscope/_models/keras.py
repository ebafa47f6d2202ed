"""Keras 3 models on Keras's torch backend: their layers are ``nn.Module``s, so hooks apply.

The only place that knows that Keras keeps channels last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope._errors import ModelError
from convscope._models.base import Input
from convscope._models.capture import Keep
from convscope._models.hooked import HookedModel, sample
from convscope._models.torch import families
from convscope._models.untrained import FRESH_NORMS, untrained_kernels


class KerasModel(HookedModel):
    """A ``keras.Model``: functional, sequential, subclassed or nested, on the torch backend."""

    def __init__(self, module: Any, name: str, input: Input) -> None:
        super().__init__(module, name, input)
        self._last = channels_last(module)
        self._grid = (1, 2) if self._last else (2, 3)

    def _call(self, native: Tensor) -> Any:
        module: Any = self.module
        return module(native, training=False)

    def _native(self, values: Tensor) -> Tensor:
        first = next(iter(self.module.parameters()), None)
        if first is not None:
            values = values.to(first.device)
        return self._laid_out(values)

    def _laid_out(self, values: Tensor) -> Tensor:
        return values.movedim(1, -1).contiguous() if self._last else values

    def _standard(self, result: Tensor) -> Tensor:
        if self._last and result.ndim in self._maps:
            result = result.movedim(-1, 1)
        return result.float()

    def _as_it_was(self, standard: Tensor, result: Tensor) -> Tensor:
        if self._last and result.ndim in self._maps:
            standard = standard.movedim(1, -1)
        return standard.to(result.dtype)

    def _standard_input(self, values: Tensor) -> Tensor:
        return values.movedim(-1, 1) if self._last else values

    def _layout(self, channels: int) -> tuple[Any, ...]:
        sides = (*([self.input.depth] if self.input.depth else []), "height", "width")
        return (*sides, channels) if self._last else (channels, *sides)

    @property
    def _maps(self) -> tuple[int, ...]:
        """How many dimensions a map has: of networks of volumes, four or five."""
        return (4, 5) if self.input.depth else (4,)

    def _walk(self) -> Mapping[str, nn.Module]:
        module: Any = self.module
        if not module.built:
            self._build(module)
        found: dict[str, nn.Module] = {"": module}
        for path, layer in _sublayers(module, ""):
            if all(layer is not known for known in found.values()):  # shared by several parents
                found[_unused(path, found)] = layer
        return found

    def _build(self, module: Any) -> None:
        """Bring the layers into being, as a first call would."""
        if self.input.size is None:
            raise ModelError(
                f"{self.name} has not been built, so it has no layers yet. Call it once on a "
                "batch, or tell what it takes: --input C,H,W"
            )
        values = sample(self.input.channels, *self.input.size)
        try:
            with torch.no_grad():
                self._call(self._native(self._unstacked(values)))
        except Exception as error:
            raise self._failed(values, error) from error

    @contextmanager
    def _fused(self, report: Keep) -> Iterator[None]:
        with ExitStack() as restore:
            for path, layer in self.modules.items():
                if path and _holds_activation(layer):
                    held: Any = vars(layer)  # past Keras's tracking of attributes
                    restore.callback(held.__setitem__, "activation", held["activation"])
                    held["activation"] = _reporting(f"{path}/pre", held["activation"], report)
            yield

    def _families(self, module: nn.Module) -> tuple[str, ...]:
        bases = {base.__name__ for base in type(module).__mro__}
        found = families(type(module), bool(bases & _CONVOLUTIONS))
        function = getattr(getattr(module, "activation", None), "__name__", "")
        general = type(module).__name__ == "Activation" and "relu" in function
        return (*found, "relu") if general else found

    def _weights(self, path: str) -> NDArray[np.float32] | None:
        layer = self.modules.get(path.partition("#")[0])
        kernel = self._kernel(layer)
        if kernel is None or "EinsumDense" in type(layer).__name__:
            return None
        values = kernel.detach().float().cpu().numpy()
        if hasattr(layer, "depth_multiplier"):  # (height, width, in, multiplier), one in a group
            values = values.reshape(*values.shape[:-2], 1, -1)
        if "Transpose" in type(layer).__name__:  # Keras keeps these as (height, width, out, in)
            values = np.swapaxes(values, -1, -2)
        return np.array(np.moveaxis(values, (-1, -2), (0, 1)), order="C")  # never the live weights

    def _shuffle(self, path: str, random: np.random.Generator) -> None:
        layer: Any = self.modules.get(path)
        if layer is None or path in self.parents:
            return
        for variable, values in zip(layer.weights, layer.get_weights(), strict=True):
            if values.ndim > 1:
                variable.assign(random.permutation(values.ravel()).reshape(values.shape))

    def _state(self) -> Iterator[tuple[str, NDArray[Any]]]:
        module: Any = self.module
        for variable in module.variables:
            yield variable.path, np.asarray(variable.numpy())

    def _untrained_evidence(self) -> str:
        layers = list(self.modules.values())
        means = [self._held(m, "moving_mean") for m in layers if hasattr(m, "moving_mean")]
        if means and not any(mean is not None and bool(mean.detach().any()) for mean in means):
            return FRESH_NORMS
        kernels = [(self._kernel(layer), self._held(layer, "bias")) for layer in layers]
        return untrained_kernels([(k, bias) for k, bias in kernels if k is not None])

    def _kernel(self, layer: Any) -> Tensor | None:
        return self._held(layer, _kernel_name(layer)) if _kernel_name(layer) else None

    def _held(self, layer: Any, name: str) -> Tensor | None:
        """The value of a layer's variable."""
        variable = getattr(layer, name, None)
        value = getattr(variable, "value", variable)
        return value if isinstance(value, Tensor) else None


_CONVOLUTIONS = {"BaseConv", "BaseConvTranspose", "BaseDepthwiseConv", "BaseSeparableConv"}


def channels_last(module: Any) -> bool:
    """Whether a Keras model keeps channels last, as its layers say or else as Keras is set."""
    import keras

    for layer in module._flatten_layers(include_self=False):
        kept = getattr(layer, "data_format", None)
        if kept in ("channels_last", "channels_first"):
            return bool(kept == "channels_last")
    return bool(keras.config.image_data_format() == "channels_last")


def _sublayers(layer: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Layers by the names Keras gives them; nested models and layers after a dot."""
    for child in layer._flatten_layers(include_self=False, recursive=False):
        if type(child).__name__ != "InputLayer":
            path = f"{prefix}{child.name}"
            yield path, child
            yield from _sublayers(child, f"{path}.")


def _unused(path: str, taken: Mapping[str, nn.Module]) -> str:
    """``path``, numbered where a model gives two of its layers one name."""
    names = (path if k == 1 else f"{path}_{k}" for k in count(1))
    return next(name for name in names if name not in taken)


def _kernel_name(layer: Any) -> str:
    """Which variable of a layer is its kernel; of a separable convolution, the depthwise one."""
    names = ("kernel", "depthwise_kernel")
    return next((n for n in names if len(getattr(getattr(layer, n, ()), "shape", ())) > 1), "")


def _holds_activation(layer: nn.Module) -> bool:
    """Whether a convolution or a dense layer ends with an activation other than the identity."""
    activation = vars(layer).get("activation")
    if not callable(activation) or getattr(activation, "__name__", "") == "linear":
        return False
    return bool(_kernel_name(layer)) and not hasattr(layer, "recurrent_kernel")


def _reporting(path: str, activation: Any, report: Keep) -> Any:
    """``activation``, what it is given reported first."""

    def reported(values: Any, *rest: Any, **options: Any) -> Any:
        replacement = report(path, values)
        return activation(values if replacement is None else replacement, *rest, **options)

    return reported
