"""Overlay of a map on the image it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import UsageError
from convscope._plot.colors import FLAT, LEVELS, MIDDLE, NAN, palette
from convscope._plot.quantize import quantize

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


def overlay(
    image: NDArray[np.uint8],
    values: NDArray[Any],
    *,
    cmap: str = "viridis",
    low: float | None = None,
    high: float | None = None,
    opacity: float = 0.6,
    box: tuple[int, int, int, int] | None = None,
    fade: bool = False,
) -> NDArray[np.uint8]:
    """Lay a map over an image.

    The image turns gray under the map, so that every hue is the map's. The map is enlarged by
    nearest neighbor: its positions stay countable. NaN and ±inf are opaque in their reserved
    colors.

    Args:
        image: uint8 ``(H, W, 3)``.
        values: The map, ``(h, w)``.
        cmap: ``viridis``, ``magma``, ``gray`` or ``signed`` (centered on zero).
        low: Value at the lower end of the color map; the map's own minimum by default.
        high: Value at the upper end; the map's own maximum by default.
        opacity: 0 (only the image) … 1 (only the map).
        box: Left, top, right and bottom of the map in the image's pixels (right and bottom
            excluded); the whole image by default. Outside it the image stays as it is.
        fade: Show more of the image where a value is near 0 (the middle of ``signed``, else the low
            end).

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        UsageError: Where a shape, the box or the opacity does not suit.
    """
    _check(image, values, opacity)
    height, width = image.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UsageError(
            f"Box {(left, top, right, bottom)} is not inside the {width}×{height} image. "
            f"Nearest: {(max(0, left), max(0, top), min(width, right), min(height, bottom))}."
        )
    indices = _indices(values, cmap, low, high)
    colors = palette(cmap, "light").astype(np.float32)
    indices = np.asarray(Image.fromarray(indices).resize((right - left, bottom - top), 0))
    under = image[top:bottom, left:right].astype(np.float32) @ _GRAY
    cover = opacity * _prominence(indices, cmap) if fade else opacity
    share = np.where(indices >= NAN, 1.0, np.where(indices == FLAT, 0.0, cover))[..., None]
    mixed = (1 - share) * under[..., None] + share * colors[indices]
    result = image.copy()
    result[top:bottom, left:right] = np.rint(mixed).astype(np.uint8)
    return result


def _prominence(indices: NDArray[np.uint8], cmap: str) -> NDArray[np.float32]:
    """How far colors stand out from that of 0, 0 … 1; the root keeps half a value visible."""
    levels = indices.astype(np.float32)
    if cmap == "signed":
        return np.sqrt(np.minimum(np.abs(levels - MIDDLE) / MIDDLE, 1))
    return np.sqrt(np.minimum(levels / (LEVELS - 1), 1))


def _indices(
    values: NDArray[Any], cmap: str, low: float | None, high: float | None
) -> NDArray[np.uint8]:
    signed = cmap == "signed"
    own = quantize(values[None], signed=signed)
    bottom = float(own.low[0]) if low is None else low
    top = float(own.high[0]) if high is None else high
    if not bottom < top:  # zero, constant, or nothing finite: no colors to give
        return np.asarray(own.indices[0], np.uint8)
    return np.asarray(quantize(values[None], (bottom, top), signed=signed).indices[0], np.uint8)


def _check(image: NDArray[np.uint8], values: NDArray[Any], opacity: float) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(
            f"An overlay needs an image (height, width, 3) uint8, not {image.shape} "
            f"{image.dtype}. Try Image.convert('RGB')."
        )
    if np.ndim(values) != 2:
        raise UsageError(
            f"An overlay takes one map (height, width), not {np.shape(values)}. Try values[0]."
        )
    if not 0 <= opacity <= 1:
        raise UsageError(f"Opacity runs from 0 to 1, not {opacity:g}.")
