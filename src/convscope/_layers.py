"""Layers, their addresses, and the one table of columns in which layers are listed.

``PATH``, ``PATH:CHANNEL`` and ``PATH:CHANNEL@Y,X`` mean the same on the command line, in Python, in
file names and in the app.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Protocol, overload
from urllib.parse import quote

from convscope._errors import UnknownLayer, UsageError, closest

_ADDRESS = re.compile(r"(?P<path>[^:].*?)(:(?P<channel>[0-9]+)(@(?P<y>[0-9]+),(?P<x>[0-9]+))?)?")
_LIBRARY = re.compile("^(torchvision|timm|keras):")


@dataclass(frozen=True)
class Layer:
    """One result of a network's forward pass.

    Attributes:
        path: The framework's own name; ``#2`` for a second call, ``/relu`` for a function.
        kind: The class (``Conv2d``) or the function (``relu``) that computed it.
        shape: Shape of the output without the batch axis: ``(C, H, W)``, ``(features,)``; ``None``
            where it is no tensor of floats.
        parameters: Number of parameters, those of its children included.
        families: Wider kinds that ``kind=`` also selects, such as ``conv`` or ``pool``.
        depth: Number of modules it is nested in.
        container: Whether it is made of other layers.
        function: Whether it is the result of a function rather than of a module.
        apart: Number of tokens outside the grid: class tokens, registers.
        no_map: Whether the output has three dimensions that are no channels on a grid of positions.
        problem: Why the output cannot be assigned to images; empty where it can.
        aliases: Other paths of it, where the network holds a module under several names.
    """

    path: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int = 0
    families: tuple[str, ...] = ()
    depth: int = 0
    container: bool = False
    function: bool = False
    apart: int = 0
    no_map: bool = False
    problem: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels (or features); 0 where it is no tensor."""
        return self.shape[0] if self.shape else 0

    @property
    def refusal(self) -> str:
        """Why it can be neither drawn nor scanned; empty where it can."""
        if self.shape is None:
            return "it returns no tensor of floats"
        if not self.shape:
            return "it returns one number for an image"
        if self.problem:
            return self.problem
        return "its elements stand on no grid of the image" if self.no_map else ""

    @property
    def is_map(self) -> bool:
        """Whether its output has a height and a width."""
        return self.shape is not None and len(self.shape) == 3 and not self.no_map

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of its output: ``(1, length)`` of a line, ``(1, 1)`` of the rest."""
        sides = self.shape[1:] if self.shape and len(self.shape) < 4 else ()
        height, width = (1, 1, *sides)[-2:]
        return height, width

    def to_dict(self) -> dict[str, object]:
        """Its attributes, for JSON."""
        return {
            "path": self.path,
            "kind": self.kind,
            "shape": self.shape,
            "parameters": self.parameters,
            "families": self.families,
            "depth": self.depth,
            "container": self.container,
            "function": self.function,
            "refusal": self.refusal,
        }

    def shape_text(self) -> str:
        """``64×56×56``, ``192×14×14 + 1 token``, or ``–`` where there is no shape."""
        if not self.shape:
            return "–"
        if self.problem or self.no_map:
            return f"{'×'.join(map(str, self.shape))}, no map"
        count = self.apart
        tokens = f" + {count} token{'s' * (count > 1)}" if count else ""
        return "×".join(map(str, self.shape)) + tokens


class Field(Protocol):
    """What a listing needs of a receptive field."""

    def describe(self) -> str:
        """The field in words."""


class Column(NamedTuple):
    """A column of the table of layers: its title, whether it holds numbers, and its text."""

    title: str
    numeric: bool
    text: Callable[[Layer, Field | None], str]


COLUMNS = (
    Column("layer", False, lambda layer, field: layer.path),
    Column("kind", False, lambda layer, field: layer.kind),
    Column("output", True, lambda layer, field: layer.shape_text()),
    Column(
        "parameters", True, lambda layer, field: f"{layer.parameters:,}" if layer.parameters else ""
    ),
    Column(
        "receptive field",
        False,
        lambda layer, field: field.describe() if field and not layer.refusal else "",
    ),
)
"""The columns of every table of layers, in order."""


@dataclass(frozen=True)
class Address:
    """A layer, a unit (one channel of it), or one position of a unit."""

    path: str
    channel: int | None = None
    position: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        negative = min(self.channel or 0, *(self.position or (0,))) < 0
        if negative or (self.position and self.channel is None):
            raise UsageError(
                f"Channel {self.channel}, position {self.position} of {self.path!r} is not an "
                "address: both count from 0, and a position belongs to a channel"
            )

    def __str__(self) -> str:
        channel = "" if self.channel is None else f":{self.channel}"
        position = "" if self.position is None else f"@{self.position[0]},{self.position[1]}"
        return f"{self.path}{channel}{position}"


def parse_address(text: str) -> Address:
    """Parse an address.

    Args:
        text: ``PATH``, ``PATH:CHANNEL`` or ``PATH:CHANNEL@Y,X``.

    Raises:
        UsageError: Where the text is no address.

    >>> parse_address("features.5:12@3,4")
    Address(path='features.5', channel=12, position=(3, 4))
    >>> parse_address("layer1.0/add")
    Address(path='layer1.0/add', channel=None, position=None)
    """
    match = _ADDRESS.fullmatch(text.strip())
    if not match or re.search(r":(-|@|$)|@", match["path"]):
        raise UsageError(
            f"{text!r} is not an address. Write PATH, PATH:CHANNEL or PATH:CHANNEL@Y,X, "
            "for example features.5:12@3,4"
        )
    channel = None if match["channel"] is None else int(match["channel"])
    position = None if match["y"] is None else (int(match["y"]), int(match["x"]))
    return Address(match["path"], channel, position)


def file_name(text: str) -> str:
    """Encode an address as a file name, percent-encoded, so that it can be decoded.

    >>> file_name("layer1.0/add:12@3,4")
    'layer1.0%2Fadd%3A12@3,4'
    """
    return quote(text, safe="#@,=+")


def figure_name(image: str, what: str, suffix: str) -> str:
    """Name the file of a figure of ``what`` (an address, say) for an image.

    >>> figure_name("cat.jpg", "layer1.0/add", ".png")
    'cat.layer1.0%2Fadd.png'
    """
    return f"{file_name(Path(image).stem)}.{file_name(what)}{suffix}"


class Layers(Sequence[Layer]):
    """The layers of a model, in the order in which a forward pass begins them.

    Prints as a table. ``layers["conv1"]`` is the layer with that path;
    ``layers.select("kind=conv")`` is a list.

    Args:
        layers: The layers.
        model: The model's name as the user typed it, for messages.
    """

    def __init__(self, layers: Iterable[Layer], model: str) -> None:
        self._layers = tuple(layers)
        self._by_path = {layer.path: layer for layer in self._layers}
        self._position = {layer.path: index for index, layer in enumerate(self._layers)}
        self._canonical = {alias: layer.path for layer in self._layers for alias in layer.aliases}
        self.model = model
        self._short = _LIBRARY.sub("", model)

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Layer]: ...
    def __getitem__(self, key: int | str | slice) -> Layer | Sequence[Layer]:
        if not isinstance(key, str):
            return self._layers[key]
        layer = self._find(key)
        if layer is None:
            raise self._unknown(key)
        return layer

    def __contains__(self, key: object) -> bool:
        named = isinstance(key, str) and (key in self._by_path or key in self._canonical)
        return named or key in self._layers

    def canonical(self, path: str) -> str:
        """The path under which a layer is listed, given any of its names."""
        return self._canonical.get(path, path)

    def _find(self, path: str) -> Layer | None:
        """The layer at exactly this path, under any of its names.

        How often a module is called may depend on the image: every further call has an address.
        """
        if path in self._by_path:
            return self._by_path[path]
        if path in self._canonical:
            return replace(self._by_path[self._canonical[path]], path=path)
        first, mark, number = path.rpartition("#")
        if mark and number.isdigit() and int(number) > 1 and first in self._by_path:
            return replace(self._by_path[first], path=path)
        return None

    def select(self, selection: str | Iterable[str]) -> list[Layer]:
        """Select layers by path, glob or kind.

        Args:
            selection: One item or several: an exact path, else a glob (``block?_conv1``), else
                ``kind=conv2d`` in any case, where ``kind=conv`` is every convolution.

        Returns:
            The layers in execution order, each once.

        Raises:
            UnknownLayer: Where an item names nothing.
        """
        items = [selection] if isinstance(selection, str) else list(selection)
        if not items:
            raise UsageError("No layer was named. For every convolution: kind=conv")
        selected = {layer.path: layer for item in items for layer in self._matching(item.strip())}
        return sorted(selected.values(), key=self._order)

    def _order(self, layer: Layer) -> int:
        path = self.canonical(layer.path)
        return self._position[path if path in self._position else path.rpartition("#")[0]]

    def at(self, address: str | Address) -> tuple[Layer, Address]:
        """Find the layer of an address.

        Args:
            address: An address, or its text.

        Returns:
            The layer and the parsed address.

        Raises:
            UnknownLayer: Where there is no such layer, channel or position.
        """
        parsed = address if isinstance(address, Address) else self._parse(address)
        layer = self[parsed.path]
        place = f"in {parsed.path!r} of {self._short}"
        if parsed.channel is not None and parsed.channel >= layer.channels:
            channels = f"0 to {layer.channels - 1}" if layer.channels else "none"
            raise UnknownLayer(
                f"No channel {parsed.channel} {place}. Channels: {channels}. See: {self._listing()}"
            )
        if parsed.position:
            height, width = layer.grid
            y, x = parsed.position
            if y >= height or x >= width:
                raise UnknownLayer(
                    f"No position {y},{x} {place}: its output is {height}×{width}. Last: "
                    f"{parsed.path}:{parsed.channel}@{height - 1},{width - 1}"
                )
        return layer, parsed

    def representative(self, limit: int = 6) -> list[Layer]:
        """Choose a few layers that show the depth of the network, from the first to the last.

        The last convolution of each size; where the size hardly changes, convolutions at equal
        steps; in a transformer, its blocks.

        Args:
            limit: Largest number of layers.
        """
        maps = [layer for layer in self._layers if layer.is_map] or [
            layer for layer in self._layers if layer.shape and len(layer.shape) > 1
        ]  # of networks of signals and of volumes
        candidates = [layer for layer in maps if "conv" in layer.families]
        if len(candidates) < 3:
            candidates = _blocks(maps) or candidates or maps
        of_size = {layer.shape[1:]: layer for layer in candidates if layer.shape}
        deepest = [layer for layer in candidates if layer in of_size.values()]
        if len(deepest) < 3:
            deepest = candidates
        return _even_steps(deepest, limit) or list(self._layers[-1:])

    def _parse(self, address: str) -> Address:
        """Exact paths first: a module may be called ``a:1``."""
        return Address(address) if self._find(address) else parse_address(address)

    def _matching(self, item: str) -> list[Layer]:
        exact = self._find(item)
        if exact is not None:
            return [exact]
        if item.lower().startswith("kind="):
            kind = item[5:].lower()
            selected = [la for la in self._layers if kind in (la.kind.lower(), *la.families)]
        else:
            selected = [la for la in self._layers if fnmatchcase(la.path, item)]
        if not selected:
            raise self._unknown(item)
        return selected

    def _unknown(self, item: str) -> UnknownLayer:
        if item.lower().startswith("kind="):
            kinds = sorted(
                {name for la in self._layers for name in (la.kind.lower(), *la.families)}
            )
            near = closest(item[5:], kinds) or f" Kinds: {', '.join(kinds[:12])}."
        else:
            near = closest(item, self._by_path) or _same_last_part(item, self._by_path)
        return UnknownLayer(f"No layer {item!r} in {self._short}.{near} See: {self._listing()}")

    def _listing(self) -> str:
        """What lists the layers: a command where the model has a name that a shell can give."""
        named = self.model == "demo" or any(mark in self.model for mark in ":.")
        return f"convscope layers -m {shlex.quote(self.model)}" if named else "model.layers"

    def __repr__(self) -> str:
        columns = COLUMNS[:-1]  # receptive fields take a forward pass
        rows = [[column.title for column in columns]]
        for layer in self._layers:
            path, *rest = (column.text(layer, None) for column in columns)
            rows.append(["  " * layer.depth + path, *rest])
        widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
        lines = [
            "  ".join(
                text.rjust(width) if column.numeric else text.ljust(width)
                for text, width, column in zip(row, widths, columns, strict=True)
            )
            for row in rows
        ]
        return "\n".join([f"{self.model}: {len(self)} layers", *lines])

    def _repr_html_(self) -> str:
        columns = COLUMNS[:-1]
        head = "".join(f"<th>{column.title}</th>" for column in columns)
        rows = "".join(
            f"<tr>{''.join(_cell(column, layer) for column in columns)}</tr>"
            for layer in self._layers
        )
        caption = html.escape(self.model)
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{rows}</table>"


def _cell(column: Column, layer: Layer) -> str:
    text = html.escape(column.text(layer, None))
    if column.numeric:
        return f"<td>{text}</td>"
    indent = f";padding-left:{layer.depth}em" if column is COLUMNS[0] else ""
    return f"<td style='text-align:left{indent}'>{text}</td>"


def _blocks(maps: Iterable[Layer]) -> list[Layer]:
    """The building blocks: layers of the kind that comes often and holds the most parameters."""
    by_kind: dict[str, list[Layer]] = {}
    for layer in maps:
        if layer.container and layer.kind != "Sequential":
            by_kind.setdefault(layer.kind, []).append(layer)
    often = [layers for layers in by_kind.values() if len(layers) > 3]
    return max(often, key=lambda layers: sum(la.parameters for la in layers), default=[])


def _even_steps(layers: Sequence[Layer], limit: int) -> list[Layer]:
    """At most ``limit`` of ``layers`` at equal steps, the last always among them."""
    if len(layers) <= limit:
        return list(layers)
    if limit < 2:
        return list(layers[-1:])
    return [layers[round(k * (len(layers) - 1) / (limit - 1))] for k in range(limit)]


def _same_last_part(item: str, paths: Iterable[str]) -> str:
    """Near misses by the last part of a dotted name: ``block9.conv2`` → ``stage.0.conv2``."""
    last = item.rsplit(".", 1)[-1]
    near = [path for path in paths if path.rsplit(".", 1)[-1] == last][:3]
    return f" Close: {', '.join(map(repr, near))}." if near else ""
