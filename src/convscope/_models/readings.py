"""Which tensors of a file may be a network's weights, whatever they are nested under.

A file is flattened to dotted names. The network's names are then looked for below every prefix:
``state_dict.model.features.0.weight`` fits ``features.0.weight`` below ``state_dict.model``.
Components that wrappers put between (``module``, ``_orig_mod``) do not count. A reading fits where
every name and every shape does, and where nothing is left over of a mapping that is used.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from convscope._models.lazy_layers import is_lazy
from convscope._models.pickles import is_object

# Put between by DataParallel, torch.compile, FSDP, activation checkpointing and Fabric.
_WRAPPERS = {
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
}
_EXTRA = "_extra_state"
_AVERAGED = re.compile(r"(?<![a-z])(ema|averaged?|avg|swa|shadow)(?![a-z])")
_DEPTH = 16  # of nested mappings


@dataclass(frozen=True)
class Entry:
    """A tensor of a file (or the extra state of a module), and the mapping that holds it."""

    value: Any
    mapping: str


@dataclass
class Reading:
    """The entries below one prefix, read as the network's weights.

    Attributes:
        place: The prefix, without its last dot.
        values: What the file has for the network's names.
        shapes: The network's names whose tensors have another shape in the file.
        missing: The network's names that the file lacks.
        unexpected: What stands below the prefix by names that the network lacks.
        is_part: Whether a mapping is used in part: other prefixes stand in it as well.
        lacks_state: Whether the network has extra state that the file lacks.
        versions: What torch saved of the versions of modules, by the network's paths.
    """

    place: str
    values: dict[str, Any] = field(default_factory=dict)
    shapes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: dict[str, Any] = field(default_factory=dict)
    is_part: bool = False
    lacks_state: bool = False
    versions: dict[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        return not (self.shapes or self.missing or self.unexpected)

    @property
    def state(self) -> dict[str, Any]:
        """The values, and those that are not known, as ``load_state_dict`` takes them."""
        state: Any = OrderedDict(self.values | self.unexpected)
        if self.versions:
            state._metadata = OrderedDict(self.versions)
        return cast(dict[str, Any], state)

    @property
    def is_averaged(self) -> bool:
        return bool(_AVERAGED.search(self.place.lower()))


@dataclass
class Contents:
    """A file, flattened.

    Attributes:
        entries: What may be loaded, by dotted name.
        versions: What torch saved of the versions of modules, by their dotted paths.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> Contents:
        """What stands under a name, at any depth."""
        below = {n: e for n, e in self.entries.items() if f".{name}." in f".{n}"}
        return Contents(below, self.versions)


def flattened(held: Any, kept: Container[str] = (_EXTRA,)) -> Contents:
    """Tensors, and what stands under the names ``kept``, in nested mappings and lists."""
    contents = Contents()
    found = contents.entries
    seen: set[int] = set()  # a mapping kept under two names counts once; circles end

    def visit(container: Any, place: str, depth: int) -> None:
        if depth > _DEPTH or id(container) in seen:
            return
        seen.add(id(container))
        for path, version in _items(getattr(container, "__dict__", {}).get("_metadata")):
            contents.versions[f"{place}.{path}".strip(".")] = version
        for key, value in _items(container):
            name = f"{place}.{key}" if place else key
            if isinstance(value, Tensor) or key.split(".")[-1] in kept:
                name += " (again)" if name in found else ""
                found[name] = Entry(value, place)
            else:
                visit(value, name, depth + 1)

    visit(held, "", 0)
    return contents


