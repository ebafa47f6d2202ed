"""A trained network on real photographs: the published figures come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

CATS = {"Egyptian cat", "tiger cat", "tabby", "Siamese cat", "Persian cat"}


def test_squeezenet_knows_a_cat_and_a_cup(squeezenet: Any) -> None:
    data = pytest.importorskip("skimage.data")
    found = dict(squeezenet.predict(data.cat()))
    assert sum(p for name, p in found.items() if name in CATS) > 0.95
    assert squeezenet.predict(data.coffee(), top=1)[0] == (
        "espresso",
        pytest.approx(0.84, abs=0.01),
    )
    assert squeezenet.untrained_evidence() == ""


def test_squeezenets_convolution_is_recorded_before_its_in_place_relu(
    squeezenet: Any,
) -> None:
    data = pytest.importorskip("skimage.data")
    batch = squeezenet.prepare(data.cat())
    maps = squeezenet.activations(batch, ["features.0", "features.3.expand3x3"])
    conv = squeezenet.module.features[0]
    truth = torch.nn.functional.conv2d(batch.values, conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(maps["features.0"], truth.detach(), atol=1e-4, rtol=0)
    assert maps["features.0"].min() < 0
    assert maps["features.3.expand3x3"].min() < 0


def _accuracy(model: Any, folder: Path, every: int) -> tuple[float, float]:
    labels = json.loads((folder / "labels.json").read_text())[::every]
    best, among = 0, 0
    for start in range(0, len(labels), 25):
        some = labels[start : start + 25]
        ranks = model.logits([folder / one["file"] for one in some]).topk(5).indices
        right = ranks == torch.tensor([one["index"] for one in some])[:, None]
        best, among = best + int(right[:, 0].sum()), among + int(right.sum())
    return 100 * best / len(labels), 100 * among / len(labels)


def test_squeezenets_accuracy_on_every_twentieth_photograph(
    squeezenet: Any, real_data: Path
) -> None:
    best, among = _accuracy(squeezenet, real_data / "imagenet-samples", every=20)
    assert 50 <= best <= 78  # ± 2 standard errors of 64.3 % of 50
    assert 75 <= among <= 96


@pytest.mark.slow
def test_squeezenets_accuracy_on_the_thousand_photographs(squeezenet: Any, real_data: Path) -> None:
    best, among = _accuracy(squeezenet, real_data / "imagenet-samples", every=1)
    assert best == pytest.approx(64.3, abs=0.3)
    assert among == pytest.approx(85.5, abs=0.3)
