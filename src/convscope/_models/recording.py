"""What is done with the results that ``capture`` reports: keep them, or list them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from convscope._errors import ModelError, UnknownLayer
from convscope._layers import Layer
from convscope._models.capture import Stop, first_tensor, numbered, replace_first
from convscope._models.layouts import Layout, layout_of
from convscope._models.positions import Positions

QUANTIZED = (
    "holds integers, and those have no gradient. Give the network as it was before quantization"
)
_CONVOLUTIONS = re.compile(r"(quantized_)?conv(_transpose)?\dd|convolution")


class Framework(Protocol):
    """How a framework keeps activations that no layout is known of."""

    def _standard(self, result: Tensor) -> Tensor:
        """A layer's result in the standard layout, float32."""

    def _as_it_was(self, standard: Tensor, result: Tensor) -> Tensor:
        """The inverse: ``standard`` in the layout and type of ``result``."""


class Arrangement:
    """From each result to the standard layout, float32, and back."""

    def __init__(self, framework: Framework, layouts: Mapping[str, Layout]) -> None:
        self._framework = framework
        self._layouts = layouts

    def standard(self, address: str, result: Tensor) -> Tensor:
        """The result at ``address`` as a map, if it is one."""
        layout = self._layouts.get(address)
        if layout is None or not layout.fits(result):
            return self._framework._standard(result)
        plain = result.dequantize() if result.is_quantized else result
        return layout.standard(plain).float()

    def as_it_was(self, address: str, standard: Tensor, result: Tensor) -> Tensor:
        """The inverse: ``standard`` in the layout and type of ``result``."""
        layout = self._layouts.get(address)
        if layout is None or not layout.fits(result):
            return self._framework._as_it_was(standard, result)
        return layout.restored(standard, result).to(result.dtype)


class Unarranged(Arrangement):
    """Results as the network keeps them, in float32."""

    def __init__(self) -> None:
        pass

    def standard(self, address: str, result: Tensor) -> Tensor:
        return (result.dequantize() if result.is_quantized else result).float()

    def as_it_was(self, address: str, standard: Tensor, result: Tensor) -> Tensor:
        return standard.to(result.dtype)


class Recorder:
    """Keeps the results asked for, in the standard layout, and ends the pass when it has them.

    ``fragile`` are the addresses whose results the network writes into later on: these are copied.
    With ``grad`` what is kept is a node of the graph that everything after it depends on, and on
    nothing else of the layer's result.
    """

    def __init__(
        self, arranged: Arrangement, paths: Sequence[str], fragile: Collection[str], grad: bool
    ) -> None:
        self.results: dict[str, Tensor] = {}
        self._arranged = arranged
        self._missing = set(paths)
        self._fragile = fragile
        self._grad = grad
        self._versions: dict[str, int] = {}

    def keep(self, address: str, result: Any) -> Any:
        # Without this guard what is done here would itself be reported as a function's result.
        with torch._C.DisableTorchFunction():
            tensor = first_tensor(result)
            if tensor is None:
                return None
            onward = self._keep(address, tensor)
            changed = None if onward is tensor else replace_first(result, tensor, onward)
        self._missing.discard(address)
        if not self._missing:
            raise Stop
        return changed

    def _keep(self, address: str, tensor: Tensor) -> Tensor:
        """Keep ``tensor``; returns what the network goes on with."""
        if self._grad:
            if tensor.is_quantized:
                raise ModelError(f"{address!r} {QUANTIZED}")
            kept = self._arranged.standard(address, tensor)
            if kept is tensor and "/" not in address:
                kept = tensor.view_as(tensor)  # a module may return its own input
            onward = self._arranged.as_it_was(address, kept, tensor)
            onward = onward.clone() if address in self._fragile else onward
        else:
            onward = tensor
            kept = tensor.clone() if address in self._fragile else tensor
        self.results[address] = kept
        self._versions[address] = kept._version
        return onward

    def overwritten(self, model: str) -> set[str]:
        """Results that something after them wrote into, and that were not copied."""
        found = {a for a, tensor in self.results.items() if tensor._version != self._versions[a]}
        if found & set(self._fragile):
            raise ModelError(
                f"{model} writes into the result of {min(found)!r} where it cannot be kept apart, "
                "so there is no gradient at it. Take the layer before or after it"
            )
        return found

    def complete(self, model: str) -> dict[str, Tensor]:
        """All that was asked for."""
        if self._missing:
            raise UnknownLayer(
                f"Layer {min(self._missing)!r} of {model} was not called, or gave no floats, for "
                "this input"
            )
        if self._grad:
            return self.results
        standard = self._arranged.standard
        return {address: standard(address, tensor) for address, tensor in self.results.items()}