def _items(container: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(container, (list, tuple)):
        return ((str(index), value) for index, value in enumerate(container))
    if isinstance(container, dict) and not is_object(container):
        held = dict.items(container)  # the file may have given it another attribute ``items``
        return ((str(key), value) for key, value in held if isinstance(key, (str, int)))
    return ()


def readings(module: nn.Module, held: Any, part: str = "") -> list[Reading]:
    """All readings that fit, of different tensors; else the one that comes nearest.

    Empty where nothing stands under the name ``part``.
    """
    own = module.state_dict(keep_vars=True)
    other = {name.split(".")[-1] for name, value in own.items() if not isinstance(value, Tensor)}
    contents = flattened(held, {_EXTRA, *other})
    if part:
        contents = contents.part(part)
    tried = _readings(own, contents)
    fitting = [one for one in tried if one.fits]
    fitting = fitting or [one for one in _of_a_part(own, contents) if one.fits]
    if not fitting:
        return tried[:1]
    distinct = {tuple(id(one.values.get(name)) for name in own): one for one in reversed(fitting)}
    return list(reversed(distinct.values()))


def _readings(own: Mapping[str, Any], contents: Contents) -> list[Reading]:
    """Readings below every prefix under which names are the network's; the most names first."""
    known = {canonical(name) for name in own}
    counts: Counter[str] = Counter()
    for name in contents.entries:
        parts = name.split(".")
        for start in range(len(parts)):
            if canonical(".".join(parts[start:])) in known:
                counts[".".join(parts[:start])] += 1
    if not counts:  # nothing is known: the mapping with the most tensors
        counts.update(entry.mapping for entry in contents.entries.values())
    places = sorted(counts, key=lambda place: (-counts[place], -len(place)))
    needed = len({id(value) for name, value in own.items() if not _is_optional(name)})
    enough = [place for place in places if counts[place] >= needed]
    return [_read(own, contents, place) for place in enough or places[:1]]


def _of_a_part(own: Mapping[str, Any], contents: Contents) -> Iterator[Reading]:
    """Readings of whole mappings by a network that holds the saved one: ``self.net = saved``."""
    common = _common([name.split(".")[:-1] for name in own])
    for start in range(1, len(common) + 1):
        prefix = ".".join(common[:start]) + "."
        shorter = {name.removeprefix(prefix): value for name, value in own.items()}
        for place in dict.fromkeys(entry.mapping for entry in contents.entries.values()):
            one = _read(shorter, contents, place)
            one.values = {prefix + name: value for name, value in one.values.items()}
            one.versions = {prefix + path: value for path, value in one.versions.items()}
            yield one


def _common(paths: list[list[str]]) -> list[str]:
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def _read(own: Mapping[str, Any], contents: Contents, place: str) -> Reading:
    prefix = f"{place}." if place else ""
    entries = contents.entries
    below = _below(prefix, entries)
    names = _paired(own, below)
    one = Reading(place, {target: below[name].value for target, name in names.items()})
    taken, used = set(names.values()), {below[name].mapping for name in names.values()}
    one.unexpected = {
        name: entry.value
        for name, entry in below.items()
        if name not in taken and (entry.mapping in used or not used)
    }
    absent = [name for name in own if name not in names]
    tied = {id(own[name]) for name in names if isinstance(own[name], Tensor)}  # have another name
    one.lacks_state = any(map(_is_extra, absent))
    one.missing = [n for n in absent if not _is_optional(n) and id(own[n]) not in tied]
    one.shapes = [n for n, value in one.values.items() if not same_shape(n, own[n], value)]
    one.is_part = any(e.mapping in used and not n.startswith(prefix) for n, e in entries.items())
    paths = {path: path for name in own for path in _above(name)}
    versions = _below(prefix, contents.versions)
    one.versions = {path: versions[name] for path, name in _paired(paths, versions).items()}
    return one


def _below(prefix: str, held: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): v for name, v in held.items() if name.startswith(prefix)}


def _above(name: str) -> Iterator[str]:
    """The paths of the modules that a tensor is in."""
    parts = name.split(".")[:-1]
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _paired(own: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, str]:
    """The network's names, each with the file's name for it: the same, or but for wrappers."""
    names = {name: name for name in own if name in below}
    ways: dict[str, list[str]] = {}
    for name in own:
        ways.setdefault(canonical(name), []).append(name)
    for name in below:
        targets = ways.get(canonical(name), [])
        if name not in own and len(targets) == 1:
            names.setdefault(targets[0], name)
    return {name: names[name] for name in own if name in names}


def canonical(name: str) -> str:
    """A name without the components that wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_extra(name: str) -> bool:
    return name.split(".")[-1] == _EXTRA


def _is_optional(name: str) -> bool:
    """A counter that old checkpoints lack and that evaluation does not read, or extra state."""
    return name.endswith("num_batches_tracked") or _is_extra(name)


def same_shape(name: str, own: Any, value: Any) -> bool:
    """Whether a value of the file has the shape of the network's; of a lazy one, any fits."""
    if _is_extra(name) or is_lazy(own) or not isinstance(own, Tensor):
        return True
    return isinstance(value, Tensor) and own.shape == value.shape
