"""A classifier's predictions on labeled images, in one pass, and their calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import UsageError
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress, class_count, match_labels
from convscope._models import Model, probabilities
from convscope._models.layer_roles import output_layer

_BINS = 15


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a classifier on labeled images.

    Attributes:
        indices: Indices into the dataset, ``(N,)``.
        labels: Labels as indices of the model's outputs, ``(N,)``.
        probabilities: ``(N, classes)``.
        pooled: Mean activations over positions, ``(N, C)`` by layer path.
        feature_layer: The layer whose pooled activations are the features of an image.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    pooled: dict[str, NDArray[np.float64]]
    feature_layer: str

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted class of each image, ``(N,)``."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Whether each prediction is wrong, ``(N,)``."""
        return np.asarray(self.predicted != self.labels, np.bool_)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each predicted class, ``(N,)``."""
        return np.asarray(self.probabilities.max(1), np.float64)


def predict_images(loader: ImageLoader, layers: Sequence[Layer], progress: Progress) -> Predictions:
    """Predict every image, and record the mean activations of some layers in the same pass.

    Raises:
        DatasetError: The data are not labeled, or their classes do not match the model's.
        UsageError: No image could be read, or the model is not a classifier.
    """
    model = loader.model
    head = output_layer(model)
    features = _feature_layer(model, head)
    paths = list(dict.fromkeys([*(layer.path for layer in layers if layer.path != head), features]))
    pooled: dict[str, list[NDArray[np.float64]]] = {path: [] for path in paths}
    outputs, indices, labels = [], [], None
    for chosen, batch in loader.batches(progress):
        activations = model.activations(batch, [*paths, head])
        output = activations[head].flatten(1)
        if labels is None:
            labels = match_labels(model, loader.dataset, class_count(output, model), "a diagnosis")
        for path in paths:
            means = activations[path].reshape(*activations[path].shape[:2], -1).mean(2)
            pooled[path].append(means.cpu().double().numpy())
        outputs.append(output.cpu().double())
        indices.append(chosen)
    if labels is None:
        raise UsageError(f"No image of {loader.dataset.name!r} could be read")
    where = np.concatenate(indices)
    return Predictions(
        where,
        labels[where],
        _as_probabilities(outputs),
        {path: np.concatenate(values) for path, values in pooled.items()},
        features,
    )


def _as_probabilities(outputs: Sequence[Tensor]) -> NDArray[np.float64]:
    """Apply a softmax, unless the first batch shows that the outputs are probabilities already."""
    if not np.allclose(probabilities(outputs[0]).numpy(), outputs[0].numpy(), atol=1e-6):
        outputs = [one.softmax(1) for one in outputs]
    return np.concatenate([one.numpy() for one in outputs])


def _feature_layer(model: Model, head: str) -> str:
    """The last layer before the output that has another number of channels."""
    before = []
    for layer in model.layers:
        if layer.path == head:
            break
        before.append(layer)
    classes = model.layers[head].channels
    wide = [la for la in before if not la.refusal and la.channels != classes and not la.container]
    return (wide or before or list(model.layers))[-1].path


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well confidence matches accuracy (Guo et al., ICML 2017).

    Attributes:
        edges: Edges of the confidence bins, ``(16,)``.
        counts: Number of images in each bin, ``(15,)``.
        accuracy: Accuracy in each bin, ``(15,)``, NaN in empty bins.
        confidence: Mean confidence in each bin, ``(15,)``, NaN in empty bins.
        error: Expected calibration error: the mean distance of the two, weighted by counts.
        temperature: The temperature T of temperature scaling.
        scaled_error: The expected calibration error after temperature scaling.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]
    error: float
    temperature: float
    scaled_error: float


def calibrate(predictions: Predictions) -> Calibration:
    """Measure the calibration, and fit the temperature that corrects it best."""
    edges, counts, accuracy, confidence, error = _reliability(
        predictions.confidence, ~predictions.wrong
    )
    log_probabilities = np.log(np.clip(predictions.probabilities, 1e-12, None))
    temperature = _fit_temperature(log_probabilities, predictions.labels)
    scaled = _softmax(log_probabilities / temperature)
    scaled_error = _reliability(scaled.max(1), scaled.argmax(1) == predictions.labels)[-1]
    return Calibration(edges, counts, accuracy, confidence, error, temperature, scaled_error)


def _reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
    """Edges, counts, accuracy and mean confidence of the bins, and the calibration error."""
    edges = np.linspace(0, 1, _BINS + 1)
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.bincount(bins, weights=correct, minlength=_BINS) / counts
        mean = np.bincount(bins, weights=confidence, minlength=_BINS) / counts
    error = float(np.nansum(np.abs(accuracy - mean) * counts) / len(confidence))
    return edges, counts.astype(np.int64), accuracy, mean, error


def _fit_temperature(log_probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Minimize the negative log-likelihood by golden-section search over log T."""
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = _softmax(log_probabilities / math.exp(log_t))
        return -float(np.log(scaled[rows, labels] + 1e-300).mean())

    low, high, ratio = math.log(0.05), math.log(20), (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))
