"""Edits of maps, moments and duplicates, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._ablation.interventions import (
    ChannelMoments,
    Duplicate,
    find_duplicates,
    group_by_layer,
    measure_moments,
    parse_units,
    reconstruct_channels,
    set_channels,
)
from convscope._errors import UsageError
from convscope._loading import open_images


def _moments(rows: Any) -> ChannelMoments:
    return ChannelMoments(rows.shape[1], rows.sum(1), rows @ rows.T)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4, 3), (2, 5, 4, 3, 2)])
def test_channels_are_set_at_every_position(shape: tuple[int, ...]) -> None:
    maps = torch.rand(shape)
    before = maps.clone()
    edited = set_channels([3, 1], [0.5, -2.0])(maps)
    assert torch.equal(maps, before)
    assert (edited[:, 3] == 0.5).all()
    assert (edited[:, 1] == -2.0).all()
    assert torch.equal(edited[:, [0, 2, 4]], maps[:, [0, 2, 4]])


def test_duplicates_are_reconstructed_from_their_source() -> None:
    maps = torch.rand(2, 4, 3, 3)
    before = maps.clone()
    edited = reconstruct_channels(
        [Duplicate(0, 2, 2.0, 1.0, 1.0), Duplicate(3, 2, -1.0, 0.0, -1.0)]
    )(maps)
    assert torch.equal(maps, before)
    torch.testing.assert_close(edited[:, 0], 2 * maps[:, 2] + 1)
    torch.testing.assert_close(edited[:, 3], -maps[:, 2])
    assert torch.equal(edited[:, [1, 2]], maps[:, [1, 2]])


def test_moments_are_those_of_all_positions_of_all_images() -> None:
    """Over three batches of a network of two layers, one of maps and one of vectors."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    model = cs.load(network, input=(3, 8, 8))
    images = list(np.random.default_rng(0).normal(size=(7, 3, 8, 8)).astype(np.float32))
    loader = open_images(model, images)
    loader.batch_size = 3
    moments = measure_moments(loader, ["0", "2"], lambda done, total: None)
    with torch.no_grad():
        maps = network[0](torch.from_numpy(np.stack(images)))
        vectors = network[2](maps.flatten(1))
    for path, rows in (
        ("0", maps.transpose(0, 1).reshape(4, -1).double().numpy()),
        ("2", vectors.T.double().numpy()),
    ):
        assert moments[path].count == rows.shape[1]
        np.testing.assert_allclose(moments[path].means, rows.mean(1), atol=1e-6)
        np.testing.assert_allclose(moments[path].covariance, np.cov(rows, ddof=0), atol=1e-6)


def test_duplicates_are_linear_functions_of_the_channel_of_highest_variance() -> None:
    random = np.random.default_rng(1)
    source, other, noise = random.normal(size=(3, 4000))
    rows = np.stack(
        [
            0.5 * source + 3,  # 0: an exact duplicate
            other,  # 1: on its own
            np.full(4000, 7.0),  # 2: constant
            source,  # 3: the source, of the highest variance
            -0.3 * source + 0.03 * noise,  # 4: correlated with −1 / √(1 + 0.01)
        ]
    )
    (group,) = find_duplicates(_moments(rows), 0.99)
    assert [one.channel for one in group] == [0, 4]
    assert {one.source for one in group} == {3}
    exact, noisy = group
    assert (exact.scale, exact.offset) == pytest.approx((0.5, 3.0))
    assert exact.correlation == pytest.approx(1)
    assert noisy.correlation == pytest.approx(np.corrcoef(rows[4], rows[3])[0, 1])
    slope, offset = np.polyfit(rows[3], rows[4], 1)  # least squares
    assert (noisy.scale, noisy.offset) == pytest.approx((slope, offset), abs=1e-6)
    assert [[one.channel for one in group] for group in find_duplicates(_moments(rows), 0.999)] == [
        [0]
    ]


def test_a_channel_is_in_one_group_only() -> None:
    """Two sources of two duplicates each; no duplicate is a source."""
    random = np.random.default_rng(2)
    first, second = random.normal(size=(2, 500))
    rows = np.stack([first, 0.9 * first, 0.8 * first, 2 * second, second, -second])
    groups = find_duplicates(_moments(rows), 0.95)
    assert {one.source: [d.channel for d in group] for group in groups for one in group} == {
        3: [4, 5],
        0: [1, 2],
    }
    assert find_duplicates(_moments(np.zeros((3, 5))), 0.5) == []


def test_units_are_addresses_or_all_channels_of_a_layer() -> None:
    model = cs.load(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), input=(3, 8, 8))
    assert parse_units(model, "0:2") == [("0", 2)]
    assert parse_units(model, "1") == [("1", k) for k in range(4)]
    with pytest.raises(UsageError, match=r"'0:2@1,1' is one position.*Nearest: 0:2"):
        parse_units(model, "0:2@1,1")
    units = [("1", 3), ("0", 2), ("1", 3), ("1", 0)]
    assert group_by_layer(units) == {"1": [3, 0], "0": [2]}


def test_a_layer_without_channels_cannot_be_ablated() -> None:
    class Total(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2, 3))

    model = cs.load(nn.Sequential(nn.Conv2d(3, 4, 3), Total()), input=(3, 8, 8))
    with pytest.raises(UsageError, match=r"'1' of Sequential has no channels to ablate"):
        parse_units(model, "1")
