"""Two networks on the same pictures: answers, how alike their layers are, which channels pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress
from convscope._models import Model, probabilities
from convscope._similarity import Match, cka, match

_SAME = 1e-5  # of a layer's largest value: rounding, not a difference


@dataclass(frozen=True, eq=False)
class Side:
    """One network on the pictures.

    - ``pooled``: by path, ``(C, N)``, means over positions; ``chances``: ``(N, classes)``
    """

    model: Model
    layers: tuple[Layer, ...]
    pooled: dict[str, NDArray[np.float64]]
    chances: NDArray[np.float64]

    def answer(self, row: int) -> str:
        """What picture ``row`` is taken for."""
        return self.model.class_name(int(self.chances[row].argmax()))


def watch(model: Model, source: ImageLoader, layers: Sequence[Layer], progress: Progress) -> Side:
    """One pass over the pictures."""
    rows: dict[str, list[NDArray[np.float64]]] = {layer.path: [] for layer in layers}
    chances = []
    own = ImageLoader(model, source.dataset, source.indices, source.size, damaged=source.damaged)
    for _, batch in own.batches(progress):
        for path, maps in model.activations(batch, list(rows)).items():
            flat = maps.reshape(*maps.shape[:2], -1).mean(2)
            rows[path].append(flat.cpu().double().numpy())
        chances.append(probabilities(model.logits(batch)).cpu().double().numpy())
    if not chances:
        raise UsageError(f"No picture of {source.dataset.name!r} could be read")
    pooled = {path: np.concatenate(found).T for path, found in rows.items()}
    return Side(model, tuple(layers), pooled, np.concatenate(chances))


@dataclass(frozen=True, eq=False)
class Pair:
    """A layer of each network, channel by channel.

    - ``match``: which channel goes with which, by correlation over the pictures; ``None`` where
      there are too few of them
    - ``moved``: by channel of the same number, the largest difference over the pictures as a share
      of the layer's largest value; ``None`` for layers that are not the same one of both networks
    """

    left: Layer
    right: Layer
    match: Match | None
    moved: NDArray[np.float64] | None

    @property
    def changed(self) -> list[int]:
        """The channels that answer differently, the most changed first."""
        if self.moved is None:
            return []
        order = np.argsort(-self.moved, kind="stable")
        return [int(k) for k in order if self.moved[k] > _SAME]

    @property
    def permuted(self) -> int:
        """How many channels have gone to another place: paired with another number, and closely."""
        if self.match is None:
            return 0
        close = self.match.correlations > 0.9
        return int((close & (self.match.left != self.match.right)).sum())


def paired(a: Side, b: Side, alike: NDArray[np.float64] | None) -> list[Pair]:
    """Layers of the same path; where hardly any are, each with the one most ``alike``."""
    shared = [la for la in a.layers if la.path in b.pooled]
    partners = [(la, next(lb for lb in b.layers if lb.path == la.path)) for la in shared]
    if len(partners) < min(len(a.layers), len(b.layers)) / 2:
        best = [] if alike is None else np.nan_to_num(alike, nan=-1).argmax(1)
        partners = [(la, b.layers[k]) for la, k in zip(a.layers, best, strict=False)]
    return [_pair(a, b, left, right) for left, right in partners]


def _pair(a: Side, b: Side, left: Layer, right: Layer) -> Pair:
    rows, others = a.pooled[left.path], b.pooled[right.path]
    moved = None
    if left.path == right.path and rows.shape == others.shape:
        scale = max(float(np.abs(rows).max()), float(np.abs(others).max()), 1e-30)
        moved = np.abs(rows - others).max(1) / scale
    found = match(rows, others) if rows.shape[1] >= 3 else None
    return Pair(left, right, found, moved)


def alignment(a: Side, b: Side) -> NDArray[np.float64] | None:
    """Linear CKA of every layer with every layer, ``(layers of a, layers of b)``."""
    if len(a.chances) < 4:
        return None
    return np.array(
        [[cka(rows, others) for others in b.pooled.values()] for rows in a.pooled.values()]
    )
