"""Each perturbation against numpy, Pillow and closed forms; redrawn factors of shapes."""

from __future__ import annotations

import colorsys
import io
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convscope._data import open_dataset
from convscope._data.shapes import Shapes, draw
from convscope._sensitivity import perturbations
from convscope._sensitivity.perturbations import (
    FACTORS,
    PERTURBATIONS,
    redraw_factor,
    shapes_of,
)


def _apply(name: str, images: Tensor, level: float) -> Tensor:
    return PERTURBATIONS[name].apply(images, level)


# Geometry


def test_rotation_is_counter_clockwise_as_in_numpy(photos: Tensor) -> None:
    for degrees, turns in ((90, 1), (180, 2)):
        rotated = np.rot90(photos.numpy(), turns, axes=(2, 3))
        np.testing.assert_allclose(_apply("rotation", photos, degrees), rotated, atol=1e-5)


def test_scale_enlarges_around_the_center(photos: Tensor) -> None:
    doubled = _apply("scale", photos, 2.0)
    inner = nn.functional.interpolate(photos, scale_factor=2, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(doubled[..., 2:-2, 2:-2], inner[..., 14:-14, 14:-14], atol=1e-5)


def test_half_scale_shows_the_image_mirrored_around_itself() -> None:
    """Of a ramp, the middle half has twice the slope, and beyond the border it goes back."""
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    halved = _apply("scale", ramp, 0.5)[0, 0, 16].numpy()
    np.testing.assert_allclose(np.diff(halved[9:23]), 2 / 31, atol=1e-5)
    assert (np.diff(halved[:7]) < 0).all()
    assert (np.diff(halved[25:]) < 0).all()


def test_translation_is_to_the_right_and_mirrors_the_border(photos: Tensor) -> None:
    shifted = _apply("translation", photos, 25)  # 6 of 24 pixels
    np.testing.assert_allclose(shifted[..., 6:], photos[..., :-6], atol=1e-5)
    np.testing.assert_allclose(shifted[..., :6], photos[..., :6].flip(3), atol=1e-5)


def test_oblong_images_are_not_sheared() -> None:
    """A disc stays a disc: rotated by 90° about its center in an image of 24×40."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(40.0), indexing="ij")
    disc = torch.exp(-((y - 11.5) ** 2 + (x - 19.5) ** 2) / 8)[None, None]
    for degrees in (30, 90):
        rotated = _apply("rotation", disc, degrees)
        np.testing.assert_allclose(rotated[..., 8:32], disc[..., 8:32], atol=0.05)


def test_flip_mirrors_left_and_right(photos: Tensor) -> None:
    np.testing.assert_array_equal(_apply("flip", photos, 1), photos.numpy()[..., ::-1])


def test_the_identity_level_changes_nothing(photos: Tensor) -> None:
    for name in ("brightness", "contrast", "hue", "noise", "rotation", "scale", "translation"):
        identity = PERTURBATIONS[name].identity
        assert identity not in PERTURBATIONS[name].levels
        np.testing.assert_allclose(_apply(name, photos, identity), photos, atol=1e-5)


# Color


def test_brightness_and_contrast_in_numpy(photos: Tensor) -> None:
    pixels = photos.numpy()
    np.testing.assert_allclose(_apply("brightness", photos, -0.2), pixels - 0.2, atol=1e-6)
    means = pixels.mean((1, 2, 3), keepdims=True)
    changed = _apply("contrast", photos, 1.5)
    np.testing.assert_allclose(changed, means + 1.5 * (pixels - means), atol=1e-5)
    assert changed.std() == pytest.approx(1.5 * float(photos.std()), rel=0.1)


@pytest.mark.parametrize("degrees", [60, 120, 180, 240])
def test_hue_rotates_the_color_circle(degrees: float) -> None:
    """Red moves to the hue at that angle of colorsys; the mean of the channels stays."""
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    rotated = _apply("hue", red, degrees).ravel()
    assert float(rotated.mean()) == pytest.approx(1 / 3, abs=1e-6)
    stretched = (rotated - rotated.min()) / (rotated.max() - rotated.min())
    hue = colorsys.rgb_to_hsv(*stretched.tolist())[0]
    assert 360 * hue == pytest.approx(degrees, abs=0.1)
    assert rotated.norm() == pytest.approx(1, abs=1e-6)  # a rotation
    gray = torch.full((1, 3, 4, 4), 0.3)
    np.testing.assert_allclose(_apply("hue", gray, degrees), gray, atol=1e-6)


# Blur, noise, compression, occlusion


def test_blur_is_a_gaussian_in_numpy(photos: Tensor) -> None:
    """An impulse becomes the outer product of two sampled Gaussians; the border is mirrored."""
    impulse = torch.zeros(1, 1, 41, 41)
    impulse[..., 20, 20] = 1
    sigma = 0.04 * 41
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / (2 * sigma**2))  # 5 = ⌈3 σ⌉
    kernel /= kernel.sum()
    expected = np.zeros((41, 41))
    expected[15:26, 15:26] = np.outer(kernel, kernel)
    np.testing.assert_allclose(_apply("blur", impulse, 4)[0, 0], expected, atol=1e-6)
    sigma, radius = 0.02 * 24, 2
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(photos.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    rows = sum(w * padded[:, :, k : k + 24] for k, w in enumerate(kernel))
    expected = sum(w * rows[..., k : k + 24] for k, w in enumerate(kernel))
    np.testing.assert_allclose(_apply("blur", photos, 2), expected, atol=1e-5)


def test_noise_has_its_standard_deviation_and_a_fixed_seed() -> None:
    gray = torch.full((4, 3, 64, 64), 0.5)
    noise = _apply("noise", gray, 0.1) - gray
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=2e-3)
    assert not torch.equal(noise[0], noise[1])
    torch.testing.assert_close(noise, _apply("noise", gray, 0.1) - gray)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_makes_of_it(photos: Tensor, channels: int) -> None:
    images = photos[:, :channels]
    for quality in (75, 10):
        compressed = _apply("JPEG", images, quality)
        assert compressed.shape == images.shape
        for image, found in zip(images, compressed, strict=True):
            pixels = np.rint(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels.squeeze()).save(stream, "jpeg", quality=quality)
            decoded = np.asarray(Image.open(stream)).reshape(pixels.shape) / 255
            np.testing.assert_allclose(found.permute(1, 2, 0), decoded, atol=1e-6)
    errors = [float((_apply("JPEG", images, q) - images).abs().mean()) for q in (75, 50, 25, 10)]
    assert errors == sorted(errors)


@pytest.mark.parametrize("percent", [5, 10, 25, 50])
def test_occlusion_is_one_gray_square_of_that_share(percent: float) -> None:
    images = torch.zeros(6, 3, 40, 40)
    occluded = _apply("occlusion", images, percent)
    corners = []
    for image in occluded:
        rows, columns = np.nonzero(image[0].numpy())
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height == width
        assert len(rows) == height * width
        assert height * width / 1600 == pytest.approx(percent / 100, abs=0.02)
        assert set(image[:, rows, columns].unique().tolist()) == {0.5}
        corners.append((rows.min(), columns.min()))
    assert len(set(corners)) > 1
    assert not images.any()


def test_perturbations_keep_shape_and_leave_the_input_as_it_was(photos: Tensor) -> None:
    before = photos.clone()
    for name, one in PERTURBATIONS.items():
        for level in one.levels:
            changed = one.apply(photos, level)
            assert changed.shape == photos.shape, name
        assert not torch.allclose(changed, photos, atol=1e-3), name  # at the strongest level
        assert torch.equal(photos, before), name
        assert one.unit


# Factors of the procedural shapes


@pytest.mark.parametrize("factor", FACTORS)
def test_redrawing_a_factor_leaves_all_others_as_they_are(
    factor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed to the drawing differs in that factor, and in the position of a grown shape
    that would not fit otherwise."""
    shapes, drawn = Shapes(40, 32, seed=5), []

    def record(factors: object, size: int) -> Image.Image:
        drawn.append(factors)
        return draw(factors, size)  # type: ignore[arg-type]

    monkeypatch.setattr(perturbations, "draw", record)
    changed = 0
    for index in range(12):
        original = asdict(shapes.factors(index))
        image = redraw_factor(shapes, index, factor)
        redrawn = asdict(drawn[-1])  # type: ignore[call-overload]
        different = {name for name in original if redrawn[name] != original[name]}
        allowed = {*FACTORS[factor], *(("x", "y") if factor == "size" else ())}
        assert different <= allowed
        assert redrawn["size"] <= redrawn["x"] <= 1 - redrawn["size"]
        assert redrawn["size"] <= redrawn["y"] <= 1 - redrawn["size"]
        changed += np.asarray(image).tobytes() != np.asarray(shapes.image(index)).tobytes()
        again = redraw_factor(shapes, index, factor)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(again))
    assert changed >= 6  # a shape or texture drawn anew may be the same


def test_shapes_are_found_behind_subsets() -> None:
    shapes = open_dataset("shapes,count=8,size=32")
    assert shapes_of(shapes) is shapes
    test = shapes.split("test")
    assert test is not None
    assert isinstance(shapes_of(test), Shapes)
    assert shapes_of(open_dataset([Image.new("RGB", (8, 8))])) is None
