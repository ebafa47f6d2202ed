"""What a network takes that does not say so: found by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convscope._errors import ModelError
from convscope._images.arrays import ARRAY_SUFFIX, read_array
from convscope._models.backend import sample
from convscope._models.inputs import Input, as_floats
from convscope._models.lazy_layers import channels_of

Size = tuple[int, int]
Runs = Callable[[Input, Tensor], Any]
"""Runs the network for an input; raises ``ModelError`` where it cannot."""

_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 227, 48, 160, 192, 331, 384, 512)
_LENGTHS = (1024, 128, 256, 512, 16000, 2048, 4096, 8000, 1000, 100, 187, 784, 3000, 5000, 32)
_USUAL = {False: (3, 1, 4), True: (1, 2, 3)}  # channels of images, and of signals
_SIGNALS = 7  # at once: a 2-D convolution could read one as an image of a single channel
_MOST = 12  # candidates of a kind: a network that takes no image at all is to say so soon


@dataclass(frozen=True)
class Candidate:
    """A number of input channels that a network may take, of images or of signals."""

    channels: int
    signal: bool = False

    def of(self, input: Input) -> Input:
        """``input`` with these channels."""
        return replace(input, channels=self.channels, signal=self.signal)


@dataclass(frozen=True)
class Found:
    """An input with which a network ran, and its size."""

    input: Input
    size: Size


def candidates(module: nn.Module) -> tuple[Candidate, ...]:
    """What a network may take, the likeliest first: what its first registered convolution does.

    That one may not be the first to run (a decoder, a head), or get the image rearranged (space to
    depth), or there may be another way in (a linear layer, a functional convolution).
    """
    convolutions = [m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    of_signals = [_is_of_signals(m) for m in convolutions]
    kinds = dict.fromkeys([*of_signals[:1], False, *of_signals])
    return tuple(
        Candidate(channels, signal)
        for signal in kinds
        for channels in _numbers(convolutions, signal)
    )


def _numbers(convolutions: list[nn.modules.conv._ConvNd], signal: bool) -> list[int]:
    held = [channels_of(m) for m in convolutions if _is_of_signals(m) == signal]
    first = held[:1]
    rearranged = [first[0] // cells for cells in (4, 16) if first and first[0] % cells == 0]
    return list(dict.fromkeys([*first, *_USUAL[signal], *rearranged, *held]))[:_MOST]


def _is_of_signals(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv1d, nn.ConvTranspose1d))


def shape_of_floats(images: Any) -> tuple[int, ...] | None:
    """The shape of the first array of floats among ``images``; ``None`` where there is none."""
    if isinstance(images, (list, tuple)):
        return shape_of_floats(images[0]) if images else None
    if isinstance(images, (str, Path)):
        is_array = Path(images).suffix.lower() == ARRAY_SUFFIX
        return shape_of_floats(read_array(Path(images))) if is_array else None
    values = as_floats(images)
    return None if values is None else tuple(values.shape)


def readings(
    shape: tuple[int, ...] | None, tried: Iterable[Candidate]
) -> list[tuple[Candidate, Size]]:
    """As what an array of this shape can be read, in the order of the candidates' kinds."""
    found: dict[bool, tuple[Candidate, Size]] = {}
    if shape is None or not all(shape):
        return []
    if len(shape) in (3, 4):
        found[False] = Candidate(shape[-3]), (shape[-2], shape[-1])
    if len(shape) in (2, 3):
        found[True] = Candidate(shape[-2], signal=True), (1, shape[-1])
    if len(shape) == 4 and shape[2] == 1:
        found[True] = Candidate(shape[1], signal=True), (1, shape[3])
    kinds = dict.fromkeys(candidate.signal for candidate in tried)
    return [found[kind] for kind in kinds if kind in found]


def find_input(
    runs: Runs,
    stated: Input,
    tried: Iterable[tuple[Candidate, Size]],
) -> Found | None:
    """The first candidate that a network runs with."""
    for candidate, size in tried:
        input = candidate.of(stated)
        try:
            runs(input, sample(candidate.channels, *size, _SIGNALS if candidate.signal else 1))
        except ModelError:
            continue
        return Found(input, size)
    return None


def trials(
    tried: Iterable[Candidate], known: Size | None, last: Iterable[Size]
) -> Iterator[tuple[Candidate, Size]]:
    """Each candidate at every size: the one ``known``, or the usual ones and then ``last``."""
    for candidate in tried:
        usual = [(1, n) for n in _LENGTHS] if candidate.signal else [(n, n) for n in _SIDES]
        fitting = [size for size in last if not candidate.signal or size[0] == 1]
        yield from ((candidate, size) for size in ([known] if known else [*usual, *fitting]))


def first_size(signal: bool) -> Size:
    """The size that is tried first."""
    return (1, _LENGTHS[0]) if signal else (_SIDES[0], _SIDES[0])


def settled(found: Found, likeliest: Candidate, stated: Input, given: bool) -> Input:
    """The input that was found, with its note; ``given``: an array of the user's showed it."""
    input = found.input
    if input.signal:
        input = replace(input, preprocess=input.preprocess.at(found.size))
    return replace(input, note=note_of(found, likeliest, stated, given))


def find_size(runs: Runs, model: str, input: Input, given: Size | None) -> tuple[Size, str]:
    """A size that passes through a network which does not say what it takes, and a note."""
    here = Candidate(input.channels, input.signal)
    found = find_input(runs, input, trials([here], None, [given] if given else []))
    if found is None:
        runs(input, sample(here.channels, *first_size(here.signal)))  # raises
        raise ModelError(f"{model} ran at no size tried. Give it: --input C,H,W")
    return found.size, note_of(found, here, input, False)


def note_of(found: Found, likeliest: Candidate, stated: Input, given: bool) -> str:
    """What is assumed, in words, after what was before; ``given``: an array had that shape."""
    channels, (height, width) = found.input.channels, found.size
    how = "as the array given has" if given else "with which the network runs"
    same = likeliest == Candidate(channels, found.input.signal)
    if found.input.signal:
        what = f"input unknown, signals of {channels}×{width} assumed, {how}"
    elif not same:
        what = f"input unknown, {channels}×{height}×{width} assumed, {how}"
    else:
        what = f"input size unknown, {height}×{width} assumed for the layer table"
    if stated.size:
        same = channels == likeliest.channels
        what = "" if same else f"number of input channels unknown, {channels} assumed, {how}"
    elif given and not found.input.signal:
        what = f"number of input channels unknown, {channels} assumed, {how}"
    return "; ".join(filter(None, [stated.note, what]))
