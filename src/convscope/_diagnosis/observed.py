"""One pass over labeled pictures: scores, and the mean activation of some channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress, class_count, match_labels
from convscope._models import Model, probabilities
from convscope._models.outputs import output_layer


@dataclass(frozen=True, eq=False)
class Observed:
    """What a network made of labeled pictures.

    - ``indices``: into the dataset; ``labels``: ``(N,)``, as indices of the outputs
    - ``scores``: ``(N, classes)`` before any softmax; ``chances``: the probabilities
    - ``pooled``: by layer, ``(N, C)``: means over positions; ``features``: the layer whose pooled
      activations place a picture among others
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    chances: NDArray[np.float64]
    pooled: dict[str, NDArray[np.float64]]
    features: str

    @property
    def answers(self) -> NDArray[np.int64]:
        """The class each picture is taken for."""
        return np.asarray(self.chances.argmax(1), np.int64)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return np.asarray(self.answers != self.labels, np.bool_)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of the class each picture is taken for."""
        return np.asarray(self.chances.max(1), np.float64)


def observe(feed: ImageLoader, layers: Sequence[Layer], progress: Progress) -> Observed:
    """Read everything that a diagnosis needs in one pass."""
    model = feed.model
    head = output_layer(model)
    features = _features(model, head)
    paths = list(dict.fromkeys([*(layer.path for layer in layers if layer.path != head), features]))
    rows: dict[str, list[NDArray[np.float64]]] = {path: [] for path in paths}
    scores, kept, labels = [], [], None
    for indices, batch in feed.batches(progress):
        found = model.activations(batch, [*paths, head])
        score = found[head].flatten(1)
        if labels is None:
            labels = match_labels(model, feed.dataset, class_count(score, model), "a diagnosis")
        for path in paths:
            flat = found[path].reshape(*found[path].shape[:2], -1).mean(2)
            rows[path].append(flat.cpu().double().numpy())
        scores.append(score.cpu().double())
        kept.append(indices)
    if labels is None or not kept:
        raise UsageError(f"No picture of {feed.dataset.name!r} could be read")
    every = np.concatenate([one.numpy() for one in scores])
    chances = np.concatenate([one.softmax(1).numpy() for one in scores])
    if np.allclose(probabilities(scores[0]).numpy(), scores[0].numpy(), atol=1e-6):
        chances = every  # the network's own probabilities
    where = np.concatenate(kept)
    return Observed(
        where,
        labels[where],
        every,
        chances,
        {path: np.concatenate(values) for path, values in rows.items()},
        features,
    )


def _features(model: Model, head: str) -> str:
    """The last layer before the scores that says more than they do."""
    before = []
    for layer in model.layers:
        if layer.path == head:
            break
        before.append(layer)
    classes = model.layers[head].channels
    rich = [la for la in before if la.shape and la.channels != classes and not la.container]
    return (rich or before or list(model.layers))[-1].path
