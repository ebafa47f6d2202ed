"""Planted truth: filters whose favorite picture is known, and what the climb makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_networks import filters

from convscope._models import Model
from convscope._optvis import (
    Fourier,
    OptimizedImages,
    Pixels,
    Transforms,
    channel,
    maximize,
    neuron,
)

STILL = Transforms(0, 0, 0, 0, 0)


def best_correlation(picture: np.ndarray, pattern: np.ndarray) -> float:
    """The highest correlation of ``pattern`` with any place of ``picture`` (both C, H, W)."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, pattern.shape)[0]
    flat = windows.reshape(-1, pattern.size)
    flat = flat - flat.mean(1, keepdims=True)
    wanted = pattern.ravel() - pattern.mean()
    return float((flat @ wanted / (np.linalg.norm(flat, axis=1) * np.linalg.norm(wanted))).max())


@pytest.mark.parametrize("unit", [0, 1, 2])
@pytest.mark.parametrize("param", [Pixels(), Fourier(decorrelate=False)], ids=["pixels", "waves"])
def test_a_position_becomes_its_filters_pattern(
    planted: Model, unit: int, param: Pixels | Fourier
) -> None:
    seen = maximize(planted, neuron("relu", unit), steps=64, param=param, transforms=STILL)
    assert best_correlation(seen.values, filters(9)[unit].numpy()) >= 0.9


def test_a_channel_of_gratings_is_striped_as_its_filter_is(planted: Model) -> None:
    """With every move on, all over: the strongest wave (shading apart) is the filter's."""
    gray = maximize(planted, "relu:0", steps=96).values.mean(0)
    waves = np.abs(np.fft.fft2(gray - gray.mean()))[:, :16]
    waves[[0, 1, 2, 3, -1, -2, -3], :4] = 0  # longer than 8 pixels
    y, x = np.unravel_index(waves.argmax(), waves.shape)
    expected = pytest.approx(32 / 6, rel=0.28)  # zoomed by up to e^.25
    assert (y, x) == (expected, expected)


def test_a_channel_of_one_color_is_that_color(planted: Model) -> None:
    red, green, blue = maximize(
        planted, "relu:1", steps=96, param=Fourier(decorrelate=False)
    ).values.mean((1, 2))
    assert red > 0.7
    assert max(green, blue) < 0.3


def test_a_difference_raises_one_and_lowers_the_other(planted: Model) -> None:
    both = maximize(
        planted,
        [channel("relu", 0) + channel("relu", 2), channel("relu", 0) - channel("relu", 2)],
        steps=48,
    )
    activations = planted.activations(_batch(planted, both), ["relu"])["relu"].mean((2, 3))
    assert activations[1, 2] < 0.25 * activations[0, 2]
    assert activations[1, 0] > 4 * activations[1, 2]


def test_a_negated_unit_is_lowered(planted: Model) -> None:
    up, down = maximize(planted, ["eyes:2", -channel("eyes", 2)], steps=24)
    assert up.activation > 0 > -down.activation


def test_a_dead_unit_is_reported_dead(planted: Model) -> None:
    seen = maximize(planted, "relu:3", steps=24)
    assert seen.dead
    assert np.ptp(seen.values) == 0  # not noise
    assert "dead" in seen.sentence()
    assert "dead" in seen.sheet().description


def test_a_unit_that_no_random_picture_switches_on_is_revived(planted: Model) -> None:
    noise = torch.rand(64, 3, 32, 32) * 4 - 2
    assert not planted.activations(noise, ["relu"])["relu"][:, 4].any()
    alone = maximize(planted, "relu:4", steps=192, transforms=STILL)
    assert not alone.dead
    assert best_correlation(alone.values, filters(9)[4].numpy()) >= 0.9


def test_a_living_neighbor_is_not_touched_by_the_rescue(planted: Model) -> None:
    alone = maximize(planted, "relu:0", steps=32)
    beside = maximize(planted, ["relu:0", "relu:4", "relu:3"], steps=32)[0]
    np.testing.assert_allclose(beside.values, alone.values, atol=2 / 255)


def _batch(model: Model, gallery: OptimizedImages) -> torch.Tensor:
    values = torch.from_numpy(np.stack([one.values for one in gallery]))
    return (values - 0.5) / 0.25
