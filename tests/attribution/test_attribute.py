"""``attribute`` as a whole: layers, channels, sentences, figures, files, atlases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._attribution.attribute import channel_attributions
from convscope._attribution.attribution_result import AttributionResult
from convscope._attribution.methods import METHODS
from convscope._errors import UsageError

pytest.importorskip("captum.attr", reason="captum does the attributions")
SIZE = (12, 16)


# The layer


class Pooled(nn.Module):
    """Maps of 8×8, pooled to 4×4, then maps of the classes themselves, pooled to scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.classes = nn.Conv2d(5, 2, 1)
        self.gap = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.gap(self.classes(self.pool(self.conv(x)))).flatten(1)


def test_the_default_layer_is_the_last_of_maps_that_is_neither_pooled_nor_of_the_classes() -> None:
    model = cs.load(Pooled().eval(), preprocess=cs.Preprocess(size=(8, 8)), input=(3, 8, 8))
    values = torch.rand(1, 3, 8, 8)
    for target, layer in ((0, "conv"), ("classes:1", "classes"), ("conv:2", "conv")):
        result = cs.attribute(model, values, target, method="gradcam")
        assert result.layer == layer, target
    named = cs.attribute(model, values, 0, method="gradcam", layer="pool")
    assert named["gradcam"].values.shape == (4, 4)


def test_a_network_without_maps_is_told_to_name_a_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    model = cs.load(network, input=(3, 2, 2))
    with pytest.raises(UsageError, match=r"has no layer of maps before '1'. Name a layer: --layer"):
        cs.attribute(model, torch.rand(1, 3, 2, 2), 0)


# Channels


def test_the_channel_that_carries_the_decision_is_named(patch: Any, image: Image.Image) -> None:
    result = cs.attribute(patch, image, 1, method="gradcam", channels=2, layer="conv")
    assert result.channels is not None
    first, second = result.channels.channels
    assert first.address == "conv:0"
    assert first.score_drop == pytest.approx(result.score)
    assert first.attribution == pytest.approx(result.score, rel=1e-4)
    assert (second.attribution, second.score_drop) == (0.0, 0.0)
    assert result.channels.sentence().startswith(
        "1 of 2 channels of conv carry 100% of the positive attribution (largest: 0); ablated "
        "together they lower the score by "
    )


def test_channels_are_ranked_and_ablated_as_by_hand(
    model: Any, network: Any, values: Tensor
) -> None:
    """The head is linear in the means of tanh(conv2): a channel set to 0 takes w · mean tanh."""
    result = cs.attribute(model, values, 1, method="gradcam", layer="conv2", channels=4)
    with torch.no_grad():
        maps = network.conv2(torch.tanh(network.conv1(values)))[0]
    weight = network.fc.weight[1].numpy()
    slope = weight[:, None, None] / maps[0].numel() * (1 - np.tanh(maps.numpy()) ** 2)
    attributions = (slope * maps.numpy()).sum((1, 2))
    drops = weight * np.tanh(maps.numpy()).mean((1, 2))
    order = np.argsort(-np.abs(attributions))[:4]
    listed = result.channels
    assert listed is not None
    assert [one.address for one in listed.channels] == [f"conv2:{k}" for k in order]
    for one, k in zip(listed.channels, order, strict=True):
        assert one.attribution == pytest.approx(float(attributions[k]), rel=1e-3, abs=1e-6)
        assert one.score_drop == pytest.approx(float(drops[k]), rel=1e-3, abs=1e-6)
    positive = [k for k in order if attributions[k] > 0]
    assert listed.joint_score_drop == pytest.approx(float(drops[positive].sum()), rel=1e-3)
    assert listed.positive_sum == pytest.approx(
        float(attributions[attributions > 0].sum()), rel=1e-3
    )
    assert listed.channel_count == 6


def test_channel_attributions_are_the_same_for_all_channels(model: Any, values: Tensor) -> None:
    name, sums = channel_attributions(model, values, "conv2", "bee")
    result = cs.attribute(model, values, 1, method="gradcam", layer="conv2", channels=6)
    assert name == "bee"
    assert sums.shape == (6,)
    assert result.channels is not None
    for one in result.channels.channels:
        channel = int(one.address.rpartition(":")[2])
        assert one.attribution == pytest.approx(float(sums[channel]), rel=1e-6)
        assert one.values.sum() == pytest.approx(float(sums[channel]), rel=1e-4, abs=1e-7)


def test_channels_of_a_dense_layer_have_one_position(model: Any, values: Tensor) -> None:
    name, sums = channel_attributions(model, values, "fc", 2)
    truth = np.zeros(4)
    truth[2] = float(model.logits(values)[0, 2])
    np.testing.assert_allclose(sums, truth, rtol=1e-5)
    assert name == "cat"


def test_a_class_without_evidence_has_no_positive_channel(patch: Any, image: Image.Image) -> None:
    result = cs.attribute(patch, image, 0, method="gradcam", channels=2, layer="conv")
    assert result.channels is not None
    assert result.channels.sentence() == "no listed channel of conv has a positive attribution"
    assert result.channels.joint_score_drop == 0


# Results


