"""Fitting weights: which tensors of a file are the network's, whatever they are nested under.

A file is flattened to dotted names. The network's names are then looked for below every prefix:
``state_dict.model.features.0.weight`` fits ``features.0.weight`` below ``state_dict.model``.
Components that wrappers put between (``module``, ``_orig_mod``) do not count. A reading fits where
every name and every shape does, and where nothing is left over of a mapping that is used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """

    place: str
    values: dict[str, Any] = field(default_factory=dict)
    shapes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: dict[str, Any] = field(default_factory=dict)
    is_part: bool = False
    lacks_state: bool = False

    @property
    def fits(self) -> bool:
        return not (self.shapes or self.missing or self.unexpected)

    @property
    def is_averaged(self) -> bool:
        return bool(_AVERAGED.search(self.place.lower()))


def flattened(held: Any) -> dict[str, Entry]:
    """Tensors and extra states in nested mappings and lists, by dotted name."""
    found: dict[str, Entry] = {}
    seen: set[int] = set()  # a mapping kept under two names counts once; circles end

    def visit(container: Any, place: str, depth: int) -> None:
        if depth > _DEPTH or id(container) in seen:
            return
        seen.add(id(container))
        for key, value in _items(container):
            name = f"{place}.{key}" if place else key
            if isinstance(value, Tensor) or _is_extra(key):
                name += " (again)" if name in found else ""
                found[name] = Entry(value, place)
            elif isinstance(value, (Mapping, list, tuple)):
                visit(value, name, depth + 1)

    visit(held, "", 0)
    return found


def _items(container: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(container, (list, tuple)):
        yield from ((str(index), value) for index, value in enumerate(container))
    elif isinstance(container, Mapping) and not is_object(container):
        yield from ((str(k), value) for k, value in container.items() if isinstance(k, (str, int)))


def readings(module: nn.Module, entries: Mapping[str, Entry]) -> list[Reading]:
    """All readings that fit, of different tensors; else the one that comes nearest."""
    own = module.state_dict(keep_vars=True)
    tried = _readings(own, entries)
    fitting = [one for one in tried if one.fits] or [
        one for one in _of_a_part(own, entries) if one.fits
    ]
    if not fitting:
        return tried[:1]
    distinct = {tuple(id(one.values.get(name)) for name in own): one for one in reversed(fitting)}
    return list(reversed(distinct.values()))


def _readings(own: Mapping[str, Any], entries: Mapping[str, Entry]) -> list[Reading]:
    """Readings below every prefix under which a name is the network's; the most names first."""
    known = {canonical(name) for name in own}
    counts: Counter[str] = Counter()
    for name in entries:
        parts = name.split(".")
        for start in range(len(parts)):
            if canonical(".".join(parts[start:])) in known:
                counts[".".join(parts[:start])] += 1
    if not counts:  # nothing is known: the mapping with the most tensors
        counts.update(entry.mapping for entry in entries.values())
    places = sorted(counts, key=lambda place: (-counts[place], -len(place)))
    return [_read(own, entries, place) for place in places]


def _of_a_part(own: Mapping[str, Any], entries: Mapping[str, Entry]) -> Iterator[Reading]:
    """Readings of whole mappings by a network that holds the saved one: ``self.net = saved``."""
    common = _common([name.split(".")[:-1] for name in own])
    for start in range(1, len(common) + 1):
        prefix = ".".join(common[:start]) + "."
        shorter = {name.removeprefix(prefix): value for name, value in own.items()}
        for place in dict.fromkeys(entry.mapping for entry in entries.values()):
            one = _read(shorter, entries, place)
            one.values = {prefix + name: value for name, value in one.values.items()}
            yield one


def _common(paths: list[list[str]]) -> list[str]:
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def _read(own: Mapping[str, Any], entries: Mapping[str, Entry], place: str) -> Reading:
    prefix = f"{place}." if place else ""
    below = {name.removeprefix(prefix): e for name, e in entries.items() if name.startswith(prefix)}
    names = _paired(own, below)
    one = Reading(place, {target: below[name].value for target, name in names.items()})
    taken, used = set(names.values()), {below[name].mapping for name in names.values()}
    one.unexpected = {
        name: entry.value
        for name, entry in below.items()
        if name not in taken and (entry.mapping in used or not used)
    }
    absent = [name for name in own if name not in names]
    one.lacks_state = any(map(_is_extra, absent))
    present = {id(own[name]) for name in names}  # tied weights are saved under one name at least
    one.missing = [n for n in absent if not _is_optional(n, own[n]) and id(own[n]) not in present]
    one.shapes = [
        name for name, value in one.values.items() if not same_shape(name, own[name], value)
    ]
    one.is_part = any(e.mapping in used and not n.startswith(prefix) for n, e in entries.items())
    return one


def _paired(own: Mapping[str, Any], below: Mapping[str, Entry]) -> dict[str, str]:
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
    return name.split(".")[-1] == "_extra_state"


def _is_optional(name: str, value: Any) -> bool:
    """A counter that old checkpoints lack and that evaluation does not read, or extra state."""
    counter = name.endswith("num_batches_tracked")
    return counter or _is_extra(name) or not isinstance(value, Tensor)


def same_shape(name: str, own: Any, value: Any) -> bool:
    """Whether a value of the file has the shape of the network's; of a lazy one, any fits."""
    if _is_extra(name) or is_lazy(own):
        return True
    return isinstance(own, Tensor) and isinstance(value, Tensor) and own.shape == value.shape
