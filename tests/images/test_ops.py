"""Changes of image batches, against numpy, Pillow and exact moves."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from convscope._images.ops import affine, binomial_blur, gaussian_blur, jpeg


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))


def _separable(images: Tensor, kernel: np.ndarray, mode: str) -> np.ndarray:
    """The convolution of each row and column with ``kernel``, by numpy."""
    reach = len(kernel) // 2
    values = images.double().numpy()
    for axis in (2, 3):
        pad = [(reach, reach) if k == axis else (0, 0) for k in range(4)]
        padded = np.pad(values, pad, mode=mode)
        values = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    return values


@pytest.mark.parametrize(("padding", "mode"), [("replicate", "edge"), ("reflect", "reflect")])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_gaussian_blur_is_a_convolution(
    images: Tensor, sigma: float, padding: str, mode: str
) -> None:
    at = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    kernel = np.exp(-(at**2) / (2 * sigma**2))
    expected = _separable(images, kernel / kernel.sum(), mode)
    np.testing.assert_allclose(gaussian_blur(images, sigma, padding=padding), expected, atol=1e-6)


def test_a_blur_of_no_width_changes_nothing(images: Tensor) -> None:
    assert gaussian_blur(images, 0) is images


def test_a_reflected_blur_reaches_no_further_than_the_image() -> None:
    blurred = gaussian_blur(torch.rand(1, 1, 4, 5), 10, padding="reflect")
    assert blurred.shape == (1, 1, 4, 5)
    assert bool(torch.isfinite(blurred).all())


def test_binomial_blur_is_a_convolution(images: Tensor) -> None:
    expected = _separable(images, np.array([1, 2, 1]) / 4, "edge")
    np.testing.assert_allclose(binomial_blur(images), expected, atol=1e-6)


def _moved(images: Tensor, **change: float) -> Tensor:
    one = torch.ones(len(images))
    amounts = {"angle": 0.0, "scale": 1.0, "down": 0.0, "right": 0.0} | change
    shift = torch.stack([amounts["down"] * one, amounts["right"] * one], 1)
    return affine(images, amounts["angle"] * one, amounts["scale"] * one, shift)


def test_no_change_is_the_identity(images: Tensor) -> None:
    torch.testing.assert_close(_moved(images), images)


def test_a_quarter_turn_is_exact() -> None:
    square = torch.rand(2, 1, 8, 8)
    turned = _moved(square, angle=math.pi / 2)
    assert any(torch.allclose(turned, square.rot90(k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_whole_pixels_are_shifted_exactly(images: Tensor) -> None:
    down = _moved(images, down=2 * 3 / 12)
    torch.testing.assert_close(down[:, :, :-3], images[:, :, 3:])
    right = _moved(images, right=2 * 5 / 16)
    torch.testing.assert_close(right[..., :-5], images[..., 5:])


def test_twice_the_scale_shows_the_center() -> None:
    """A linear ramp stays linear, at half the slope."""
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    slope = _moved(ramp, scale=2.0)[0, 0, 16].diff()
    torch.testing.assert_close(slope, torch.full((31,), 0.5 / 31))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_writes(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)[..., :channels]
    image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "jpeg", quality=30)
    expected = np.asarray(Image.open(file), np.float32).reshape(pixels.shape) / 255
    np.testing.assert_array_equal(jpeg(image, 30)[0].permute(1, 2, 0), expected)
