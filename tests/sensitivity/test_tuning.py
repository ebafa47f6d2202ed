"""Planted: channels built to ignore rotation, to follow a color, to be tuned to an orientation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._data import open_dataset
from convscope._data.shapes import Shapes, draw
from convscope._errors import UnknownLayer, UsageError
from convscope._sensitivity.changes import CHANGES, moved
from convscope._sensitivity.factors import FACTORS, redrawn
from convscope._sensitivity.stimuli import grating

SIDE = 32
ANGLES = (0, 30, 47, 90, 135)


def test_numbers_of_many_bands_are_changed_on_their_own_scale() -> None:
    """Channel 0 sums all bands, which a flip cannot change; channel 1 looks to one side."""
    network = nn.Sequential(nn.Conv2d(5, 2, 9, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(0.1)
        network[0].weight[1, :, :, 4:] = -0.1
    random = np.random.default_rng(0)
    bands = [random.normal(100, 30, (5, 9, 9)).astype(np.float32) for _ in range(12)]
    felt = cs.sensitivity(cs.load(network, input=(5, 9, 9)), bands, "0")
    assert not {"hue", "JPEG"} & set(felt["0"].invariance)
    flip = felt["0"].invariance["flip"]
    assert flip[0, 0] > 0.99 > flip[0, 1]
    assert any("0…1 stands for numbers from" in line for line in felt.lines)


def _gabor(orientation: float, period: float = 6.0, sides: int = 11) -> Tensor:
    """A filter for stripes of this orientation, counter-clockwise from lying ones; zero mean."""
    reach = sides // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    angle = math.radians(orientation)
    across = x * math.sin(angle) + y * math.cos(angle)
    kernel = torch.cos(2 * math.pi * across / period) * torch.exp(-(x**2 + y**2) / 18)
    return kernel - kernel.mean()


class Tuned(nn.Module):
    """Channels 0–4 Gabors at ``ANGLES``, 5 round, 6 red against green and blue, 7 dead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 11, bias=False)
        self.relu = nn.ReLU()
        y, x = torch.meshgrid(*[torch.arange(-5, 6.0)] * 2, indexing="ij")
        squares = x**2 + y**2
        spot = torch.exp(-squares / 4) / 4 - torch.exp(-squares / 12) / 12
        with torch.no_grad():
            self.conv.weight.zero_()
            for channel, orientation in enumerate(ANGLES):
                self.conv.weight[channel] = _gabor(orientation)
            self.conv.weight[5] = spot - spot.mean()
            self.conv.weight[6, :, 5, 5] = torch.tensor([1.0, -0.5, -0.5])

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x)).mean((2, 3))


@pytest.fixture(scope="module")
def model() -> Any:
    return cs.load(Tuned().eval(), preprocess=cs.Preprocess(size=(SIDE, SIDE)))


def _stripes(count: int = 24) -> list[Image.Image]:
    """Gratings of random orientation, contrast and phase, of the period of the filters."""
    random, found = np.random.default_rng(1), []
    for _ in range(count):
        waves = grating((SIDE, SIDE), random.uniform(0, 180), 6, 3)[random.integers(4)]
        contrast = random.uniform(0.2, 1)
        pixels = ((waves - 0.5) * contrast + 0.5) * 255
        found.append(Image.fromarray(pixels.permute(1, 2, 0).round().byte().numpy()))
    return found


@pytest.fixture(scope="module")
def on_stripes(model: Any) -> Any:
    return cs.sensitivity(model, _stripes(), "relu")


# Planted answers


@pytest.mark.parametrize(("channel", "orientation"), list(enumerate(ANGLES)))
def test_the_orientation_that_a_channel_is_built_for_is_found(
    on_stripes: Any, channel: int, orientation: float
) -> None:
    tuning = on_stripes["relu"].tuning
    found, selective = tuning.orientation(channel)
    assert min((found - orientation) % 180, (orientation - found) % 180) <= 10
    assert selective > 0.4
    assert tuning.period(channel) in (4, 6, 8)


def test_a_round_channel_ignores_rotation_and_an_oriented_one_does_not(on_stripes: Any) -> None:
    layer = on_stripes["relu"]
    rotation = dict(zip(layer.invariance, layer.numbers, strict=True))["rotation"]
    assert rotation[5] > 0.9
    assert rotation[:5].max() < 0.6
    assert layer.tuning.orientation(5)[1] < 0.1
    assert "least to" in on_stripes.unit("relu:5")


