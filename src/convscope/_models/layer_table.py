"""The table of layers, built while a sample runs through the network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

from convscope._layers import Layer
from convscope._models.hooks import ModuleTree, in_this_thread, numbered

Shape = tuple[int, ...]
_CONVOLUTIONS = re.compile(r"(quantized_)?conv(_transpose)?\dd|convolution")


class LayerTable:
    """Lists what a forward pass computes, in the order in which it is begun.

    ``families`` and ``parameters`` give the wider kinds of a module and its number of parameters.
    """

    def __init__(
        self,
        tree: ModuleTree,
        families: Callable[[Any], tuple[str, ...]],
        parameters: Callable[[Any], int],
    ) -> None:
        self._tree = tree
        self._families = families
        self._parameters = parameters
        self._clock = count()
        self._begun: dict[str, float] = {}
        self._results: dict[str, tuple[float, Shape | None, dict[str, Any]]] = {}

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Hook the modules to note when each begins."""
        calls: Counter[str] = Counter()

        def begin(path: str) -> Callable[[Any, Any], None]:
            return in_this_thread(lambda _module, _inputs: self.begin(numbered(path, calls)))

        with ExitStack() as hooks:
            for path, module in self._tree.modules.items():
                hooks.callback(module.register_forward_pre_hook(begin(path)).remove)
            yield

    def begin(self, address: str) -> None:
        """Note that a layer begins."""
        self._begun[address] = next(self._clock)

    def add(self, address: str, shape: Shape | None, **known: Any) -> None:
        """Note the result of one layer or function, with other attributes of ``Layer``."""
        order = self._begun.get(address)
        if order is None and address.partition("#")[0].endswith("/pre"):
            order = self._begun[address.replace("/pre", "")] - 0.5  # right before its layer
        self._results[address] = (next(self._clock) if order is None else order, shape, known)

    def layers(self) -> list[Layer]:
        """The layers, in the order in which they were begun."""
        by_order = sorted(self._results.items(), key=lambda item: item[1][0])
        return [self._layer(address, shape, known) for address, (_, shape, known) in by_order]

    def _layer(self, address: str, shape: Shape | None, known: dict[str, Any]) -> Layer:
        path = address.partition("#")[0]
        owner, slash, function = path.rpartition("/")
        if slash and path not in self._tree.modules:
            inside = bool(owner) and function != "pre"
            return Layer(
                address,
                function,
                shape,
                depth=self._depth(owner) + inside,
                function=True,
                families=("conv",) * bool(_CONVOLUTIONS.fullmatch(function)),
                **known,
            )
        module = self._tree.modules[path]
        return Layer(
            path=address,
            kind=type(module).__name__,
            shape=shape,
            parameters=self._parameters(module),
            families=self._families(module),
            depth=self._depth(path),
            container=path in self._tree.parents,
            **known,
        )

    def _depth(self, path: str) -> int:
        parts = path.split(".")
        return sum(".".join(parts[:k]) in self._results for k in range(1, len(parts)))
