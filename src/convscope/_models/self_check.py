"""What is shown, compared once with what plain hooks record of an untouched copy.

Two different images run through the copy, and through the network as convscope observes it: what
the network returns and what each layer computes must be equal, on a processor to the last bit. Then
one image runs alone: what a layer computes for it must be the part of the batch that is shown as
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from convscope._errors import ModelError

_SAMPLE = 4096  # numbers of a result that are compared one by one
_TOLERANCE = 1e-3  # of the largest number: batches of another size are rounded otherwise
OUTPUT = ""
"""The address of what the network returns."""


@dataclass(frozen=True, eq=False)
class Digest:
    """A result in brief: its shape, a checksum of its bits, and some of its numbers.

    - ``exact``: whether it was computed on a processor, where it is the same each time.
    """

    shape: tuple[int, ...]
    bits: int
    numbers: Tensor
    exact: bool

    @classmethod
    def of(cls, result: Tensor) -> Digest:
        with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
            plain = result.detach()
            plain = plain.dequantize() if plain.is_quantized else plain
            flat = plain.contiguous().flatten()
            step = max(1, len(flat) // _SAMPLE)
            bits = flat.view(_INTEGERS[flat.element_size()]).sum(dtype=torch.int64)
            numbers = flat[::step].float().cpu().clone()
            return cls(tuple(result.shape), int(bits), numbers, result.device.type == "cpu")

    def difference(self, other: Digest) -> str:
        """In words, how ``other``, of the untouched network, differs; empty where it does not."""
        if self.shape != other.shape:
            return f"{_sides(self.shape)} where a plain forward hook gives {_sides(other.shape)}"
        if self.bits == other.bits:
            return ""
        gap = _gap(self.numbers, other.numbers)
        if not self.exact and gap <= _TOLERANCE:
            return ""
        return f"its values differ from those of a plain forward hook by {gap:.2g} of the largest"


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(eq=False)
class Observed:
    """What one pass computed.

    - ``digests``: by address, as the network has it.
    - ``standard``: by address, some numbers of each image in the standard layout, and the shape.
    """

    digests: dict[str, Digest] = field(default_factory=dict)
    standard: dict[str, tuple[tuple[int, ...], Tensor]] = field(default_factory=dict)

    def note(self, address: str, result: Tensor, standard: Tensor | None = None) -> None:
        """Keep a result in brief."""
        self.digests[address] = Digest.of(result)
        if standard is not None:
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                flat = standard.detach().reshape(len(standard), -1)
                step = max(1, flat.shape[1] // _SAMPLE)
                numbers = flat[:, ::step].float().cpu().clone()
                self.standard[address] = tuple(standard.shape[1:]), numbers


Pass = Callable[[Tensor], Observed]
"""Runs a batch; the output of the network stands at ``OUTPUT``."""


def differences(
    values: Tensor, reference: Pass | None, observed: Pass, one_by_one: bool
) -> dict[str, str]:
    """In words, by address, what differs; empty where nothing does.

    ``reference`` runs the untouched copy. ``one_by_one``: the network takes one image at a time.
    """
    first = values[:1] if one_by_one else values
    with _same_chance():
        own = observed(first)
    found: dict[str, str] = dict.fromkeys(own.digests, "")
    if reference is not None:
        with _same_chance():
            plain = reference(first)
        for address, digest in plain.digests.items():
            if address in own.digests:
                found[address] = own.digests[address].difference(digest)
    if not one_by_one:
        _compare_alone(values, observed, own, found)
    return found


def _compare_alone(values: Tensor, observed: Pass, own: Observed, found: dict[str, str]) -> None:
    """The last image alone: were a wrong dimension the batch, it would get another's part."""
    with _same_chance():
        alone = observed(values[-1:])
    if OUTPUT in own.standard and OUTPUT in alone.standard:
        (_, together), (_, single) = own.standard[OUTPUT], alone.standard[OUTPUT]
        if _gap(single[-1], together[-1]) > _TOLERANCE:
            return  # chance, or the other images, have their part in it
    for address, (shape, numbers) in own.standard.items():
        if address in alone.standard and not found[address]:
            found[address] = _of_one(shape, numbers[-1], *alone.standard[address])


def _of_one(shape: Any, numbers: Tensor, alone_shape: Any, alone: Tensor) -> str:
    if shape != alone_shape:
        return f"an image has {_sides(shape)} in a batch and {_sides(alone_shape)} alone"
    gap = _gap(numbers, alone[-1])
    if gap <= _TOLERANCE:
        return ""
    return f"an image alone has other values than in a batch, by {gap:.2g} of the largest"


def _gap(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest number; infinite where shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    one, other = one.nan_to_num(), other.nan_to_num()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-12))


def _sides(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


@contextmanager
def _same_chance() -> Iterator[None]:
    """Random numbers are the same each time, and the caller's are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Checks:
    """Which layers were compared, and how they differ, by address."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def refused(
        self, addresses: Sequence[str], compare: Callable[[list[str]], dict[str, str]]
    ) -> tuple[str, str] | None:
        """The first that differs, in words, and how; those that are new are compared before."""
        new = [address for address in addresses if address not in self._found]
        if new:
            self._found.update(dict.fromkeys(new, ""))
            # The pass that follows says what noise cannot pass through; two images may not fit.
            with suppress(ModelError, torch.OutOfMemoryError):
                self._found.update(compare(new))
        for address in (OUTPUT, *addresses):
            if text := self._found.get(address):
                return repr(address) if address else "the output under observation", text
        return None
