"""Responses and their changes against numpy; tuning curves of known channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import convscope as cs
from convscope._sensitivity.responses import (
    OriginalResponses,
    PerturbationEffect,
    ResponseExtractor,
)
from convscope._sensitivity.tuning import (
    COLORS,
    HUES,
    ORIENTATIONS,
    TuningCurves,
    color_images,
    grating,
    grating_periods,
)


def _effect(original: NDArray[np.float64], perturbed: NDArray[np.float64]) -> PerturbationEffect:
    """Of responses added in three batches."""
    effect = PerturbationEffect(np.zeros(original.shape[1]), np.zeros(original.shape[1]))
    for rows in np.array_split(np.arange(len(original)), 3):
        effect.add(original[rows], perturbed[rows])
    return effect


def test_invariance_is_the_correlation_of_responses_of_equal_mean_and_variance() -> None:
    random = np.random.default_rng(0)
    original = random.normal(size=(500, 3))
    noise = random.normal(size=(500, 3))
    perturbed = np.stack([original[:, 0], 0.6 * original[:, 1] + 0.8 * noise[:, 1], noise[:, 2]], 1)
    standard = (perturbed - perturbed.mean(0)) / perturbed.std(0)
    original = (original - original.mean(0)) / original.std(0)
    truth = [np.corrcoef(original[:, k], standard[:, k])[0, 1] for k in range(3)]
    found = _effect(original, standard).invariance(original.var(0))
    np.testing.assert_allclose(found, truth, atol=1e-9)
    assert found[0] == pytest.approx(1)
    assert found[2] == pytest.approx(0, abs=0.15)


def test_invariance_and_shift_of_a_constant_change() -> None:
    """b = a + 2: E[(b − a)²] = 4, so 1 − 4 / (2 · 4) = ½ for a variance of 4; one sd of shift."""
    original = np.tile([[-2.0], [2.0]], (5, 1))
    effect = _effect(original, original + 2)
    variance = original.var(0)
    assert effect.count == 10
    assert effect.invariance(variance) == pytest.approx([0.5])
    assert effect.shift(variance) == pytest.approx([1.0])
    opposite = _effect(original, -3 * original)
    assert opposite.invariance(variance) == pytest.approx([-1])  # and no lower


def test_the_variance_of_a_constant_channel_is_not_a_number() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(20, 4))
    rows[:, 1] = 3.5
    rows[:, 2] = 1e4 + 1e-5 * rows[:, 2]  # rounding errors of a constant
    original = OriginalResponses()
    for some in np.array_split(rows, 4):
        original.add({"conv": some})
    assert original.count == 20
    variance = original.variances()["conv"]
    np.testing.assert_allclose(variance[[0, 3]], rows.var(0)[[0, 3]])
    assert np.isnan(variance[[1, 2]]).all()
    assert np.isnan(_effect(rows, rows + 1).invariance(variance)[[1, 2]]).all()


@pytest.mark.parametrize("pool", ["mean", "peak"])
def test_responses_are_pooled_maps_of_images_of_eight_bits(pool: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    preprocess = cs.Preprocess(size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    model = cs.load(network, preprocess=preprocess)
    images = 1.4 * torch.rand(40, 3, 8, 8) - 0.2  # some below 0 and above 1; two passes
    found = ResponseExtractor(model, ["0", "2"], preprocess, pool).responses(images)
    eight_bits = np.rint(images.clamp(0, 1).numpy() * 255) / 255
    mean = np.reshape([0.4, 0.5, 0.6], (3, 1, 1))
    std = np.reshape([0.2, 0.3, 0.4], (3, 1, 1))
    with torch.no_grad():
        values = torch.from_numpy((eight_bits - mean) / std).float()
        maps = network[0](values).flatten(2)
        vectors = network(values)
    truth = maps.mean(2) if pool == "mean" else maps.amax(2)
    np.testing.assert_allclose(found["0"], truth, atol=1e-5)
    np.testing.assert_allclose(found["2"], vectors, atol=1e-5)


def test_central_peaks_leave_out_the_border(model: Any) -> None:
    """A red spot in the corner of the map does not count, one in the middle does."""
    extractor = ResponseExtractor(model, ["relu"], model.input.preprocess)
    corner, middle = torch.zeros(2, 1, 3, 32, 32)
    corner[:, 0, 6:8, 6:8] = 1  # positions 1 and 2 of 22 in the map
    middle[:, 0, 15:17, 15:17] = 1
    found = extractor.central_peaks(torch.cat([corner, middle]))["relu"][:, 6]
    assert found == pytest.approx([0, 1], abs=1e-6)


# Gratings and colors


@pytest.mark.parametrize("orientation", [0, 45, 90, 120])
def test_a_grating_has_its_orientation_and_period(orientation: float) -> None:
    """The peak of its spectrum lies across the stripes."""
    waves = grating((64, 64), orientation, 8, 1)[0, 0].numpy() - 0.5
    power = np.abs(np.fft.fft2(waves))
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    fy, fx = np.fft.fftfreq(64)[row], np.fft.fftfreq(64)[column]
    assert np.hypot(fx, fy) == pytest.approx(1 / 8, rel=0.1)
    found = (np.degrees(np.arctan2(-fy, fx)) + 90) % 180
    assert min((found - orientation) % 180, (orientation - found) % 180) < 6


def test_the_four_phases_of_a_grating_are_quarters_of_a_period() -> None:
    waves = grating((8, 48), 90, 12, 3)
    assert waves.shape == (4, 3, 8, 48)
    assert (float(waves.min()), float(waves.max())) == pytest.approx((0, 1), abs=1e-6)
    for phase in range(4):
        moved = waves[0, 0, 0, 3 * phase : 3 * phase + 12]
        torch.testing.assert_close(waves[phase, 0, 0, :12], moved, atol=1e-5, rtol=0)
    torch.testing.assert_close(waves.mean(0), torch.full((3, 8, 48), 0.5))


def test_periods_go_up_to_half_of_the_shorter_side() -> None:
    assert grating_periods((32, 64)) == [2, 3, 4, 6, 8, 11, 16]
    assert grating_periods((3, 3)) == [2]


def test_plain_colors_are_hues_black_gray_and_white() -> None:
    images = color_images((2, 5))
    assert images.shape == (len(HUES) + 3, 3, 2, 5)
    assert (images == images[:, :, :1, :1]).all()
    torch.testing.assert_close(images[:, :, 0, 0], torch.tensor(COLORS))
    assert COLORS[HUES.index(0)] == (1, 0, 0)
    assert COLORS[HUES.index(120)] == (0, 1, 0)
    assert COLORS[-3:] == ((0, 0, 0), (0.5, 0.5, 0.5), (1, 1, 1))


def _curves(responses: Any, hues: Any = None) -> TuningCurves:
    """Of one channel: at a period of 6 these, at 2 a tenth of them."""
    column = np.asarray(responses, float)
    colors = None if hues is None else np.asarray([[*hues, 0.0, 0.0, 0.0]], float)
    return TuningCurves(np.stack([column / 10, column], 1)[None], (2, 6), colors)


def test_the_preferred_orientation_is_the_mean_direction_on_the_doubled_angle() -> None:
    angles = np.radians(ORIENTATIONS)
    for preferred in (0, 20, 90, 170):
        tuned = 1 + 0.8 * np.cos(2 * (angles - np.radians(preferred)))
        degrees, selectivity = _curves(tuned).orientation(0)
        assert min((degrees - preferred) % 180, (preferred - degrees) % 180) < 1e-6
        assert selectivity == pytest.approx(0.4)  # half of the modulation
        assert _curves(tuned).period(0) == 6
    only = np.where(np.arange(12) == 3, 1.0, -1.0)  # what is below mid-gray does not count
    assert _curves(only).orientation(0) == pytest.approx((45, 1))
    assert np.isnan(_curves(-np.ones(12)).orientation(0)).all()


def test_the_preferred_hue_is_the_mean_direction_on_the_circle() -> None:
    hues = np.radians(HUES)
    tuned = 5 + np.cos(hues - np.radians(200))  # selectivity is of what is above the lowest
    degrees, selectivity = _curves(np.ones(12), tuned).hue(0)
    assert degrees == pytest.approx(200)
    expected = 0.5 / (tuned - tuned.min()).mean()
    assert selectivity == pytest.approx(expected)
    assert np.isnan(_curves(np.ones(12)).hue(0)).all()
    assert np.isnan(_curves(np.ones(12), np.ones(12)).hue(0)).all()


def test_a_plain_image_of_each_color_is_what_the_red_channel_responds_to(
    on_stripes: Any,
) -> None:
    """Red minus half of green and blue, after the ReLU."""
    colors = np.rint(255 * np.array(COLORS)) / 255
    truth = np.clip(colors @ [1, -0.5, -0.5], 0, None)
    np.testing.assert_allclose(on_stripes["relu"].tuning.colors[6], truth, atol=1e-5)


def test_images_of_one_channel_have_no_colors() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    gray = cs.load(network, preprocess=cs.Preprocess(size=(16, 16)), input=(1, 16, 16))
    images = [Image.effect_noise((16, 16), 80) for _ in range(4)]
    result = cs.sensitivity(gray, images, "1")
    assert "hue" not in result["1"].invariance
    assert result["1"].tuning.colors is None
    assert result.tuning_sheet("1").sections[-1].heading == "gratings"
