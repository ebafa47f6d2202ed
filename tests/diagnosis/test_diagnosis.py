"""Planted: a mislabeled subgroup, a known temperature, channels that go with errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._diagnosis import Diagnosis, Predictions, diagnose_classifier
from convscope._diagnosis.errors import _welch, differing_channels
from convscope._diagnosis.predictions import calibrate
from convscope._errors import DatasetError
from convscope._reports.diagnosis import DiagnosisReport

CLASSES = ["red", "green", "blue"]


class Seeing(nn.Module):
    """Channels 0–2 are the colors, 3 a gray corner, 4 to 7 mixtures; the classes are colors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.conv = nn.Conv2d(3, 8, 1)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.conv.weight.mul_(0.2)
            self.conv.weight[:3, :, 0, 0] = torch.eye(3)
            self.conv.weight[3] = 4.0
            self.conv.bias[:] = torch.tensor([0.0, 0, 0, -6.0, 0, 0, 0, 0])
            self.head.weight.zero_()
            self.head.weight[:, :3] = 12 * torch.eye(3)
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(x).relu()).amax((2, 3)))


class Labeled(list[Any]):
    classes = CLASSES


def _image(random: np.random.Generator, color: int, corner: bool) -> Image.Image:
    pixels = random.integers(0, 60, (16, 16, 3), dtype=np.uint8)
    pixels[..., color] = random.integers(150, 230, (16, 16))
    if corner:  # gray, and too dim to change the prediction
        pixels[:4, :4] = 150
        pixels[4:, :, color] = 250
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def mislabeled() -> Labeled:
    """Red images with a gray corner are labeled green; a few others are wrong at random."""
    random, found = np.random.default_rng(8), Labeled()
    for k in range(240):
        color = k % 3
        corner = color == 0 and k % 4 == 0
        label = 1 if corner else color
        if not corner and k % 24 == 7:
            label = int((color + random.integers(1, 3)) % 3)
        found.append((_image(random, color, corner), label))
    return found


@pytest.fixture(scope="module")
def diagnosis(mislabeled: Labeled) -> Diagnosis:
    model = cs.load(Seeing().eval(), preprocess=cs.Preprocess(size=(16, 16)), classes=CLASSES)
    return diagnose_classifier(model, mislabeled, "conv")


def test_the_mislabeled_subgroup_is_found(diagnosis: Diagnosis) -> None:
    planted = {k for k in range(240) if k % 3 == 0 and k % 4 == 0}
    group = diagnosis.groups[0]
    members = set(diagnosis.predictions.indices[group.members].tolist())
    assert len(members & planted) / len(planted | members) > 0.9
    assert (CLASSES[group.label], CLASSES[group.prediction]) == ("green", "red")
    assert group.error_rate > 0.9
    assert group.channels[0].address == "conv:3"  # the corner sets it apart
    assert group.channels[0].effect_size > 3
    said = diagnosis.suggestions()[0]
    assert said.startswith(f"Check the labels of {len(members)} images labeled green")


def test_the_channel_that_goes_with_errors_is_named(diagnosis: Diagnosis) -> None:
    """Among images labeled green, the red channel distinguishes the wrong ones."""
    listed = {one.address: one for one in diagnosis.channel_differences[1]}
    assert listed["conv:0"].effect_size > 2
    assert all(one.p_value < 0.05 for one in listed.values())


def test_confusion_and_accuracy_are_counted(diagnosis: Diagnosis, mislabeled: Labeled) -> None:
    model = diagnosis.loader.model
    truth = np.zeros((3, 3), int)
    for image, label in mislabeled:
        truth[label, CLASSES.index(model.predict(image, top=1)[0][0])] += 1
    np.testing.assert_array_equal(diagnosis.confusion, truth)
    assert diagnosis.accuracy == pytest.approx(np.trace(truth) / truth.sum())
    np.testing.assert_allclose(diagnosis.recall, np.diag(truth) / truth.sum(1))
    np.testing.assert_allclose(diagnosis.precision, np.diag(truth) / truth.sum(0))
    np.testing.assert_allclose(
        diagnosis.f1, 2 * np.diag(truth) / (truth.sum(0) + truth.sum(1)), rtol=1e-12
    )
    worst = diagnosis.most_confident_errors(5)
    assert all(diagnosis.predictions.wrong[row] for row in worst)
    sure = diagnosis.predictions.confidence[worst]
    assert (np.diff(sure) <= 0).all()
    assert diagnosis.confusions()[0][:2] == (1, 0)


# The numbers, computed another way