def test_a_channel_that_follows_a_color_is_said_to_on_the_shapes(model: Any) -> None:
    found = cs.sensitivity(model, "shapes,count=120,size=32", "relu", first=120, pool="peak")
    shares = {name: values[6] for name, values in found["relu"].factors.items()}
    assert max(shares, key=lambda name: shares[name]) == "color"
    assert shares["color"] > 0.8
    assert max(shares[name] for name in ("rotation", "position", "background")) < 0.1
    text = found.unit("relu:6")
    assert text.startswith("relu:6: follows color (")
    ignored = text[text.index("ignores") :].split(", most sensitive")[0]
    assert all(name in ignored for name in ("rotation", "position"))
    assert "most sensitive to hue" in text
    hue, selective = found["relu"].tuning.hue(6)
    assert min(hue, 360 - hue) <= 10  # red
    assert selective > 0.5


def test_a_dead_channel_has_no_numbers(on_stripes: Any) -> None:
    layer = on_stripes["relu"]
    assert np.isnan(layer.numbers[:, 7]).all()
    assert on_stripes.unit("relu:7") == "relu:7 gives one answer to every picture"
    assert np.isnan(layer.tuning.orientation(7)[0])
    assert layer.rows()[7]["invariance"]["blur"] is None
    assert np.isfinite(layer.mean)


# The numbers, computed another way


def test_invariance_is_what_it_says(model: Any) -> None:
    """Brightness by hand in numpy, the network called directly."""
    pictures = _stripes(9)
    found = cs.sensitivity(model, pictures, "relu", changes="brightness")["relu"]
    arrays = np.stack([np.asarray(p, np.float64) for p in pictures])

    def answers(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        values = torch.from_numpy(np.rint(np.clip(pixels, 0, 255))).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            return model.module(values.float()).double().numpy()

    before = answers(arrays)
    for place, level in enumerate((-0.4, -0.2, 0.2, 0.4)):
        after = answers(arrays + 255 * level)
        truth = 1 - ((after - before) ** 2).mean(0) / (2 * before.var(0) + 1e-30)
        np.testing.assert_allclose(
            found.invariance["brightness"][place, :6], np.clip(truth, -1, 1)[:6], atol=1e-3
        )
        moves = (after - before).mean(0)[:6] / before.std(0)[:6]
        np.testing.assert_allclose(found.shift["brightness"][place, :6], moves, atol=1e-3)


def test_the_total_effect_is_that_of_the_factor(model: Any) -> None:
    """Redrawing one factor leaves all others as they are."""
    shapes = Shapes(40, 32, seed=5)
    for factor, names in FACTORS.items():
        changed = 0
        for index in range(12):
            was = shapes.factors(index)
            picture = redrawn(shapes, index, factor)
            changed += np.asarray(picture).tobytes() != np.asarray(draw(was, 32)).tobytes()
        assert changed >= 6, (factor, names)
    found = cs.sensitivity(model, shapes, "relu", first=40, changes="flip")
    assert set(found["relu"].factors) == set(FACTORS)


# The changes


def _photo() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 6, 6, generator=draw)
    return nn.functional.interpolate(small, (24, 24), mode="bilinear", align_corners=False)


