"""A network with four planted faults: scanned, checked, and found to have these and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs
from convscope._health import ChannelHealth, Finding, check_health

DEAD, COPIED, COPY, SCALED, SCALED_COPY, RED = 4, 0, 1, 2, 3, 5
CHANNELS, SIDE, EACH = 12, 20, 40
CLASSES = ("blue", "green", "red")
SCALE = 2.5


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray noise, each class with a tint of its own."""
    folder = tmp_path_factory.mktemp("tints")
    rng = np.random.default_rng(0)
    for name, color in zip(CLASSES, (2, 1, 0), strict=True):
        (folder / name).mkdir()
        for k in range(EACH):
            pixels = rng.uniform(60, 160, (SIDE, SIDE, 3)) * rng.uniform(0.6, 1)
            pixels[:, :, color] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{k}.png")
    return folder


def planted() -> nn.Module:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, 3),
    )
    conv = network[0]
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight -= conv.weight.mean((2, 3), keepdim=True)  # blind to the tints
        conv.bias.zero_()
        conv.weight[COPY] = conv.weight[COPIED]
        conv.weight[SCALED_COPY] = SCALE * conv.weight[SCALED]
        conv.bias[SCALED], conv.bias[SCALED_COPY] = 0.02, 0.02 * SCALE
        conv.bias[DEAD] = -10
        conv.weight[RED] = torch.tensor([1.0, -0.5, -0.5]).view(3, 1, 1) / 9
        conv.bias[RED] = -0.1
    return network


def found_by(network: nn.Module, photographs: Path, out: Path, *layers: str) -> ChannelHealth:
    model = cs.load(network, preprocess=cs.Preprocess(size=(SIDE, SIDE)))
    return check_health(cs.scan(model, photographs, out, layers or None))


@pytest.fixture(scope="module")
def health(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> ChannelHealth:
    return found_by(planted(), photographs, tmp_path_factory.mktemp("planted") / "atlas")


def one(health: ChannelHealth, kind: str) -> Finding:
    (finding,) = health.of_kind(kind)
    return finding


def test_exactly_what_was_planted(health: ChannelHealth) -> None:
    assert [(found.kind, found.layer) for found in health.findings] == [
        ("dead", "0"),
        ("duplicate", "0"),
        ("selective", "0"),
    ]
    assert one(health, "dead").channels == (DEAD,)
    assert one(health, "selective").channels == (RED,)
    groups = {frozenset([row["keep"], *row["duplicates"]]) for row in one(health, "duplicate").rows}
    assert groups == {frozenset([COPIED, COPY]), frozenset([SCALED, SCALED_COPY])}


def test_the_numbers_are_those_planted(health: ChannelHealth) -> None:
    rows = {row["keep"]: row for row in one(health, "duplicate").rows}
    assert rows[SCALED_COPY]["duplicates"] == [SCALED]
    assert rows[SCALED_COPY]["scales"] == [pytest.approx(1 / SCALE, rel=1e-4)]
    assert all(row["correlation"] == pytest.approx(1, abs=1e-6) for row in rows.values())
    assert all(row["cosine"] == pytest.approx(1, abs=1e-3) for row in rows.values())
    row = one(health, "selective").rows[0]
    assert (row["class"], row["images of the class"], row["images"]) == ("red", EACH, 3 * EACH)
    assert row["g"] > 4


def test_the_sentences_name_units_and_numbers(health: ChannelHealth) -> None:
    dead = one(health, "dead").sentence
    assert dead.startswith("`0:4` is dead: above zero at no position of 120 images (highest value")
    assert dead.endswith("so the ReLU that follows, `1`, outputs only zero.")
    assert one(health, "duplicate").sentence.startswith(
        "2 of 12 channels of `0` repeat others, in 2 groups: correlation 1.000 over 120"
    )
    assert one(health, "selective").sentence.startswith("`0:5` responds to “red”: mean ")


def test_after_the_relu_the_same_is_found(photographs: Path, tmp_path: Path) -> None:
    health = found_by(planted(), photographs, tmp_path / "atlas", "kind=relu")
    assert [found.kind for found in health.findings] == ["dead", "duplicate", "selective"]
    assert one(health, "dead").channels == (DEAD,)
    assert one(health, "selective").channels == (RED,)
    assert set(one(health, "duplicate").channels) == {COPIED, COPY, SCALED, SCALED_COPY}


def test_a_copy_with_another_bias_is_no_duplicate(photographs: Path, tmp_path: Path) -> None:
    """Their means before the ReLU are equal but for a constant; what comes out of it is not."""
    network = planted()
    with torch.no_grad():
        network[0].bias[COPY] = -0.25  # type: ignore[index, operator]
    rows = one(found_by(network, photographs, tmp_path / "atlas"), "duplicate").rows
    assert [{row["keep"], *row["duplicates"]} for row in rows] == [{SCALED, SCALED_COPY}]


def test_without_a_relu_a_low_channel_is_not_dead(photographs: Path, tmp_path: Path) -> None:
    network = planted()
    network[1] = nn.GELU()
    health = found_by(network, photographs, tmp_path / "atlas")
    assert [found.kind for found in health.findings] == ["duplicate", "selective"]
    assert "Dead and always active channels of `0`" in health.not_assessed()[0]


def test_a_network_without_defects_is_reported_as_such(photographs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), nn.ReLU())
    with torch.no_grad():
        network[0].weight -= network[0].weight.mean((2, 3), keepdim=True)  # type: ignore[operator]
        network[0].bias.zero_()  # type: ignore[operator, union-attr]
    model = cs.load(network, preprocess=cs.Preprocess(size=(SIDE, SIDE)))
    report = cs.report(cs.scan(model, photographs, tmp_path / "atlas"))
    assert report.findings == []
    assert report.page.title == "No defect found in the channels of Sequential"
    assert (
        "No channel is dead, nearly dead, constant or a duplicate of another."
        in report.sentences()[1]
    )


def test_what_is_not_finite_comes_first(photographs: Path, tmp_path: Path) -> None:
    network = planted()
    with torch.no_grad():
        network[0].weight[7] = float("nan")  # type: ignore[index, operator]
        network[0].bias[8] = float("inf")  # type: ignore[index, operator]
    finding = found_by(network, photographs, tmp_path / "atlas", "1").findings[0]
    assert (finding.kind, finding.channels) == ("not finite", (7, 8))
    assert finding.sentence.startswith("2 of 12 channels of `1` are not finite: 38,880 NaN values")


def test_means_of_all_images_give_the_same_whatever_could_not_be_read(
    photographs: Path, tmp_path: Path, health: ChannelHealth
) -> None:
    shutil.copytree(photographs, tmp_path / "photographs")
    (tmp_path / "photographs" / "green" / "broken.png").write_bytes(b"no picture")
    model = cs.load(planted(), preprocess=cs.Preprocess(size=(SIDE, SIDE)))
    atlas = cs.scan(model, tmp_path / "photographs", tmp_path / "atlas", pooled=True, sample=60)
    again = check_health(atlas)
    assert [(f.kind, f.channels) for f in again.findings] == [
        (f.kind, f.channels) for f in health.findings
    ]
    assert again.layers[0].pooled.shape == (CHANNELS, 3 * EACH)
    assert again.layers[0].peaks.shape == (CHANNELS, 60)
    assert "1 could not be read" in cs.report(atlas).page.html()
