"""Measures of predictions against their definitions, written out image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._diagnosis import Diagnosis, Predictions
from convscope._diagnosis.diagnosis import diagnose_classifier
from convscope._diagnosis.predictions import calibrate


def predictions(values: NDArray[np.float64], labels: NDArray[np.int64]) -> Predictions:
    return Predictions(np.arange(len(labels)), labels, values, {}, "none")


@st.composite
def random_predictions(draw: st.DrawFn) -> Predictions:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, classes = draw(st.integers(1, 80)), draw(st.integers(2, 6))
    scores = random.normal(size=(images, classes)) * draw(st.sampled_from([0.1, 1.0, 8.0]))
    values = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return predictions(values, random.integers(0, classes, images))


@given(random_predictions())
@settings(max_examples=80, deadline=None)
def test_a_reliability_diagram_is_that_of_its_definition(made: Predictions) -> None:
    found = calibrate(made)
    assert found.counts.sum() == len(made.labels)
    error = 0.0
    for k in range(15):
        low, high = found.edges[k], found.edges[k + 1]
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(made.probabilities, made.labels, strict=True)
            if low < row.max() <= high
        ]
        assert found.counts[k] == len(inside)
        if not inside:
            assert np.isnan(found.accuracy[k])
            assert np.isnan(found.confidence[k])
            continue
        confidence, correct = (float(np.mean(side)) for side in zip(*inside, strict=True))
        assert found.accuracy[k] == pytest.approx(correct)
        assert found.confidence[k] == pytest.approx(confidence)
        error += len(inside) / len(made.labels) * abs(correct - confidence)
    assert found.error == pytest.approx(error)


@given(random_predictions())
@settings(max_examples=30, deadline=None)
def test_no_temperature_of_a_grid_is_more_likely(made: Predictions) -> None:
    found = calibrate(made).temperature
    assert 0.049 <= found <= 20.1

    def loss(temperature: float) -> float:
        total = 0.0
        for row, label in zip(made.probabilities, made.labels, strict=True):
            powers = row ** (1 / temperature)
            total -= np.log(max(powers[label] / powers.sum(), 1e-300))
        return total / len(made.labels)

    best = min(loss(t) for t in np.geomspace(0.05, 20, 60))
    assert loss(found) <= best + 1e-3


def test_a_calibrated_classifier_has_a_temperature_of_one() -> None:
    random = np.random.default_rng(3)
    values = random.dirichlet([0.6, 0.6, 0.6], size=6000)
    labels = np.array([random.choice(3, p=row) for row in values])
    found = calibrate(predictions(values, labels))
    assert found.temperature == pytest.approx(1, abs=0.06)
    assert found.error < 0.03


class Fixed(nn.Module):
    """The output is the mean color, times a scale, with or without a softmax."""

    def __init__(self, scale: float, softmax: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1, bias=False)
        self.head = nn.Linear(5, 3, bias=False)
        self.softmax = nn.Softmax(1) if softmax else nn.Identity()
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:3, :, 0, 0] = torch.eye(3)
            self.head.weight.zero_()
            self.head.weight[:, :3] = scale * torch.eye(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.head(self.conv(x).mean((2, 3))))


class Labeled(list[Any]):
    classes = ("red", "green", "blue")


def images(pairs: list[tuple[int, int]]) -> Labeled:
    """One image per (color, label); the brightness of the color differs from image to image."""
    found = Labeled()
    for k, (color, label) in enumerate(pairs):
        pixels = np.full((8, 8, 3), 40, np.uint8)
        pixels[..., color] = 100 + k
        found.append((Image.fromarray(pixels), label))
    return found


def diagnosed(pairs: list[tuple[int, int]], scale: float = 8, softmax: bool = False) -> Diagnosis:
    model = cs.load(
        Fixed(scale, softmax).eval(),
        preprocess=cs.Preprocess(size=(8, 8)),
        classes=list(Labeled.classes),
    )
    return diagnose_classifier(model, images(pairs))


PAIRS = [(0, 0)] * 6 + [(0, 1)] * 5 + [(1, 1)] * 7 + [(1, 0)] * 6 + [(2, 2)] * 9 + [(2, 0)] * 2


def test_recall_precision_and_f1_are_counted_class_by_class() -> None:
    found = diagnosed(PAIRS)
    for k in range(3):
        right = sum(color == label == k for color, label in PAIRS)
        labeled = sum(label == k for _, label in PAIRS)
        predicted = sum(color == k for color, _ in PAIRS)
        assert found.recall[k] == pytest.approx(right / labeled)
        assert found.precision[k] == pytest.approx(right / predicted)
        both = 2 / (labeled / right + predicted / right)
        assert found.f1[k] == pytest.approx(both)
    assert found.errors == 13
    assert found.accuracy == pytest.approx(22 / 35)


def test_a_class_that_is_absent_has_no_recall_and_one_never_predicted_no_precision() -> None:
    found = diagnosed([(0, 0)] * 4 + [(0, 1)] * 3)
    assert np.isnan(found.recall[2])
    assert found.recall[1] == 0
    assert np.isnan(found.precision[1:]).all()
    assert np.isnan(found.f1[2])
    assert found.f1[1] == 0


def test_confusions_are_listed_most_frequent_first() -> None:
    assert diagnosed(PAIRS).confusions() == [(0, 1, 6), (1, 0, 5), (0, 2, 2)]


def test_the_most_confident_errors_are_the_brightest_wrong_images() -> None:
    found = diagnosed(PAIRS)
    wrong = [k for k, (color, label) in enumerate(PAIRS) if color != label]
    assert found.most_confident_errors(4) == sorted(wrong, reverse=True)[:4]
    assert found.most_confident_errors(0) == []
    assert sorted(found.most_confident_errors(99)) == wrong


def test_outputs_that_are_probabilities_get_no_second_softmax() -> None:
    scores, shares = diagnosed(PAIRS), diagnosed(PAIRS, softmax=True)
    np.testing.assert_allclose(
        shares.predictions.probabilities, scores.predictions.probabilities, atol=1e-6
    )


def test_sentences_name_the_extremes_of_recall_and_the_direction_of_confidence() -> None:
    first, second = diagnosed(PAIRS, scale=60).sentences()
    assert "accuracy of 62.9% on 35 images: 13 errors" in first
    assert "highest for blue (100%) and lowest for red (43%)" in first
    assert second.startswith("It is overconfident by ")
    assert diagnosed(PAIRS, scale=0.1).sentences()[1].startswith("It is underconfident by ")


def test_two_classes_predicted_as_each_other_are_suggested() -> None:
    told = " ".join(diagnosed(PAIRS).suggestions())
    assert (
        "red is predicted as green 6 times, and green as red 5 times: 85% of all errors" in told
        or "green is predicted as red 5 times, and red as green 6 times: 85% of all errors" in told
    )
