"""Filters: colors, signs and order against weights set by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import convscope as cs
from convscope._errors import UnknownLayer


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[0, 0] = 1.0  # red
        network[0].weight[1, 2] = -1.0  # the opposite of blue: yellow, darker
    return network


def test_first_filters_are_drawn_in_their_colors(network: nn.Sequential) -> None:
    sheet = cs.filters(network, "0").grid()
    red, not_blue, empty = (tile.pixels for tile in sheet.sections[0].tiles[:3])
    np.testing.assert_array_equal(np.unique(red.reshape(-1, 3), axis=0), [[255, 128, 128]])
    np.testing.assert_array_equal(np.unique(not_blue.reshape(-1, 3), axis=0), [[128, 128, 0]])
    assert sheet.sections[0].tiles[2].state == "zero"
    np.testing.assert_array_equal(empty, np.full_like(empty, 128))
    assert sheet.title == "0 · Conv2d: 4 filters of 3×3×3"


def test_a_network_that_reads_bgr_is_drawn_in_true_colors(network: nn.Sequential) -> None:
    model = cs.load(network, preprocess=cs.Preprocess(order="BGR"))
    (first, *_) = cs.filters(model, "0").grid().sections[0].tiles
    np.testing.assert_array_equal(first.pixels[0, 0], [128, 128, 255])


def test_deeper_filters_are_a_mosaic_of_outputs_by_inputs(network: nn.Sequential) -> None:
    found = cs.filters(network, "2")
    np.testing.assert_array_equal(found.values, network[2].weight.detach().numpy())
    sheet = found.grid(channels=[5, 0], inputs=[1, 3])
    section = sheet.sections[0]
    assert (section.rows, section.heads, section.columns) == (("5", "0"), ("1", "3"), 2)
    assert sheet.cmap == "signed"
    most = float(np.abs(found.values).max())
    assert {(tile.low, tile.high) for tile in section.tiles} == {(-most, most)}
    weights = found.values[[5, 5, 0, 0], [1, 3, 1, 3]]
    assert [tile.maximum for tile in section.tiles] == pytest.approx(weights.max((1, 2)).tolist())


def test_a_large_mosaic_says_what_it_leaves_out() -> None:
    sheet = cs.filters(nn.Sequential(nn.Conv2d(64, 40, 1)), "0").grid()
    assert "24 of 40 filters" in sheet.lines
    assert "32 of 64 input channels" in sheet.lines


def test_grouped_filters_are_numbered_by_output(network: nn.Sequential) -> None:
    tiles = cs.filters(network, "3").grid(first=3).sections[0].tiles
    assert [tile.label for tile in tiles] == ["0", "1", "2"]


def test_linear_weights_are_one_by_one_kernels(network: nn.Sequential) -> None:
    assert cs.filters(network, "6").values.shape == (2, 6, 1, 1)


def test_saving(network: nn.Sequential, tmp_path: Path) -> None:
    assert cs.filters(network, "2").save(tmp_path / "f.png").stat().st_size > 0
    assert "<img" in cs.filters(network, "2")._repr_html_()


def test_errors(network: nn.Sequential) -> None:
    with pytest.raises(UnknownLayer) as caught:
        cs.filters(network, "1")
    assert str(caught.value).startswith(
        "ReLU '1' of Sequential has no kernel. Layers that have one"
    )
    with pytest.raises(
        UnknownLayer, match="No channel 9 in the filters of '2' of Sequential: it has 6"
    ):
        cs.filters(network, "2").grid(channels=[9])
    with pytest.raises(
        UnknownLayer, match="No input 4 in the filters of '2' of Sequential: it has 4"
    ):
        cs.filters(network, "2").grid(inputs=[4])
