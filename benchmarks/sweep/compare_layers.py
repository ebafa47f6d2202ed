"""Every layer of a network, modules and functions, against recordings made without convscope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import plain_reference as plain
import torch
from networks import Network
from references import Digest, Reference, keras_reference, torch_reference
from torch import Tensor

import convscope as cs
from convscope._layers import Layer

MEGABYTES = 256  # of results that are recorded in one pass
TOLERANCE = 1e-3  # of the largest value, between an image of a batch and the image alone


@dataclass
class Layers:
    """What was found of each layer.

    - ``right``: paths; ``marked``: those of them that are said to be no map.
    - ``matched``: functions that an independent recording has, to the last bit.
    - ``refused`` and ``wrong``: by path, in words.
    """

    right: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)
    matched: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """For the table."""
        return {
            "right": len(self.right),
            "marked": len(self.marked),
            "matched": self.matched,
            "refused": len(self.refused),
            "refusals": Counter(self.refused.values()).most_common(5),
            "wrong": self.wrong,
        }


def compare_layers(network: Network, model: cs.Model, images: Tensor) -> Layers:
    """Compare raw results with the reference's, and the layout of a batch with an image alone's."""
    return _Comparison(network, model, images).run()


class _Comparison:
    def __init__(self, network: Network, model: cs.Model, images: Tensor) -> None:
        self.model, self.images = model, images[:1] if network.one_by_one else images
        self.layers = {layer.path: layer for layer in model.layers}
        keras = network.zoo.startswith("keras")
        independent = keras_reference if keras else torch_reference
        paths = [path for path, la in self.layers.items() if la.shape is not None]
        self._independent = partial(independent, model.module, paths=paths)
        self.reference: Reference = self._independent(self.images)
        self.found = Layers()

    def run(self) -> Layers:
        self._listed()
        for paths in self._chunks():
            raw = self._record(self.images, paths, raw=True)
            known = [path for path in paths if self._as_recorded(path, raw)]
            self._compare_standard(known, raw)
        return self.found

    def _listed(self) -> None:
        """What gives floats has an address, and what is said to give none gives none."""
        names = {name for la in self.layers.values() for name in ("", la.path, *la.aliases)}
        missing = [path for path in self.reference.modules if path not in names]
        if missing:  # what no image reaches need not be listed: weights, anchors
            other = self._independent(self.images.flip(0, 1) * 0.5).modules
            reached = [path for path in missing if other.get(path) != self.reference.modules[path]]
            self.found.wrong |= dict.fromkeys(reached, "is not listed")
        for path, layer in self.layers.items():
            if layer.shape is None and path in self.reference.modules:
                self.found.wrong[path] = "is said to return no floats"
            elif layer.shape is None:
                self.found.refused[path] = layer.refusal

    def _chunks(self) -> Iterator[list[str]]:
        """Paths of a part of the results each, to be kept at once."""
        chunk: list[str] = []
        size = 0
        for path, layer in self.layers.items():
            if layer.shape is None:
                continue
            chunk.append(path)
            size += 4 * len(self.images) * prod(layer.shape)
            if size > MEGABYTES * 2**20:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _record(self, images: Tensor, paths: Sequence[str], raw: bool) -> dict[str, Tensor]:
        """In one pass; where one is refused, each half, and so on."""
        if not paths:
            return {}
        torch.manual_seed(0)
        try:
            return self.model.activations(images, list(paths), raw=raw)
        except Exception as error:
            if len(paths) > 1:
                half = len(paths) // 2
                left = self._record(images, paths[:half], raw)
                return left | self._record(images, paths[half:], raw)
            if isinstance(error, cs.ConvscopeError):
                self.found.refused[paths[0]] = str(error)
            else:
                self.found.wrong[paths[0]] = f"raises {type(error).__name__}: {error}"[:200]
            return {}

    def _as_recorded(self, path: str, raw: dict[str, Tensor]) -> bool:
        """Whether the raw result is the reference's."""
        if path not in raw:
            return False
        own = Digest.of(raw[path])
        if path in self.reference.modules:
            if own != self.reference.modules[path]:
                self.found.wrong[path] = f"raw differs from a plain recording ({own.shape})"
                return False
        elif calls := self.reference.functions.get(plain.function_key(path)):
            if own not in calls:
                self.found.wrong[path] = f"raw is none of the {len(calls)} results of that function"
                return False
            self.found.matched += 1
        return True

    def _compare_standard(self, paths: Sequence[str], raw: dict[str, Tensor]) -> None:
        """Each image's part of a batch is what it gives alone, and made of the raw numbers."""
        for path in paths:
            if problem := self.layers[path].problem:
                self.found.refused[path] = problem
        paths = [path for path in paths if not self.layers[path].problem]
        together = self._record(self.images, paths, raw=False)
        problems: dict[str, str] = {}
        for path, standard in together.items():
            if not same_numbers(raw[path], standard):
                problems[path] = "in the standard layout it has other values"
        for number in range(len(self.images) if len(self.images) > 1 else 0):
            alone = self._record(self.images[number : number + 1], list(together), raw=False)
            for path, one in alone.items():
                if text := _difference(together[path], one, number, len(self.images)):
                    problems.setdefault(path, text)
        for path in together:
            if path in problems:
                self.found.wrong[path] = problems[path]
            elif path not in self.found.refused and path not in self.found.wrong:
                self._right(path, self.layers[path])

    def _right(self, path: str, layer: Layer) -> None:
        self.found.right.append(path)
        if layer.no_map:
            self.found.marked.append(path)


def _difference(together: Tensor, alone: Tensor, number: int, count: int) -> str:
    """How an image alone differs from its part of a batch, in words."""
    if len(together) != count or len(alone) != 1:
        return f"{len(together)} results of {count} images, {len(alone)} of one"
    if together[number].shape != alone[0].shape:
        return f"{tuple(together[number].shape)} in a batch and {tuple(alone[0].shape)} alone"
    if close(together[number], alone[0]):
        return ""
    gap = (together[number] - alone[0]).abs().max() / alone[0].abs().max().clamp_min(1e-12)
    return f"image {number} alone differs from the batch by {float(gap):.2g} of the largest"


def same_numbers(raw: Tensor, standard: Tensor) -> bool:
    """Whether ``standard`` is ``raw`` in the standard layout.

    The same numbers in the order of channels and tokens; of windows put back in their places, and
    of windows that were padded, only that all numbers are among the others (where each one belongs
    is what the tests are about).
    """
    if close(standard, raw):
        return True
    mine = standard.flatten(2) if standard.ndim > 2 else standard
    for dim in range(1, raw.ndim):
        tokens = raw.movedim(dim, -1)
        tokens = tokens.flatten(1, -2) if tokens.ndim > 2 else tokens
        if tokens.ndim == mine.ndim and close(mine, tokens[..., -mine.shape[-1] :]):
            return True
    known = raw.flatten().sort().values
    at = torch.searchsorted(known, standard.flatten().contiguous()).clamp(max=len(known) - 1)
    return standard.numel() <= raw.numel() and bool((known[at] == standard.flatten()).all())


def close(ours: Tensor, other: Tensor) -> bool:
    if ours.shape != other.shape:
        return False
    scale = float(other.abs().max()) if other.numel() else 0.0
    bound = TOLERANCE * max(scale, 1e-6)
    return torch.allclose(ours, other.float(), rtol=0, atol=bound, equal_nan=True)
