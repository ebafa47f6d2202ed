"""What the dimensions of a tensor mean, kept by whoever made it, and its layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations

import torch
from torch import Tensor


@dataclass(frozen=True)
class Atom:
    """A factor of a dimension: ``n`` batch, ``c`` channel, ``h`` row, ``w`` column, ``s`` place in
    a line; ``order`` is larger for what varies faster. The batch has size -1."""

    kind: str
    size: int
    order: int = 0


@dataclass(frozen=True)
class Dim:
    """A dimension: its factors, and how many elements with no place stand in front of them."""

    atoms: tuple[Atom, ...] = ()
    apart: int = 0

    @property
    def size(self) -> int:
        """-1 where the batch is in it."""
        size = 1
        for atom in self.atoms:
            size *= atom.size
        return self.apart + size if size > 0 else -1

    def only(self, kind: str) -> bool:
        return not self.apart and [atom.kind for atom in self.atoms] == [kind]

    def has(self, kind: str) -> bool:
        return any(atom.kind == kind for atom in self.atoms)


@dataclass(frozen=True)
class Meaning:
    """The dimensions of a tensor, how far rows and columns were rolled, and two joined scales."""

    dims: tuple[Dim, ...]
    rolled: tuple[tuple[str, int], ...] = ()
    scale: tuple[int, int] = field(default=(0, 0))  # of the first of several scales joined

    def over(self, *dims: Dim) -> Meaning:
        return replace(self, dims=dims)

    @property
    def is_map(self) -> bool:
        return len(self.dims) == 4 and all(
            dim.only(kind) for dim, kind in zip(self.dims, "nchw", strict=True)
        )

    def atoms(self) -> list[Atom]:
        return [atom for dim in self.dims for atom in dim.atoms]

    def of_kind(self, kind: str) -> list[Atom]:
        return sorted((a for a in self.atoms() if a.kind == kind), key=lambda a: a.order)

    def size_of(self, kind: str) -> int:
        size = 1
        for atom in self.of_kind(kind):
            size *= atom.size
        return size

    @property
    def complete(self) -> bool:
        return len(self.of_kind("n")) == 1 and not self.of_kind("s")


def image_map(channels: int, height: int, width: int) -> Meaning:
    sizes = {"n": -1, "c": channels, "h": height, "w": width}
    return Meaning(tuple(Dim((Atom(kind, size),)) for kind, size in sizes.items()))


def placed(tensor: Tensor, meaning: Meaning) -> Tensor:
    """The tensor without what has no place, with a dimension for each atom."""
    for at, dim in enumerate(meaning.dims):
        tensor = tensor.narrow(at, dim.apart, tensor.shape[at] - dim.apart)
    return tensor.reshape([atom.size for atom in meaning.atoms()])


def arranged(tensor: Tensor, meaning: Meaning, order: list[Atom]) -> Tensor:
    atoms = meaning.atoms()
    return placed(tensor, meaning).permute([atoms.index(atom) for atom in order])


def standard(tensor: Tensor, meaning: Meaning) -> Tensor:
    """The documented layout: ``(N, C, H, W)``, ``(N, C, L)`` or ``(N, features)``."""
    return next(standards(tensor, meaning))


def standards(tensor: Tensor, meaning: Meaning) -> Iterator[Tensor]:
    """The layouts that the documentation allows: channels of two dimensions in either order, one
    row or column left out or of size one, and a roll as it is or undone."""
    two = bool(meaning.of_kind("h") and meaning.of_kind("w"))
    for channels in permutations(meaning.of_kind("c")):
        rest = [atom for kind in "hws" for atom in meaning.of_kind(kind)]
        flat = arranged(tensor, meaning, [*meaning.of_kind("n"), *channels, *rest])
        n, c = flat.shape[0], meaning.size_of("c")
        height, width, line = (meaning.size_of(kind) for kind in "hws")
        for turned in _unrolled(flat.reshape(n, c, height, width * line), meaning):
            if not two:
                yield turned.reshape(n, c, -1).squeeze(-1)
            yield turned
            if c == 1:
                yield turned[:, 0]
        if len(channels) == 2 and two:
            yield flat.reshape(n, channels[0].size, channels[1].size, height, width)


def _unrolled(grid: Tensor, meaning: Meaning) -> Iterator[Tensor]:
    yield grid
    for kind, shift in meaning.rolled:
        grid = torch.roll(grid, -shift, {"h": 2, "w": 3}[kind])
    if meaning.rolled:
        yield grid
