"""How PyTorch modules are called and read by the hook backend."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope._models.backend import ModelInfo, copied_module
from convscope._models.checkpointing import without_checkpointing
from convscope._models.forward_errors import parameters_of
from convscope._models.hooks import ModuleTree, lock_of, without_vmap
from convscope._models.inputs import Input
from convscope._models.replica import Replica
from convscope._models.self_check import OUTPUT, Observed, Pass
from convscope._models.structure import Report, first_tensor, is_float_tensor, leaves
from convscope._models.weights import FRESH_NORMS, untrained_kernels
from convscope._models.wrappers import eager_mode, plain_modules

_FAMILY_WORDS = ("pool", "norm", "relu", "linear", "dropout")
_IMAGE = "pixel_values"  # as transformers names it, among token numbers, masks and flags
_NO_KERNEL = (nn.LayerNorm, nn.Embedding, nn.EmbeddingBag, nn.modules.batchnorm._BatchNorm)


@final
class TorchModules:
    """Any ``nn.Module`` that takes one batch of images ``(N, C, H, W)``."""

    grid_dims = (2, 3)

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._replica: Replica | None = None
        self._tree = ModuleTree({})
        self._passes = 0  # that are under way, one inside another
        self._entry_types: dict[tuple[torch.dtype, ...], torch.dtype] = {}  # of several

    def tree(self, info: ModelInfo) -> ModuleTree:
        if self._passes == 0:
            with lock_of(self.module):
                self._follow_original()
        return self._tree

    @contextmanager
    def eval_frozen(self, info: ModelInfo, grad: bool) -> Iterator[None]:
        """The replica in evaluation mode; the user's modules are not touched."""
        with (
            lock_of(self.module),
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
            eager_mode(),
            without_checkpointing(),
        ):
            if self._passes == 0:
                self._follow_original()
                self._current.freeze(grad)
            self._passes += 1
            try:
                with _in_evaluation_mode(self._current.shared):
                    yield
            finally:
                self._passes -= 1

    def _follow_original(self) -> None:
        if self._replica is None or not self._replica.is_current():
            self._replica = Replica(self.module)
            self._tree = module_tree(self._replica.module)
        self._replica.restore()

    @property
    def _current(self) -> Replica:
        assert self._replica is not None
        return self._replica

    def call(self, native: Tensor) -> Any:
        return _run(self._current.module, native)

    def lay_out(self, values: Tensor) -> Tensor:
        return values

    def enter(self, values: Tensor) -> Tensor:
        held = [*self.module.parameters(), *self.module.buffers()]
        weights = [tensor for tensor in held if tensor.is_floating_point()]
        if not weights:
            return values
        values = values.to(weights[0].device)
        types = _in_order_of_trial(weights)
        return values.to(types[0] if len(types) == 1 else self._entry_type(values, types))

    def _entry_type(self, values: Tensor, types: tuple[torch.dtype, ...]) -> torch.dtype:
        """The first of the types with which the network runs, tried once."""
        if types not in self._entry_types:
            found = next((kind for kind in types if self._runs(values.to(kind))), None)
            if found is None:  # for another reason: the pass that follows says which
                return types[0]
            self._entry_types[types] = found
        return self._entry_types[types]

    def _runs(self, native: Tensor) -> bool:
        try:
            with torch.no_grad():
                self.call(native.detach().clone())
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a network raises
            return False
        finally:
            self._current.restore()  # of what this pass has written, the next sees nothing
        return True

    def to_standard(self, result: Tensor, volumes: bool) -> Tensor:
        return (result.dequantize() if result.is_quantized else result).float()

    def to_native(self, standard: Tensor, like: Tensor, volumes: bool) -> Tensor:
        return standard.to(like.dtype)

    def standard_input(self, values: Tensor) -> Tensor:
        return values

    def input_shape(self, input: Input, channels: int) -> tuple[int | str, ...]:
        if input.signal:
            return channels, "length"
        depth = (input.depth,) if input.depth else ()
        return channels, *depth, "height", "width"

    def fused(self, tree: ModuleTree, report: Report) -> AbstractContextManager[None]:
        return nullcontext()  # a module of torch holds no activation of its own

    def plain_pass(self, paths: Collection[str]) -> Pass | None:
        """Plain hooks on an untouched copy, which shares the parameters; ``None`` without one."""
        shared = {id(parameter): parameter for parameter in self.module.parameters()}
        try:
            copied = copy.deepcopy(self.module, shared).eval()
        except Exception:  # whatever a user's own class raises
            return None

        def run(values: Tensor) -> Observed:
            plain, calls = Observed(), Counter[str]()
            with ExitStack() as hooks, torch.inference_mode(False), torch.no_grad(), eager_mode():
                for path, module in copied.named_modules():
                    if path in paths:
                        hook = _plain_hook(path, plain, calls)
                        hooks.callback(module.register_forward_hook(hook).remove)
                output = first_tensor(_run(copied, self.enter(values.clone())))
            if output is not None:
                plain.note(OUTPUT, output)
            return plain

        return run

    def families(self, module: nn.Module) -> tuple[str, ...]:
        return families(type(module), _is_convolution(module))

    def parameters(self, module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    def kernel(self, module: nn.Module | None) -> NDArray[np.float32] | None:
        weight = _weight(module)
        if not isinstance(weight, Tensor) or weight.ndim < 2 or isinstance(module, _NO_KERNEL):
            return None
        values = weight.detach().float().cpu()
        if isinstance(module, nn.modules.conv._ConvTransposeNd):  # (in, out of one group, …)
            grouped = values.reshape(module.groups, -1, *values.shape[1:])
            values = grouped.transpose(1, 2).flatten(0, 1)
        return np.array(values.numpy(), order="C")  # never the live weights

    def permute_weights(self, module: nn.Module | None, random: np.random.Generator) -> None:
        for parameter in module.parameters(recurse=False) if module is not None else ():
            if parameter.ndim > 1:
                order = torch.from_numpy(random.permutation(parameter.numel()))
                with torch.no_grad():
                    parameter.copy_(
                        parameter.flatten()[order.to(parameter.device)].view_as(parameter)
                    )

    def state(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, value in self.module.state_dict().items():
            if isinstance(value, Tensor):
                plain = value.dequantize() if value.is_quantized else value
                raw = plain.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                yield f"{name} {value.dtype} {tuple(value.shape)}", raw.numpy()

    def untrained_evidence(self, modules: Iterable[nn.Module]) -> str:
        every = list(modules)
        means = [m.running_mean for m in every if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if means and all(mean is not None and not mean.any() for mean in means):
            return FRESH_NORMS
        with_kernel = (nn.modules.conv._ConvNd, nn.Linear)
        kernels = [(_weight(m), m.bias) for m in every if isinstance(m, with_kernel)]
        return untrained_kernels([(k, bias) for k, bias in kernels if isinstance(k, Tensor)])

    def copied(self, info: ModelInfo) -> TorchModules:
        return TorchModules(copied_module(info, self.module))


def _run(network: nn.Module, native: Tensor) -> Any:
    keyword = _image_keyword(network)
    return network(**{keyword: native}) if keyword else network(native)


def _plain_hook(path: str, plain: Observed, calls: Counter[str]) -> Any:
    """Notes what a module returned, value by value."""

    def note(_module: nn.Module, _inputs: Any, result: Any) -> None:
        calls[path] += 1
        address = path if calls[path] == 1 else f"{path}#{calls[path]}"
        values = [value for value in leaves(result) if is_float_tensor(value)]
        for index, value in enumerate({id(value): value for value in values}.values()):
            plain.note(f"{address}[{index}]" if index else address, without_vmap(value))

    return note


def module_tree(network: nn.Module) -> ModuleTree:
    """Every module under its first name, and its other names."""
    modules: dict[str, nn.Module] = {}
    aliases: dict[str, str] = {}
    first: dict[nn.Module, str] = {}
    for path, module in plain_modules(network):
        if module in first:
            aliases[path] = first[module]
        else:
            first[module], modules[path] = path, module
    return ModuleTree(modules, aliases)


def _weight(module: nn.Module | None) -> object:
    """The weight of a replicated module; where a hook computes it before each pass, as of now."""
    hooks = [] if module is None else list(module._forward_pre_hooks.values())
    with torch.inference_mode(False), torch.no_grad():
        for hook in hooks:
            if type(hook).__module__.startswith("torch.nn.utils."):  # weight norm, pruning, …
                hook(module, ())
        return getattr(module, "weight", None)


def _is_convolution(module: nn.Module) -> bool:
    """Whether a module is one of torch's convolutions, a quantized one, or one like them."""
    if any(base.__name__ == "_ConvNd" for base in type(module).__mro__):
        return True
    kernel = vars(module).get("_parameters", {}).get("weight")
    leaf = next(module.children(), None) is None
    return leaf and "conv" in type(module).__name__.lower() and getattr(kernel, "ndim", 0) > 2


def families(kind: type, is_convolution: bool) -> tuple[str, ...]:
    """Wider kinds from the names of a class and its bases: ``MaxPool2d`` is a ``pool``."""
    names = " ".join(base.__name__.lower() for base in kind.__mro__)
    wider = (word for word in _FAMILY_WORDS if word in names)
    return ("conv", *wider) if is_convolution else tuple(wider)


def _image_keyword(network: nn.Module) -> str:
    """The argument by which a network takes the image, where that is not its first one."""
    parameters = parameters_of(network)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    by_name = [p for p in named if p.kind is p.KEYWORD_ONLY]
    if any(p.name == _IMAGE for p in named[1:]):
        return _IMAGE
    if any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters):
        return ""
    required = [p for p in by_name if p.default is p.empty] or by_name
    return required[0].name if len(required) == 1 else ""


def _in_order_of_trial(weights: Sequence[Tensor]) -> tuple[torch.dtype, ...]:
    """The types of a network's weights: first that of its first kernel, then the most common."""
    kernels = [tensor.dtype for tensor in weights if tensor.ndim > 1]
    every = Counter(tensor.dtype for tensor in weights)
    return tuple(dict.fromkeys([*kernels[:1], *(kind for kind, _ in every.most_common())]))


@contextmanager
def _in_evaluation_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Switch the modules that could not be replicated for the length of the block."""
    with ExitStack() as restore:
        for module in modules:
            if module.training:
                restore.callback(module.train)
                module.eval()
        yield
