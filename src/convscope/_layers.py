"""Layers and their addresses.

``PATH``, ``PATH:CHANNEL`` and ``PATH:CHANNEL@Y,X`` mean the same on the command line, in Python, in
file names and in the app.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import overload
from urllib.parse import quote

from convscope._errors import UnknownLayer, UsageError, closest

_ADDRESS = re.compile(r"(?P<path>[^:].*?)(:(?P<channel>[0-9]+)(@(?P<y>[0-9]+),(?P<x>[0-9]+))?)?")
_LIBRARY = re.compile("^(torchvision|timm|keras):")


@dataclass(frozen=True)
class Layer:
    """One result of a network's forward pass.

    - ``path``: the framework's own name; ``#2`` for a second call, ``/relu`` for a function.
    - ``kind``: the class (``Conv2d``) or the function (``relu``) that computed it.
    - ``shape``: of the output, without the batch: ``(channels, height, width)``, or
      ``(features,)``; ``None`` where it is no tensor of floats.
    - ``parameters``: how many it holds, those of its parts included.
    - ``families``: wider names that ``kind=`` also answers to, such as ``conv`` or ``pool``.
    - ``depth``: how many layers it stands inside of.
    - ``container``: whether it is made of other layers.
    - ``function``: whether it is the result of a function rather than of a module.
    - ``apart``: how many tokens it holds besides those of the map: class tokens, registers.
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

    @property
    def channels(self) -> int:
        """How many channels (or features) it has; 0 where it is no tensor."""
        return self.shape[0] if self.shape else 0

    @property
    def is_map(self) -> bool:
        """Whether its output has a height and a width."""
        return self.shape is not None and len(self.shape) == 3

    def shape_text(self) -> str:
        """``64×56×56``, ``192×14×14 + 1 token``, or ``–`` where there is no shape."""
        apart = f" + {self.apart} token{'s' * (self.apart > 1)}" if self.apart else ""
        return "×".join(map(str, self.shape)) + apart if self.shape else "–"


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
                f"Channel {self.channel}, position {self.position} of {self.path!r} is no address: "
                "both count from 0, and a position belongs to a channel"
            )

    def __str__(self) -> str:
        channel = "" if self.channel is None else f":{self.channel}"
        position = "" if self.position is None else f"@{self.position[0]},{self.position[1]}"
        return f"{self.path}{channel}{position}"


