"""The responses of two networks to the same images, and how similar they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress
from convscope._models import Model, probabilities
from convscope._similarity import Match, cka, match

_TOLERANCE = 1e-5  # of a layer's largest value: smaller differences are rounding
_MIN_MATCHED_IMAGES = 3
_MIN_CKA_IMAGES = 4
_CLOSE_MATCH = 0.9


@dataclass(frozen=True, eq=False)
class Responses:
    """The responses of one network to ``N`` images.

    Attributes:
        model: The network.
        layers: The layers compared.
        pooled: Mean activations over positions, ``(C, N)`` by layer path.
        probabilities: ``(N, classes)``.
    """

    model: Model
    layers: tuple[Layer, ...]
    pooled: dict[str, NDArray[np.float64]]
    probabilities: NDArray[np.float64]

    def prediction(self, row: int) -> str:
        """Return the name of the class predicted for an image.

        Args:
            row: The image's row.

        Returns:
            The class.
        """
        return self.model.class_name(int(self.probabilities[row].argmax()))

    def confidence(self, row: int) -> float:
        """Return the probability of the predicted class.

        Args:
            row: The image's row.

        Returns:
            The probability, 0 to 1.
        """
        return float(self.probabilities[row].max())


def record_responses(
    model: Model, loader: ImageLoader, layers: Sequence[Layer], progress: Progress
) -> Responses:
    """Pass the loader's images through a model, with the model's own preprocessing."""
    pooled: dict[str, list[NDArray[np.float64]]] = {layer.path: [] for layer in layers}
    outputs = []
    own = ImageLoader(model, loader.dataset, loader.indices, loader.size, damaged=loader.damaged)
    for _, batch in own.batches(progress):
        for path, maps in model.activations(batch, list(pooled)).items():
            means = maps.reshape(*maps.shape[:2], -1).mean(2)
            pooled[path].append(means.cpu().double().numpy())
        outputs.append(probabilities(model.logits(batch)).cpu().double().numpy())
    if not outputs:
        raise UsageError(f"No image of {loader.dataset.name!r} could be read")
    joined = {path: np.concatenate(batches).T for path, batches in pooled.items()}
    return Responses(model, tuple(layers), joined, np.concatenate(outputs))


@dataclass(frozen=True, eq=False)
class LayerPair:
    """A layer of each network, compared channel by channel.

    Attributes:
        a: The layer of the first network.
        b: The layer of the second network.
        match: The channels that correspond, by correlation over the images; ``None`` for fewer
            than three images.
        change: By channel ``(C,)``, the largest difference over the images, as a share of the
            layer's largest value; ``None`` where the layers are not the same one of both networks.
    """

    a: Layer
    b: Layer
    match: Match | None
    change: NDArray[np.float64] | None

    @property
    def changed_channels(self) -> list[int]:
        """The channels that respond differently, the most changed first."""
        if self.change is None:
            return []
        order = np.argsort(-self.change, kind="stable")
        return [int(k) for k in order if self.change[k] > _TOLERANCE]

    @property
    def permuted(self) -> int:
        """The number of channels that match one of another index closely."""
        if self.match is None:
            return 0
        close = self.match.correlations > _CLOSE_MATCH
        return int((close & (self.match.left != self.match.right)).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return the pair for JSON.

        Returns:
            Paths, changed channels, and the matching channel of the second layer by channel.
        """
        return {
            "a": self.a.path,
            "b": self.b.path,
            "changed_channels": self.changed_channels,
            "match": self.match and self.match.right[np.argsort(self.match.left)].tolist(),
        }


def pair_layers(
    a: Responses, b: Responses, similarity: NDArray[np.float64] | None
) -> list[LayerPair]:
    """Pair layers of the same path; where most have none, each with the most similar one."""
    by_path = {layer.path: layer for layer in b.layers}
    pairs = [(layer, by_path[layer.path]) for layer in a.layers if layer.path in by_path]
    if len(pairs) < min(len(a.layers), len(b.layers)) / 2:
        best = [] if similarity is None else np.nan_to_num(similarity, nan=-1).argmax(1)
        pairs = [(layer, b.layers[k]) for layer, k in zip(a.layers, best, strict=False)]
    return [_pair(a, b, one, other) for one, other in pairs]


def _pair(a: Responses, b: Responses, one: Layer, other: Layer) -> LayerPair:
    left, right = a.pooled[one.path], b.pooled[other.path]
    change = None
    if one.path == other.path and left.shape == right.shape:
        scale = max(float(np.abs(left).max()), float(np.abs(right).max()), 1e-30)
        change = np.abs(left - right).max(1) / scale
    found = match(left, right) if left.shape[1] >= _MIN_MATCHED_IMAGES else None
    return LayerPair(one, other, found, change)


def layer_similarity(a: Responses, b: Responses) -> NDArray[np.float64] | None:
    """Return linear CKA of all layers ``(layers of a, layers of b)``; ``None`` for few images."""
    if len(a.probabilities) < _MIN_CKA_IMAGES:
        return None
    return np.array(
        [[cka(left, right) for right in b.pooled.values()] for left in a.pooled.values()]
    )
