"""How Keras layers are called and read, on every backend of Keras.

On the torch backend they are ``nn.Module``s and hooks apply; on the others ``BridgeBackend`` wraps
their calls. The only place that knows that Keras keeps channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from math import prod
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import ModelError
from convscope._models.backend import (
    ModelInfo,
    copied_module,
    one_line_errors,
    sample,
    to_volumes,
)
from convscope._models.bridge import Bridge
from convscope._models.hooks import ModuleTree, lock_of
from convscope._models.inputs import Input
from convscope._models.self_check import Pass
from convscope._models.structure import Report
from convscope._models.torch_modules import families
from convscope._models.weights import FRESH_NORMS, untrained_kernels


@final
class KerasLayers:
    """A ``keras.Model``: functional, sequential, subclassed or nested.

    ``bridge`` leads to its arrays where they are not torch's.
    """

    def __init__(self, module: Any, bridge: Bridge | None = None) -> None:
        self.module = module
        self._bridge = bridge
        self._last = channels_last(module)
        self._of_signals = takes_signals(module)
        self.grid_dims = (1, 2) if self._last else (2, 3)
        self._tree: ModuleTree | None = None

    def tree(self, info: ModelInfo) -> ModuleTree:
        if self._tree is None:
            if not self.module.built:
                self._build(info)
            modules: dict[str, Any] = {"": self.module}
            for path, layer in sublayers(self.module, ""):
                if all(layer is not known for known in modules.values()):  # of several parents
                    modules[_unused(path, modules)] = layer
            self._tree = ModuleTree(modules)
        return self._tree

    def _build(self, info: ModelInfo) -> None:
        """Create the layers' variables, as a first call would."""
        if info.input.size is None:
            raise ModelError(
                f"{info.name} has not been built, so it has no layers yet. Call it once on a "
                "batch, or give its input shape: --input C,H,W"
            )
        values = sample(info.input.channels, *info.input.size)
        with one_line_errors(info, values), torch.no_grad():
            self.call(self.enter(to_volumes(info, values)))

    @contextmanager
    def eval_frozen(self, info: ModelInfo, grad: bool) -> Iterator[None]:
        """Hold the network for this thread.

        An argument tells Keras's layers that they are not trained, and Keras's own scope
        keeps what they write, and gradients, from their variables: another thread may train them.
        """
        import keras

        self.tree(info)  # what is not built yet is built now, outside the scope
        with lock_of(self.module), torch.inference_mode(False), torch.set_grad_enabled(grad):
            frozen = list(_frozen(self.module.variables)) if grad else []
            scope = keras.StatelessScope(frozen, collect_losses=True)
            with _in_evaluation_mode(self.module), scope:
                yield

    def call(self, native: Any) -> Any:
        return self.module(native, training=False)

    def lay_out(self, values: Tensor) -> Tensor:
        return values.movedim(1, -1).contiguous() if self._last else values

    def enter(self, values: Tensor) -> Any:
        if self._bridge is not None:
            return self._bridge.array(self.lay_out(values))
        first = next(iter(self.module.variables), None)
        return self.lay_out(values if first is None else values.to(first.value.device))

    def to_standard(self, result: Tensor, volumes: bool) -> Tensor:
        return (result.movedim(-1, 1) if self._moves(result, volumes) else result).float()

    def to_native(self, standard: Tensor, like: Tensor, volumes: bool) -> Tensor:
        moved = standard.movedim(1, -1) if self._moves(like, volumes) else standard
        return moved.to(like.dtype)

    def _moves(self, result: Tensor, volumes: bool) -> bool:
        """Whether a result has channels last: maps, volumes, maps of several steps; of networks of
        signals, lines."""
        return self._last and (result.ndim in (4, 5) or (result.ndim == 3 and self._of_signals))

    def standard_input(self, values: Tensor) -> Tensor:
        return values.movedim(-1, 1) if self._last else values

    def input_shape(self, input: Input, channels: int) -> tuple[int | str, ...]:
        depth = (input.depth,) if input.depth else ()
        sides: tuple[int | str, ...] = ("length",) if input.signal else (*depth, "height", "width")
        return (*sides, channels) if self._last else (channels, *sides)

    @contextmanager
    def fused(self, tree: ModuleTree, report: Report) -> Iterator[None]:
        with ExitStack() as restore:
            for path, layer in tree.modules.items():
                if path and _holds_activation(layer):
                    # Past Keras's tracking of attributes; one that is a layer stays tracked.
                    held: Any = vars(layer)
                    if "activation" in held:
                        restore.callback(held.__setitem__, "activation", held["activation"])
                    else:
                        restore.callback(held.pop, "activation")
                    held["activation"] = _reporting(f"{path}/pre", layer.activation, report)
            yield

    def plain_pass(self, paths: Collection[str]) -> Pass | None:
        return None  # a copy would be built anew, and is none of the same network

    def families(self, module: Any) -> tuple[str, ...]:
        bases = {base.__name__ for base in type(module).__mro__}
        wider = families(type(module), bool(bases & _CONVOLUTIONS))
        activation = getattr(module, "activation", None)
        function = getattr(activation, "__name__", type(activation).__name__)
        general = type(module).__name__ == "Activation" and "relu" in function.lower()
        return (*wider, "relu") if general else wider

    def parameters(self, module: Any) -> int:
        if self._bridge is None:
            return sum(parameter.numel() for parameter in module.parameters())
        return sum(prod(variable.shape) for variable in module.variables)

    def kernel(self, module: Any) -> NDArray[np.float32] | None:
        kernel = self._kernel(module)
        if kernel is None or "EinsumDense" in type(module).__name__:
            return None
        values = kernel.detach().float().cpu().numpy()
        if hasattr(module, "depth_multiplier"):  # (height, width, in, multiplier), one in a group
            values = values.reshape(*values.shape[:-2], 1, -1)
        if "Transpose" in type(module).__name__:  # Keras keeps these as (height, width, out, in)
            values = np.swapaxes(values, -1, -2)
        return np.array(np.moveaxis(values, (-1, -2), (0, 1)), order="C")  # never the live weights

    def permute_weights(self, module: Any, random: np.random.Generator) -> None:
        if module is None or next(sublayers(module, ""), None) is not None:
            return
        for variable, values in zip(module.weights, module.get_weights(), strict=True):
            if values.ndim > 1:
                variable.assign(random.permutation(values.ravel()).reshape(values.shape))

    def state(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for variable in self.module.variables:
            yield variable.path, np.asarray(variable.numpy())

    def untrained_evidence(self, modules: Iterable[Any]) -> str:
        layers = list(modules)
        means = [self._value(m, "moving_mean") for m in layers if hasattr(m, "moving_mean")]
        if means and not any(mean is not None and bool(mean.detach().any()) for mean in means):
            return FRESH_NORMS
        kernels = [(self._kernel(layer), self._value(layer, "bias")) for layer in layers]
        return untrained_kernels([(k, bias) for k, bias in kernels if k is not None])

    def copied(self, info: ModelInfo) -> KerasLayers:
        return KerasLayers(copied_module(info, self.module), self._bridge)

    def _kernel(self, layer: Any) -> Tensor | None:
        return self._value(layer, kernel_name(layer)) if kernel_name(layer) else None

    def _value(self, layer: Any, name: str) -> Tensor | None:
        """The value of a layer's variable."""
        variable = getattr(layer, name, None)
        value = getattr(variable, "value", variable)
        if self._bridge is not None:
            return None if value is None else self._bridge.tensor(value)
        return value if isinstance(value, Tensor) else None


_CONVOLUTIONS = {"BaseConv", "BaseConvTranspose", "BaseDepthwiseConv", "BaseSeparableConv"}


def stated_shape(model: Any) -> tuple[Any, ...] | None:
    """The shape of a model's first input, the batch included, where it says it."""
    shape = getattr(model, "input_shape", None) if getattr(model, "inputs", None) else None
    shape = shape[0] if isinstance(shape, list) and shape else shape
    return shape if isinstance(shape, tuple) else None


def takes_signals(model: Any) -> bool:
    """Whether the first input has one dimension beside batch and channels, and it is convolved."""
    shape = stated_shape(model)
    kinds = {type(layer).__name__ for _, layer in sublayers(model, "")}
    return shape is not None and len(shape) == 3 and any("Conv1D" in kind for kind in kinds)


def channels_last(module: Any) -> bool:
    """Whether a Keras model keeps channels last, as its layers say or else as Keras is set."""
    import keras

    for layer in module._flatten_layers(include_self=False):
        order = getattr(layer, "data_format", None)
        if order in ("channels_last", "channels_first"):
            return bool(order == "channels_last")
    return bool(keras.config.image_data_format() == "channels_last")


def _frozen(variables: Iterable[Any]) -> Iterator[tuple[Any, Tensor]]:
    """The values of variables that have gradients, without them."""
    for variable in variables:
        value = variable.value
        if isinstance(value, Tensor) and value.requires_grad:
            # What was made in inference mode cannot take part in gradients: then a copy.
            yield variable, value.detach().clone() if value.is_inference() else value.detach()


@contextmanager
def _in_evaluation_mode(module: Any) -> Iterator[None]:
    """Switch what may ask for its mode: modules of torch, and classes that are not Keras's own."""
    with ExitStack() as restore:
        for each in module.modules():
            own = type(each).__module__.partition(".")[0] == "keras"
            if each.training and (not own or type(each).__name__ == "TorchModuleWrapper"):
                restore.callback(setattr, each, "training", True)
                each.training = False
        yield


def sublayers(layer: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Layers by the names Keras gives them; nested models and layers after a dot.

    An activation is part of the convolution or dense layer that it was given to, also as a layer.
    """
    fused = layer.activation if _holds_activation(layer) else None
    for child in layer._flatten_layers(include_self=False, recursive=False):
        if type(child).__name__ != "InputLayer" and child is not fused:
            path = f"{prefix}{child.name}"
            yield path, child
            yield from sublayers(child, f"{path}.")


def _unused(path: str, taken: Mapping[str, Any]) -> str:
    """``path``, numbered where a model gives two of its layers one name."""
    names = (path if k == 1 else f"{path}_{k}" for k in count(1))
    return next(name for name in names if name not in taken)


def is_leaf(layer: Any) -> bool:
    """Whether a layer is made of no others."""
    return next(sublayers(layer, ""), None) is None


def kernel_name(layer: Any) -> str:
    """Which variable of a layer is its kernel; of a separable convolution, the depthwise one."""
    names = ("kernel", "depthwise_kernel")
    return next((n for n in names if len(getattr(getattr(layer, n, ()), "shape", ())) > 1), "")


def _holds_activation(layer: Any) -> bool:
    """Whether a convolution or a dense layer ends with an activation other than the identity."""
    activation = getattr(layer, "activation", None)
    if not callable(activation) or getattr(activation, "__name__", "") == "linear":
        return False
    return bool(kernel_name(layer)) and not hasattr(layer, "recurrent_kernel")


def _reporting(path: str, activation: Any, report: Report) -> Any:
    """``activation``, what it is given reported first."""

    def reported(values: Any, *rest: Any, **options: Any) -> Any:
        replacement = report(path, values)
        return activation(values if replacement is None else replacement, *rest, **options)

    return reported


@contextmanager
def wrapping_calls(
    callees: Iterable[tuple[str, Any]], around: Callable[[str, Any], Any]
) -> Iterator[None]:
    """For the length of the block ``call`` is ``around(path, call)``."""
    with ExitStack() as restore:
        for path, callee in callees:
            held: Any = vars(callee)  # past Keras's tracking of attributes
            for name in {"call", "quantized_call"} & set(dir(callee)):
                if name in held:
                    restore.callback(held.__setitem__, name, held[name])
                else:
                    restore.callback(held.pop, name)
                held[name] = around(path, getattr(callee, name))
        yield