def parse_address(text: str) -> Address:
    """Read an address.

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
    """An address as a file name: percent-encoded, so that it can be read back.

    >>> file_name("layer1.0/add:12@3,4")
    'layer1.0%2Fadd%3A12@3,4'
    """
    return quote(text, safe="#@,=+")


def figure_name(image: str, what: str, suffix: str) -> str:
    """The file name of a figure of ``what`` (an address, say) for an image.

    >>> figure_name("cat.jpg", "layer1.0/add", ".png")
    'cat.layer1.0%2Fadd.png'
    """
    return f"{file_name(Path(image).stem)}.{file_name(what)}{suffix}"


class Layers(Sequence[Layer]):
    """The layers of a model, in the order in which a forward pass begins them.

    Prints as a table. ``layers["conv1"]`` is the layer of that path; ``layers.select("kind=conv")``
    is a list. ``model`` is the model's name as the user typed it, for messages.
    """

    def __init__(self, layers: Iterable[Layer], model: str) -> None:
        self._layers = tuple(layers)
        self._by_path = {layer.path: layer for layer in self._layers}
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
        if key not in self._by_path:
            raise self._unknown(key)
        return self._by_path[key]

    def __contains__(self, key: object) -> bool:
        return key in self._by_path or key in self._layers

    def select(self, wanted: str | Iterable[str]) -> list[Layer]:
        """The layers that ``wanted`` names, in execution order, each once.

        Each item is an exact path, else a glob (``block?_conv1``), else ``kind=conv2d`` in any
        case, where ``kind=conv`` is every convolution. Raises ``UnknownLayer`` for an item that
        names nothing.
        """
        items = [wanted] if isinstance(wanted, str) else list(wanted)
        if not items:
            raise UsageError("No layer was named. For every convolution: kind=conv")
        found = {layer.path for item in items for layer in self._matching(item.strip())}
        return [layer for layer in self._layers if layer.path in found]

    def at(self, address: str | Address) -> tuple[Layer, Address]:
        """The layer of an address, its channel and position checked against the layer's shape."""
        where = address if isinstance(address, Address) else self._read(address)
        layer = self[where.path]
        of = f"in {where.path!r} of {self._short}"
        if where.channel is not None and where.channel >= layer.channels:
            has = f"0 to {layer.channels - 1}" if layer.channels else "none"
            raise UnknownLayer(
                f"No channel {where.channel} {of}. Channels: {has}. See: {self._table()}"
            )
        if where.position:
            height, width = layer.shape[1:] if layer.shape and layer.is_map else (1, 1)
            y, x = where.position
            if y >= height or x >= width:
                raise UnknownLayer(
                    f"No position {y},{x} {of}: its output is {height}×{width}. Last: "
                    f"{where.path}:{where.channel}@{height - 1},{width - 1}"
                )
        return layer, where

    def representative(self, most: int = 6) -> list[Layer]:
        """A few layers that show the depth of the network, from the first to the last.

        The last convolution of each size; where the size hardly changes, convolutions at equal
        steps; in a transformer, its blocks.
        """
        maps = [layer for layer in self._layers if layer.is_map]
        candidates = [layer for layer in maps if "conv" in layer.families]
        if len(candidates) < 3:
            candidates = _blocks(maps) or candidates or maps
        of_size = {layer.shape[1:]: layer for layer in candidates if layer.shape}
        deepest = [layer for layer in candidates if layer in of_size.values()]
        if len(deepest) < 3:
            deepest = candidates
        return _even_steps(deepest, most) or list(self._layers[-1:])

    def _read(self, address: str) -> Address:
        """Exact paths first: a module may be called ``a:1``."""
        return Address(address) if address in self._by_path else parse_address(address)

    def _matching(self, item: str) -> list[Layer]:
        if item in self._by_path:
            return [self._by_path[item]]
        if item.lower().startswith("kind="):
            kind = item[5:].lower()
            found = [la for la in self._layers if kind in (la.kind.lower(), *la.families)]
        else:
            found = [la for la in self._layers if fnmatchcase(la.path, item)]
        if not found:
            raise self._unknown(item)
        return found

    def _unknown(self, item: str) -> UnknownLayer:
        if item.lower().startswith("kind="):
            kinds = sorted(
                {name for la in self._layers for name in (la.kind.lower(), *la.families)}
            )
            near = closest(item[5:], kinds) or f" Kinds: {', '.join(kinds[:12])}."
        else:
            near = closest(item, self._by_path) or _same_last_part(item, self._by_path)
        return UnknownLayer(f"No layer {item!r} in {self._short}.{near} See: {self._table()}")

    def _table(self) -> str:
        """What prints this table: a command where the model has a name that a shell can give."""
        named = self.model == "demo" or any(mark in self.model for mark in ":.")
        return f"convscope layers -m {shlex.quote(self.model)}" if named else "model.layers"

    def __repr__(self) -> str:
        rows = [("path", "kind", "output", "parameters"), *map(_row, self._layers)]
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = [
            f"{path:<{widths[0]}}  {kind:<{widths[1]}}  {shape:>{widths[2]}}  {count:>{widths[3]}}"
            for path, kind, shape, count in rows
        ]
        return "\n".join([f"{self.model}: {len(self)} layers", *lines])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td style='text-align:left;padding-left:{layer.depth}em'>"
            f"<code>{html.escape(layer.path)}</code></td><td style='text-align:left'>"
            f"{html.escape(layer.kind)}</td><td>{layer.shape_text()}</td>"
            f"<td>{layer.parameters or ''}</td></tr>"
            for layer in self._layers
        )
        head = "<tr><th>path</th><th>kind</th><th>output</th><th>parameters</th></tr>"
        return f"<table><caption>{html.escape(self.model)}</caption>{head}{cells}</table>"


def _row(layer: Layer) -> tuple[str, str, str, str]:
    count = f"{layer.parameters:,}" if layer.parameters else ""
    return "  " * layer.depth + layer.path, layer.kind, layer.shape_text(), count


def _blocks(maps: Iterable[Layer]) -> list[Layer]:
    """What a network is built of: the layers of the kind that comes often and holds the most."""
    by_kind: dict[str, list[Layer]] = {}
    for layer in maps:
        if layer.container and layer.kind != "Sequential":
            by_kind.setdefault(layer.kind, []).append(layer)
    often = [layers for layers in by_kind.values() if len(layers) > 3]
    return max(often, key=lambda layers: sum(la.parameters for la in layers), default=[])


def _even_steps(layers: Sequence[Layer], most: int) -> list[Layer]:
    """At most ``most`` of ``layers`` at equal steps, the last always among them."""
    if len(layers) <= most:
        return list(layers)
    if most < 2:
        return list(layers[-1:])
    return [layers[round(k * (len(layers) - 1) / (most - 1))] for k in range(most)]


def _same_last_part(item: str, paths: Iterable[str]) -> str:
    """Near misses by the last part of a dotted name: ``block9.conv2`` → ``stage.0.conv2``."""
    last = item.rsplit(".", 1)[-1]
    near = [path for path in paths if path.rsplit(".", 1)[-1] == last][:3]
    return f" Close: {', '.join(map(repr, near))}." if near else ""