def _predictions(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Predictions:
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    return Predictions(np.arange(len(labels)), labels, probabilities, {}, "")


def test_the_temperature_that_was_planted_is_found() -> None:
    """Labels drawn from softmax(logits / 2.5): T = 2.5 makes the network calibrated."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 6, (6000, 4))
    honest = np.exp(logits / 2.5)
    honest /= honest.sum(1, keepdims=True)
    labels = np.array([random.choice(4, p=row) for row in honest])
    found = calibrate(_predictions(logits, labels))
    assert found.temperature == pytest.approx(2.5, rel=0.08)
    assert found.scaled_error < 0.025 < 0.1 < found.error


def test_the_calibration_error_is_that_of_its_definition() -> None:
    random = np.random.default_rng(1)
    predictions = _predictions(random.normal(0, 2, (500, 3)), random.integers(0, 3, 500))
    found = calibrate(predictions)
    error = 0.0
    for low, high in zip(found.edges, found.edges[1:], strict=False):
        inside = (predictions.confidence > low) & (predictions.confidence <= high)
        if inside.any():
            gap = abs(predictions.confidence[inside].mean() - (~predictions.wrong[inside]).mean())
            error += inside.mean() * gap
    assert found.error == pytest.approx(error)
    assert found.counts.sum() == 500


def test_p_values_are_those_of_welchs_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(2)
    a = random.normal(0, 1, (12, 6)) + np.linspace(0, 2, 6)
    b = random.normal(0, 2, (40, 6))
    effects, p_values = _welch(a, b)
    truth = stats.ttest_ind(a, b, equal_var=False).pvalue
    np.testing.assert_allclose(np.log10(p_values), np.log10(truth), atol=0.05)
    pooled = np.sqrt((11 * a.var(0, ddof=1) + 39 * b.var(0, ddof=1)) / 50)
    expected = (a.mean(0) - b.mean(0)) / pooled * (1 - 3 / (4 * 50 - 1))
    np.testing.assert_allclose(effects, expected)


def test_nothing_is_named_where_nothing_differs() -> None:
    """Noise, many channels: the correction lets one through in twenty such comparisons."""
    random, named = np.random.default_rng(3), 0
    for _ in range(40):
        values = {"a": random.normal(size=(80, 60)), "b": random.normal(size=(80, 40))}
        inside = random.permutation(80) < 25
        named += bool(differing_channels(values, inside, ~inside, 100))
    assert named <= 6


# The page, and what cannot be diagnosed


def test_the_page_holds_it_all(mislabeled: Labeled, tmp_path: Path) -> None:
    model = cs.load(Seeing().eval(), preprocess=cs.Preprocess(size=(16, 16)), classes=CLASSES)
    made = cs.diagnose(model, mislabeled, "conv", explain=2)
    text = made.save(tmp_path / "page.html").read_text(encoding="utf-8")
    for part in (
        "Suggestions",
        "Check the labels",
        "Confusion matrix",
        "Temperature scaling (Guo et al., 2017) with T =",
        "Most confident errors",
        "Failure groups",
        "green predicted as red",
        "Reliability diagram",
        "conv:3",
    ):
        assert part in text
    assert "http" not in text.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert made.to_dict()["groups"][0]["label"] == "green"
    assert len(made.attributions) == 2 or "captum" in made.attribution_note


def test_temperature_scaling_is_not_said_to_reduce_an_error_that_it_raises(
    diagnosis: Diagnosis,
) -> None:
    for scaled, verb in ((0.071, "changes"), (0.012, "reduces")):
        calibration = replace(diagnosis.calibration, error=0.047, scaled_error=scaled)
        report = DiagnosisReport(replace(diagnosis, calibration=calibration), {}, "")
        assert f"{verb} it to {scaled:.3f} on these images" in report.page.html()


def test_errors_are_one_line(mislabeled: Labeled) -> None:
    model = cs.load(Seeing().eval(), preprocess=cs.Preprocess(size=(16, 16)), classes=CLASSES)
    with pytest.raises(DatasetError, match="is not labeled, and a diagnosis needs labels"):
        cs.diagnose(model, [image for image, _ in mislabeled[:4]])
    other = Labeled(mislabeled[:6])
    other.classes = ["red", "green", "violet"]
    with pytest.raises(DatasetError, match="Classes do not match"):
        cs.diagnose(model, other)


def test_a_network_without_errors_says_so() -> None:
    random = np.random.default_rng(5)
    model = cs.load(Seeing().eval(), preprocess=cs.Preprocess(size=(16, 16)), classes=CLASSES)
    made = cs.diagnose(model, Labeled((_image(random, k % 3, False), k % 3) for k in range(12)))
    assert made.diagnosis.suggestions()[0].startswith("There are no errors to learn from")
    assert "There are none." in made.page.html()
