"""Planted: a permuted copy, two checkpoints that differ in one channel."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs
from convscope._errors import UsageError

CLASSES = ["ant", "bee", "cat"]
ORDER = [3, 0, 5, 1, 7, 2, 6, 4]


def _network() -> nn.Sequential:
    torch.manual_seed(2)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    return made.eval().requires_grad_(False)


def _load(network: nn.Module, **options: Any) -> Any:
    return cs.load(network, preprocess=cs.Preprocess(size=(16, 16)), classes=CLASSES, **options)


class Labeled(list[Any]):
    classes = CLASSES


def _images(count: int = 40) -> list[Image.Image]:
    random = np.random.default_rng(6)
    small = random.integers(0, 255, (count, 5, 5, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((16, 16), Image.Resampling.BICUBIC) for one in small]


def test_a_permuted_copy_is_recovered_exactly_and_has_equal_representations() -> None:
    first, second = _network(), _network()
    second[0].weight[:], second[0].bias[:] = first[0].weight[ORDER], first[0].bias[ORDER]
    second[2].weight[:] = first[2].weight[:, ORDER]
    found = cs.compare(_load(first), _load(second), _images(), ["0", "2"])
    assert found.changed == []
    assert found.cka is not None
    np.testing.assert_allclose(np.diag(found.cka), 1, atol=1e-9)
    pair = found.pairs[0]
    assert pair.match is not None
    # channel k of the copy is channel ORDER[k] of the first
    assert [ORDER[k] for k in pair.match.right[np.argsort(pair.match.left)]] == list(range(8))
    np.testing.assert_allclose(pair.match.correlations, 1, atol=1e-6)
    assert pair.permuted == sum(k != o for k, o in enumerate(ORDER))
    assert found.pairs[1].permuted == 0
    assert "channels of 0 are permuted" in found.sentences()[-1]


def test_the_one_channel_that_differs_is_named() -> None:
    first = _network()
    second = copy.deepcopy(first)
    second[2].weight[4] *= 1.5
    found = cs.compare(_load(first), _load(second), _images(), ["0", "2", "6"])
    assert [pair.changed_channels for pair in found.pairs[:2]] == [[], [4]]
    assert "the first layer that differs is 2: 1 of 6 channels (2:4)" in found.sentences()
    assert found.cka is not None
    assert found.cka[0, 0] == pytest.approx(1)
    assert found.cka[1, 1] < 1


def test_equal_networks_are_reported_as_equal() -> None:
    found = cs.compare(_load(_network()), _load(_network()), _images())
    assert "predict different classes for 0 of 40 images" in found.sentences()[0]
    assert found.sentences()[-1] == "no compared channel responds differently"
    assert found.names == ("Sequential (A)", "Sequential (B)")


def test_what_was_fixed_and_what_regressed_is_counted() -> None:
    first, second = _network(), _network()
    second[6].weight[:] = first[6].weight.roll(1, 0)
    second[6].bias[:] = torch.tensor([0.3, -0.2, 0.1])
    data = Labeled((p, k % 3) for k, p in enumerate(_images()))
    a, b = _load(first), _load(second)
    found = cs.compare(a, b, data)
    predictions = [[m.predict(p, top=1)[0][0] for p, _ in data] for m in (a, b)]
    truth = [CLASSES[label] for _, label in data]
    changed = [k for k in range(40) if predictions[0][k] != predictions[1][k]]
    assert found.changed == changed
    fixed = sum(predictions[1][k] == truth[k] for k in changed)
    regressed = sum(predictions[0][k] == truth[k] for k in changed)
    assert f"{fixed} fixed, {regressed} regressed; accuracy" in found.sentences()[0]


def test_one_image_shows_maps_on_one_scale(tmp_path: Path) -> None:
    first = _network()
    second = copy.deepcopy(first)
    second[2].weight[4] *= 1.5
    _images(1)[0].save(tmp_path / "one.png")
    found = cs.compare(_load(first), _load(second), str(tmp_path / "one.png"), ["0", "2"])
    assert found.cka is None
    section = found.sheet(theme="dark").sections[2]
    assert section.heading.startswith("2 · largest difference")
    assert section.tiles[0].label == "A 4"
    assert {(tile.low, tile.high) for tile in section.tiles} == {
        (section.tiles[0].low, -section.tiles[0].low)
    }
    assert found.save(tmp_path / "out")[0].stat().st_size
    many = cs.compare(_load(first), _load(second), _images(8), ["0", "2"])
    assert many.sheet().sections[0].rows == ("0", "2")
    assert many.to_dict()["pairs"][1]["changed_channels"] == [4]


def test_networks_with_different_inputs_are_refused() -> None:
    gray = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(
        UsageError, match=r"Sequential takes images of 3 channels and Sequential of 1\. "
    ):
        cs.compare(_load(_network()), _load(gray, input=(1, 16, 16)), _images(2))


class Renamed(nn.Module):
    """The same network under other names, with one convolution before it."""

    def __init__(self, inner: nn.Sequential) -> None:
        super().__init__()
        self.eyes = nn.Conv2d(3, 3, 1)
        self.first, self.second = inner[0], inner[2]
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.eyes(x)
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


def test_layers_of_other_names_are_paired_by_similarity() -> None:
    first = _network()
    other = _load(Renamed(_network()).eval())
    found = cs.compare(_load(first), other, _images(), "kind=conv")
    assert [(pair.a.path, pair.b.path) for pair in found.pairs] == [
        ("0", "first"),
        ("2", "second"),
    ]
    assert all(pair.change is None and pair.match is not None for pair in found.pairs)
    assert not any("the first layer that differs" in sentence for sentence in found.sentences())
    maps = found.maps()
    assert "the 8 channels that match best" in maps.description
    assert len(maps.sections) == 3
    alone = cs.compare(_load(first), other, _images(1)[0], "kind=conv")
    assert "too few images" in alone.maps().description


def test_files_are_named_without_their_folders(tmp_path: Path) -> None:
    found = cs.compare(_load(_network()), _load(_network()), _images(4), ["0"])
    for side, name in ((found.a, "runs/one/best.pth"), (found.b, "runs/one/last.pth")):
        side.model.name = name
    assert found.names == ("best.pth", "last.pth")
    found.b.model.name = "runs/two/best.pth"
    assert found.names == ("runs/one/best.pth", "runs/two/best.pth")
