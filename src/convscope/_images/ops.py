"""Changes of image batches as torch operations: one blur, one affine transform, one JPEG.

Images are float tensors ``(N, C, H, W)``. This is the one module of the room that needs torch; the
room's ``__init__`` does not import it.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def gaussian_blur(images: Tensor, sigma: float, *, padding: str = "replicate") -> Tensor:
    """Blur with a Gaussian, cut off at three standard deviations.

    Args:
        images: ``(N, C, H, W)``.
        sigma: Standard deviation in pixels; 0 returns the images themselves.
        padding: What lies outside: ``replicate`` or ``reflect``, as in ``torch.nn.functional.pad``.

    Returns:
        Blurred images of the same shape.
    """
    if not sigma:
        return images
    channels, height, width = images.shape[1:]
    reach = math.ceil(3 * sigma)
    if padding == "reflect":  # no further than to the other side
        reach = min(reach, height - 1, width - 1)
    offsets = torch.arange(-reach, reach + 1.0, device=images.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    across = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    for pad, weight in (((0, 0, reach, reach), across.mT), ((reach, reach, 0, 0), across)):
        images = F.conv2d(F.pad(images, pad, mode=padding), weight, groups=channels)
    return images


def binomial_blur(images: Tensor) -> Tensor:
    """Blur with the binomial 3×3 kernel, edges repeated.

    Shifted sums: six times as fast as a convolution, for every step of an optimization.

    Args:
        images: ``(N, C, H, W)``.

    Returns:
        Blurred images of the same shape.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + padded[:, :, 2:] + 2 * padded[:, :, 1:-1]
    return (rows[..., :-2] + rows[..., 2:] + 2 * rows[..., 1:-1]) / 16


def affine(
    images: Tensor, angle: Tensor, scale: Tensor, shift: Tensor, *, padding: str = "reflection"
) -> Tensor:
    """Rotate, scale and translate, each image by its own amounts, with bilinear interpolation.

    The same as an affine grid, from two vectors instead of a matrix product per pixel.

    Args:
        images: ``(N, C, H, W)``.
        angle: ``(N,)``, radians, counter-clockwise.
        scale: ``(N,)``, above 1 enlarges.
        shift: ``(N, 2)``, how far down and to the right the image is sampled; 2 is a whole side.
        padding: What lies outside: ``reflection``, ``zeros`` or ``border``, as in ``grid_sample``.

    Returns:
        Images of the same shape.
    """
    height, width = images.shape[-2:]
    y = _centers(height, images).view(1, -1, 1)
    x = _centers(width, images).view(1, 1, -1)
    cos, sin = ((f(angle) / scale).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    down, right = shift[:, 0].view(-1, 1, 1), shift[:, 1].view(-1, 1, 1)
    grid = torch.stack(
        [
            cos * x + (right - sin * (height / width) * y),
            sin * (width / height) * x + (down + cos * y),
        ],
        dim=-1,
    )
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Write each image as a JPEG and read it back.

    Args:
        images: ``(N, C, H, W)``, 0…1, of one or three channels.
        quality: 1 (smallest file) to 95.

    Returns:
        Images of the same shape, 0…1.
    """
    return torch.stack([_one_jpeg(image, quality) for image in images.cpu()]).to(images.device)


def _one_jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = (image.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    gray = pixels.shape[2] == 1
    Image.fromarray(pixels[..., 0] if gray else pixels).save(file, "jpeg", quality=quality)
    values = np.asarray(Image.open(file), np.float32).reshape(pixels.shape) / 255
    return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)


def _centers(count: int, like: Tensor) -> Tensor:
    """The centers of ``count`` pixels, the whole side being −1 to 1."""
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count - 1