class Tracer:
    """Lists what a forward pass computes, in the order in which it is begun."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        parents: Collection[str],
        framework: Framework,
        families: Callable[[nn.Module], tuple[str, ...]],
        positions: Positions,
    ) -> None:
        self._modules = modules
        self._parents = parents
        self._framework = framework
        self._positions = positions
        self.layouts: dict[str, Layout] = {}
        self._known: dict[Any, tuple[Tensor, Layout | None]] = {}
        self._families = families
        self._clock = count()
        self._begun: dict[str, float] = {}
        self._found: dict[str, tuple[float, tuple[int, ...] | None]] = {}

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Note when each layer begins."""
        calls: Counter[str] = Counter()

        def begin(path: str) -> Callable[[nn.Module, Any], None]:
            def note(_module: nn.Module, _inputs: Any) -> None:
                self.begin(numbered(path, calls))

            return note

        with ExitStack() as hooks:
            for path, module in self._modules.items():
                hooks.callback(module.register_forward_pre_hook(begin(path)).remove)
            yield

    def begin(self, address: str) -> None:
        """Note that a layer begins."""
        self._begun[address] = next(self._clock)

    def keep(self, address: str, result: Any) -> None:
        """Note the result of one layer or function."""
        with torch._C.DisableTorchFunction():
            tensor = first_tensor(result)
            shape = None if tensor is None else self._shape(address, tensor)
        order = self._begun.get(address)
        if order is None and address.partition("#")[0].endswith("/pre"):
            order = self._begun[address.replace("/pre", "")] - 0.5  # right before its layer
        self._found[address] = (next(self._clock) if order is None else order, shape)

    def _shape(self, address: str, tensor: Tensor) -> tuple[int, ...]:
        layout = self._layout(self._positions.of(tensor))
        if layout is None:
            return tuple(self._framework._standard(tensor).shape[1:])
        self.layouts[address] = layout
        return layout.channels, *layout.size

    def _layout(self, code: Tensor | None) -> Layout | None:
        """How a result with these codes is laid out; most results share them with others."""
        if code is None:
            return None
        key = (code.data_ptr(), code.shape, code.stride())
        if key not in self._known:
            self._known[key] = code, layout_of(code)  # the codes are kept: their place is the key
        return self._known[key][1]

    def layers(self) -> list[Layer]:
        """What was found."""
        by_order = sorted(self._found.items(), key=lambda item: item[1][0])
        return [self._layer(address, shape) for address, (_, shape) in by_order]

    def _layer(self, address: str, shape: tuple[int, ...] | None) -> Layer:
        plain = address.partition("#")[0]
        owner, slash, function = plain.rpartition("/")
        if slash and plain not in self._modules:
            inside = bool(owner) and function != "pre"
            return Layer(
                address,
                function,
                shape,
                depth=self._depth(owner) + inside,
                function=True,
                families=("conv",) * bool(_CONVOLUTIONS.fullmatch(function)),
                apart=self._apart(address),
            )
        module = self._modules[plain]
        return Layer(
            path=address,
            kind=type(module).__name__,
            shape=shape,
            parameters=self._parameters(module),
            families=self._families(module),
            depth=self._depth(plain),
            container=plain in self._parents,
            apart=self._apart(address),
        )

    def _apart(self, address: str) -> int:
        return self.layouts[address].apart if address in self.layouts else 0

    def _parameters(self, module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    def _depth(self, path: str) -> int:
        parts = path.split(".")
        return sum(".".join(parts[:k]) in self._found for k in range(1, len(parts)))