def test_the_best_map_is_the_one_whose_deletion_lowers_the_score_most(
    patch: Any, image: Image.Image
) -> None:
    result = cs.attribute(patch, image, 1, layer="conv")
    gains = {one.method: one.deletion.top - one.deletion.control for one in result.maps}
    assert result.best.method == min(gains, key=lambda method: gains[method])
    text = result.sentence()
    assert text.startswith(f"{result.input.name}: class 1 (100%), score ")
    assert f"of the best map ({result.best.title})" in text
    assert repr(result) == f"AttributionResult({text})"
    assert [line.partition(":")[0] for line in result.sentences()] == [
        method.title for method in METHODS.values()
    ]


def test_the_same_call_gives_the_same_numbers(model: Any, values: Tensor) -> None:
    settings: dict[str, Any] = {"channels": 2, "randomization_test": True, "seed": 7}
    first, second = (cs.attribute(model, values, 1, **settings) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    for method in METHODS:
        np.testing.assert_array_equal(first[method].values, second[method].values)


def test_every_step_is_reported(model: Any, values: Tensor) -> None:
    steps: list[str] = []
    methods = ["occlusion", "gradcam"]
    cs.attribute(
        model, values, method=methods, channels=1, randomization_test=True, on_step=steps.append
    )
    assert steps == ["occlusion", "gradcam", "randomized parameters", "channels"]


def test_the_figure_states_what_it_shows(patch: Any, image: Image.Image, tmp_path: Path) -> None:
    result: AttributionResult = cs.attribute(
        patch, image, 1, layer="conv", channels=2, randomization_test=True
    )
    sheet = result.sheet(theme="dark")
    text = "\n".join([sheet.title, sheet.description])
    for part in (
        "attribution of class 1",
        "model Patch",
        "red raises the score of class 1, blue lowers it",
        "completeness gap",
        "layer conv",
        "baseline: zero (black)",
    ):
        assert part in text
    labels = [tile.label for tile in sheet.sections[0].tiles]
    assert labels == ["preprocessed input", *(method.title for method in METHODS.values())]
    assert [s.heading for s in sheet.sections[1:3]] == [
        "channels of conv, gradient × activation; change in score if ablated",
        "Grad-CAM, parameter randomization test",
    ]
    assert result.save(tmp_path / "attribution.png").stat().st_size


def test_maps_are_saved_as_arrays_and_numbers_as_json(
    model: Any, values: Tensor, tmp_path: Path
) -> None:
    result = cs.attribute(model, values, 2, layer="conv2", channels=2, randomization_test=True)
    path = result.save(tmp_path / "new" / "maps.npz")
    with np.load(path) as arrays:
        assert set(arrays) == set(METHODS)
        for method in METHODS:
            np.testing.assert_array_equal(arrays[method], result[method].values)
    assert [file.name for file in path.parent.iterdir()] == ["maps.npz"]
    stored = json.loads(json.dumps(result.to_dict()))
    assert (stored["target"], stored["layer"], stored["baseline"]) == ("cat", "conv2", "zero")
    for one, read in zip(result.maps, stored["methods"], strict=True):
        assert read["deletion_score"] == one.deletion.top
        assert read["deletion_control_score"] == one.deletion.control
        assert (read["completeness_gap"] is None) == (one.method != "integrated_gradients")
        assert list(read["parameter_randomization"]) == [
            "fc randomized",
            "last 2 layers randomized",
            "all 3 layers randomized",
        ]
    assert len(stored["channels"]["listed"]) == 2
    assert cs.attribute(model, values, 2, method="gradcam").to_dict()["channels"] is None


def test_fine_maps_are_drawn_as_means_of_blocks(patch: Any, image: Image.Image) -> None:
    result = cs.attribute(patch, image, 1, method="occlusion", layer="conv", size=32)
    assert not any("means of blocks" in line for line in result.sheet().lines)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    large = cs.load(network, preprocess=cs.Preprocess(size=(64, 48)), input=(3, 64, 48))
    sheet = cs.attribute(large, image, 1, method="gradient_x_input").sheet()
    assert any("drawn as means of blocks, 32 a side" in line for line in sheet.lines)


# With an atlas


def test_an_atlas_shows_exemplars_of_the_channels(patch: Any, model: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    (tmp_path / "photos").mkdir()
    for k in range(9):
        pixels = random.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    cs.scan(model, tmp_path / "photos", tmp_path / "atlas", "conv1", top=8)
    image = tmp_path / "photos" / "3.png"
    result = cs.attribute(model, image, 2, method="gradcam", channels=2, atlas=tmp_path / "atlas")
    assert result.layer == "conv1"  # the deepest that the atlas has
    assert result.channels is not None
    sheet = result.sheet()
    headings = [section.heading for section in sheet.sections]
    named = [one.address for one in result.channels.channels]
    assert headings[-2:] == [
        f"{unit}: highest mean activation among 9 dataset images" for unit in named
    ]
    atlas = cs.open_atlas(tmp_path / "atlas")
    labels = [tile.label for tile in sheet.sections[-2].tiles]
    assert labels == [Path(one.id).stem for one in atlas[named[0]].top("mean")]
    elsewhere = cs.attribute(
        model, image, 2, method="gradcam", layer="conv2", channels=2, atlas=atlas
    )
    assert not any("highest mean" in section.heading for section in elsewhere.sheet().sections)
    with pytest.raises(UsageError, match="The atlas is of Smooth, not of Patch"):
        cs.attribute(patch, image, 1, channels=1, atlas=atlas)
