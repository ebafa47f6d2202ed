"""The table of layers, built while a sample runs through the network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

from convscope._layers import Layer
from convscope._models.hooks import ModuleTree, base_path, in_this_thread, numbered

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
        self._callers: list[tuple[str, str]] = []  # calls of modules with several names, and whose
        self._names: dict[str, list[str]] = {}  # first name, and all of them
        for alias, path in tree.aliases.items():
            self._names.setdefault(path, [path]).append(alias)
        self._results: dict[str, tuple[float, Shape | None, dict[str, Any]]] = {}

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Hook the modules to note when each begins, and by which of its names it is called."""
        calls: Counter[str] = Counter()
        stack: list[str] = []

        def begin(path: str) -> Callable[[Any, Any], None]:
            @in_this_thread
            def note(_module: Any, _inputs: Any) -> None:
                address = numbered(path, calls)
                self.begin(address)
                if path in self._names:
                    self._callers.append((address, stack[-1] if stack else ""))
                stack.append(path)

            return note

        @in_this_thread
        def end(_module: Any, _inputs: Any, _output: Any) -> None:
            stack.pop()

        with ExitStack() as hooks:
            for path, module in self._tree.modules.items():
                hooks.callback(module.register_forward_pre_hook(begin(path), prepend=True).remove)
                hooks.callback(module.register_forward_hook(end, always_call=True).remove)
            yield

    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """By address, the other names of it.

        A name stands for the calls that the module which holds it makes by it; where it holds
        several, for these in turn. A name that no call is made by is one of the first call.
        """
        called: dict[str, str] = {}
        turns: Counter[tuple[str, str]] = Counter()
        for address, caller in self._callers:
            path = base_path(address)
            held = [name for name in self._names[path] if self._holder(name) == caller]
            turn = turns[path, caller]
            turns[path, caller] += 1
            if held:
                called.setdefault(held[turn % len(held)], address)
        aliases: dict[str, list[str]] = {}
        for path, names in self._names.items():
            for name in names[1:]:
                aliases.setdefault(called.get(name, path), []).append(name)
        return {address: tuple(names) for address, names in aliases.items()}

    def _holder(self, name: str) -> str:
        path = name.rpartition(".")[0]
        return self._tree.aliases.get(path, path)

    def begin(self, address: str) -> None:
        """Note that a layer begins."""
        self._begun[address] = next(self._clock)

    def add(self, address: str, shape: Shape | None, **known: Any) -> None:
        """Note the result of one layer or function, with other attributes of ``Layer``."""
        call, bracket, index = address.partition("[")
        order = self._begun.get(call)
        if order is None and base_path(call).endswith("/pre"):
            order = self._begun[call.replace("/pre", "")] - 0.5  # right before its layer
        if order is not None and bracket:
            order += int(index[:-1]) / 1000  # right after its first result
        self._results[address] = (next(self._clock) if order is None else order, shape, known)

    def layers(self) -> list[Layer]:
        """The layers, in the order in which they were begun."""
        aliases = self._aliases()
        by_order = sorted(self._results.items(), key=lambda item: item[1][0])
        return [
            replace(self._layer(address, shape, known), aliases=aliases.get(address, ()))
            for address, (_, shape, known) in by_order
        ]

    def _layer(self, address: str, shape: Shape | None, known: dict[str, Any]) -> Layer:
        path = base_path(address)
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
            parameters=0 if address.endswith("]") else self._parameters(module),
            families=self._families(module),
            depth=self._depth(path),
            container=path in self._tree.parents,
            **known,
        )

    def _depth(self, path: str) -> int:
        parts = path.split(".")
        return sum(".".join(parts[:k]) in self._results for k in range(1, len(parts)))
