"""The diagnosis of a classifier: its measures, in numbers and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._diagnosis.errors import (
    ChannelDifference,
    FailureGroup,
    channels_of_errors,
    failure_groups,
)
from convscope._diagnosis.predictions import Calibration, Predictions, calibrate, predict_images
from convscope._loading import ImageLoader, ImagesLike, Progress, open_images
from convscope._models import ModelLike, load

MIN_CLASS_IMAGES = 5
"""Classes with fewer images are not ranked."""

_MAX_ERRORS = 24
_MISLABELED = 0.75  # error rate, purity and confidence of a group whose labels look wrong


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Where a classifier fails.

    Attributes:
        loader: The images.
        predictions: The predictions on them.
        classes: The names of the classes.
        confusion: Confusion matrix ``(classes, classes)`` of counts: rows are labels, columns are
            predictions.
        calibration: How well confidence matches accuracy.
        channel_differences: By class, the channels that differ between its wrong and its correct
            predictions.
        groups: Groups of similar errors.
    """

    loader: ImageLoader
    predictions: Predictions
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    calibration: Calibration
    channel_differences: dict[int, list[ChannelDifference]]
    groups: tuple[FailureGroup, ...]

    @property
    def accuracy(self) -> float:
        """The share of correct predictions, 0 to 1."""
        return float(1 - self.predictions.wrong.mean())

    @property
    def errors(self) -> int:
        """The number of wrong predictions."""
        return int(self.predictions.wrong.sum())

    @property
    def recall(self) -> NDArray[np.float64]:
        """Recall of each class ``(classes,)``; NaN for a class without images."""
        return _divide(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Precision of each class ``(classes,)``; NaN for a class that is never predicted."""
        return _divide(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 score of each class ``(classes,)``; NaN for one without images and predictions."""
        return _divide(2 * np.diag(self.confusion), self.confusion.sum(0) + self.confusion.sum(1))

    def most_confident_errors(self, limit: int) -> list[int]:
        """Return the wrong predictions with the highest confidence.

        Args:
            limit: The largest number to return.

        Returns:
            Rows of ``predictions``, the most confident first.
        """
        rows = np.flatnonzero(self.predictions.wrong)
        order = np.argsort(-self.predictions.confidence[rows], kind="stable")
        return [int(row) for row in rows[order][:limit]]

    def confusions(self) -> list[tuple[int, int, int]]:
        """Return the confusions, the most frequent first.

        Returns:
            ``[(label, predicted class, number of images), …]``.
        """
        off_diagonal = self.confusion - np.diag(np.diag(self.confusion))
        rows, columns = np.nonzero(off_diagonal)
        counts = off_diagonal[rows, columns]
        found = list(zip(rows.tolist(), columns.tolist(), counts.tolist(), strict=True))
        return sorted(found, key=lambda one: -one[2])

    def sentences(self) -> list[str]:
        """Return the main results.

        Returns:
            Two sentences or more: on accuracy, and on calibration.
        """
        accuracy = (
            f"{self.loader.model.title} has an accuracy of {self.accuracy:.1%} on "
            f"{len(self.predictions.labels):,} images: {self.errors:,} errors."
        )
        ranked = np.flatnonzero(self.confusion.sum(1) >= MIN_CLASS_IMAGES)
        if len(ranked) > 1:
            low, high = (ranked[int(f(self.recall[ranked]))] for f in (np.argmin, np.argmax))
            accuracy += (
                f" Recall is highest for {self.classes[high]} ({self.recall[high]:.0%}) and lowest "
                f"for {self.classes[low]} ({self.recall[low]:.0%})."
            )
        confidence = float(self.predictions.confidence.mean())
        direction = "over" if confidence > self.accuracy else "under"
        return [
            accuracy,
            f"It is {direction}confident by {abs(confidence - self.accuracy):.1%}: mean confidence "
            f"{confidence:.1%}, expected calibration error {self.calibration.error:.3f}.",
        ]

    def suggestions(self) -> list[str]:
        """Return what could be done about the errors.

        Returns:
            Sentences, the most important first; empty where nothing stands out.
        """
        if not self.errors:
            return ["There are no errors to learn from here: try harder images."]
        return [
            *self._check_labels(),
            *self._separate_classes(),
            *self._scale_temperature(),
            *self._inspect_channels(),
        ]

    def _check_labels(self) -> Iterator[str]:
        for group in self.groups:
            if min(group.error_rate, group.purity, group.confidence) >= _MISLABELED:
                label, prediction = self.classes[group.label], self.classes[group.prediction]
                yield (
                    f"Check the labels of {len(group.members)} images labeled {label}: they have "
                    f"similar features, {group.error_rate:.0%} of the {label} images with such "
                    f"features are misclassified, and they are predicted as {prediction} with a "
                    f"mean confidence of {group.confidence:.0%}. If the labels are right, the "
                    "training data lack images of this kind."
                )

    def _separate_classes(self) -> Iterator[str]:
        reverse = self.confusion.T
        both = {
            (a, b): n + int(reverse[a, b])
            for a, b, n in self.confusions()
            if n > reverse[a, b] or (n == reverse[a, b] and a < b)
        }
        for (a, b), count in sorted(both.items(), key=lambda one: -one[1])[:2]:
            if count >= max(5, 0.1 * self.errors):
                one, other = self.classes[a], self.classes[b]
                yield (
                    f"{one} is predicted as {other} {int(self.confusion[a, b])} times, and "
                    f"{other} as {one} {int(reverse[a, b])} times: {count / self.errors:.0%} of "
                    "all errors. More training images that distinguish the two would help most."
                )

    def _scale_temperature(self) -> Iterator[str]:
        found = self.calibration
        if found.error > 0.03 and found.scaled_error < 0.7 * found.error:
            yield (
                f"Apply temperature scaling with T = {found.temperature:.2f}: on these images the "
                f"expected calibration error falls from {found.error:.3f} to "
                f"{found.scaled_error:.3f}, and the predictions stay the same. Fit T on held-out "
                "images."
            )

    def _inspect_channels(self) -> Iterator[str]:
        for label, differences in list(self.channel_differences.items())[:3]:
            first = differences[0]
            direction = "higher" if first.effect_size > 0 else "lower"
            yield (
                f"Inspect `{first.address}`: its mean activation is "
                f"{abs(first.effect_size):.1f} standard deviations {direction} on misclassified "
                f"than on correctly classified {self.classes[label]} images."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON.

        Returns:
            A dictionary of texts, numbers, lists and dictionaries.
        """
        names, calibration = self.classes, self.calibration
        return {
            "model": self.loader.model.title,
            "images": self.loader.describe(),
            "accuracy": self.accuracy,
            "classes": list(names),
            "recall": _rounded(self.recall),
            "precision": _rounded(self.precision),
            "f1": _rounded(self.f1),
            "confusion": self.confusion.tolist(),
            "calibration": {
                "expected_calibration_error": calibration.error,
                "temperature": calibration.temperature,
                "error_after_temperature_scaling": calibration.scaled_error,
            },
            "most_confident_errors": list(
                map(self._error_to_dict, self.most_confident_errors(_MAX_ERRORS))
            ),
            "channels": {
                names[k]: list(map(_difference_to_dict, found))
                for k, found in self.channel_differences.items()
            },
            "groups": [self._group_to_dict(group) for group in self.groups],
            "suggestions": self.suggestions(),
            "damaged": self.loader.damaged,
        }

    def _id(self, row: int) -> str:
        return str(self.loader.dataset.ids[int(self.predictions.indices[row])])

    def _error_to_dict(self, row: int) -> dict[str, Any]:
        return {
            "id": self._id(row),
            "label": self.classes[self.predictions.labels[row]],
            "prediction": self.classes[self.predictions.predicted[row]],
            "confidence": float(self.predictions.confidence[row]),
        }

    def _group_to_dict(self, group: FailureGroup) -> dict[str, Any]:
        return {
            "label": self.classes[group.label],
            "prediction": self.classes[group.prediction],
            "purity": group.purity,
            "error_rate": group.error_rate,
            "confidence": group.confidence,
            "ids": [self._id(row) for row in group.members],
            "channels": list(map(_difference_to_dict, group.channels)),
        }


def diagnose_classifier(
    model: ModelLike,
    images: ImagesLike,
    layers: str | Iterable[str] | None = None,
    *,
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, of: None,
) -> Diagnosis:
    """Predict labeled images in one pass, and see where a classifier fails.

    Raises:
        DatasetError: The data are not labeled, or their classes do not match the model's.
    """
    loaded = load(model)
    chosen = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    loader = open_images(loaded, images, first=first, size=size)
    predictions = predict_images(loader, [layer for layer in chosen if not layer.refusal], progress)
    outputs = predictions.probabilities.shape[1]
    confusion = np.zeros((outputs, outputs), np.int64)
    np.add.at(confusion, (predictions.labels, predictions.predicted), 1)
    return Diagnosis(
        loader=loader,
        predictions=predictions,
        classes=tuple(loaded.class_name(k) for k in range(outputs)),
        confusion=confusion,
        calibration=calibrate(predictions),
        channel_differences=channels_of_errors(predictions),
        groups=tuple(failure_groups(predictions)),
    )


def _divide(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    nan = np.full(len(part), np.nan)
    return np.asarray(np.divide(part, whole, out=nan, where=whole > 0))


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


def _difference_to_dict(difference: ChannelDifference) -> dict[str, Any]:
    return {
        "address": difference.address,
        "effect_size": round(difference.effect_size, 4),
        "p_value": difference.p_value,
    }