def test_geometry_is_what_numpy_makes_of_it() -> None:
    photo = _photo()
    turned = np.rot90(photo.numpy(), axes=(2, 3))  # counter-clockwise
    np.testing.assert_allclose(CHANGES["rotation"].apply(photo, 90), turned, atol=1e-5)
    turned = np.rot90(photo.numpy(), 2, axes=(2, 3))
    np.testing.assert_allclose(CHANGES["rotation"].apply(photo, 180), turned, atol=1e-5)
    shifted = CHANGES["translation"].apply(photo, 25)
    np.testing.assert_allclose(shifted[..., 6:], photo[..., :-6], atol=1e-5)
    np.testing.assert_allclose(CHANGES["flip"].apply(photo, 1), photo.numpy()[..., ::-1])
    np.testing.assert_allclose(moved(photo), photo, atol=1e-6)
    doubled = CHANGES["scale"].apply(photo, 2.0)
    inner = nn.functional.interpolate(photo, scale_factor=2, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(doubled[..., 2:-2, 2:-2], inner[..., 14:-14, 14:-14], atol=1e-5)


def test_color_changes_are_what_they_are_called() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    np.testing.assert_allclose(CHANGES["hue"].apply(red, 120).ravel(), [0, 1, 0], atol=1e-6)
    gray = torch.full((1, 3, 4, 4), 0.3)
    np.testing.assert_allclose(CHANGES["hue"].apply(gray, 77), gray, atol=1e-6)
    np.testing.assert_allclose(CHANGES["contrast"].apply(gray, 2.0), gray, atol=1e-6)
    np.testing.assert_allclose(CHANGES["brightness"].apply(gray, 0.2), gray + 0.2)
    np.testing.assert_allclose(CHANGES["blur"].apply(gray, 4), gray, atol=1e-6)


def test_blur_and_occlusion_and_noise_and_jpeg() -> None:
    photo = _photo()
    blurred = CHANGES["blur"].apply(photo, 4)
    assert blurred.var() < photo.var()
    assert blurred.mean() == pytest.approx(float(photo.mean()), abs=0.02)
    covered = CHANGES["occlusion"].apply(photo, 25)
    assert float((covered != photo).any(1).float().mean()) == pytest.approx(0.25, abs=0.01)
    noisy = CHANGES["noise"].apply(photo, 0.1) - photo
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.1)
    for channels in (1, 3):
        pressed = CHANGES["JPEG"].apply(photo[:, :channels], 75)
        assert pressed.shape == photo[:, :channels].shape
        assert 0 < float((pressed - photo[:, :channels]).abs().mean()) < 0.05


@pytest.mark.parametrize("orientation", [0, 45, 90, 120])
def test_a_grating_has_the_orientation_it_is_asked_for(orientation: float) -> None:
    """The peak of its spectrum lies across the stripes."""
    waves = grating((64, 64), orientation, 8, 1)[0, 0].numpy() - 0.5
    power = np.abs(np.fft.fft2(waves))
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    fy, fx = np.fft.fftfreq(64)[row], np.fft.fftfreq(64)[column]
    assert np.hypot(fx, fy) == pytest.approx(1 / 8, rel=0.1)
    stripes = (np.degrees(np.arctan2(-fy, fx)) + 90) % 180
    assert min((stripes - orientation) % 180, (orientation - stripes) % 180) < 6


# Around it


def test_gray_models_have_no_hue() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    gray = cs.load(network, preprocess=cs.Preprocess(size=(16, 16)), input=(1, 16, 16))
    found = cs.sensitivity(gray, _stripes(4), "1")
    assert "hue" not in found["1"].invariance
    assert found["1"].tuning.plain is None
    assert found.gratings("1").sections[-1].heading == "gratings"


def test_errors_are_one_line(model: Any) -> None:
    with pytest.raises(UsageError, match=r"No change 'rotate'. Close: 'rotation'"):
        cs.sensitivity(model, _stripes(2), changes="rotate")
    with pytest.raises(UsageError, match=r"No pool 'max'. Known: mean, peak"):
        cs.sensitivity(model, _stripes(2), pool="max")
    with pytest.raises(UsageError, match="gave 1 picture; sensitivity compares at least two"):
        cs.sensitivity(model, _stripes(1))
    found = cs.sensitivity(model, _stripes(2), "relu", changes="flip")
    with pytest.raises(UsageError, match="'relu:8' is no unit that was measured"):
        found.unit("relu:8")
    with pytest.raises(UnknownLayer, match=r"Layer 'conv' was not measured. Measured: 'relu'"):
        found["conv"]


def test_the_sheets_say_what_they_show(model: Any, tmp_path: Path) -> None:
    found = cs.sensitivity(model, open_dataset("shapes,count=8,size=32"), ["conv", "relu"], first=8)
    written = found.save(tmp_path / "all", theme="dark")
    assert [path.name for path in written] == [
        "sensitivity.png",
        "conv.curves.png",
        "conv.gratings.png",
        "relu.curves.png",
        "relu.gratings.png",
    ]
    text = found.sheet().description
    for part in ("model Tuned", "shapes,count=8", "1 = the change never matters"):
        assert part in text
    assert found.sheet().sections[0].heads == tuple(CHANGES)
    assert "known factors" in found.sheet().sections[2].heading
    assert "counter-clockwise" in found.gratings("relu").description
    assert "is the most sensitive layer" in found.sentence()
    assert found.to_dict()["layers"][0]["channels"][0]["address"] == "conv:0"
