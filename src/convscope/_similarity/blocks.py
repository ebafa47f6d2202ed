"""Reading ``(channels, images)`` a block of images at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError

Rows = NDArray[Any]
BLOCK = 4096  # images; of 2,048 channels in float64 64 MiB


def checked(rows: Rows, name: str = "activations") -> Rows:
    """``rows`` if it is ``(channels, images)`` with at least one of each."""
    if rows.ndim != 2 or not rows.size:
        raise UsageError(f"Give {name} as (channels, images), not {rows.shape}")
    return rows


def same_images(a: Rows, b: Rows) -> None:
    """Two networks are compared on the same images in the same order."""
    if checked(a).shape[1] != checked(b).shape[1]:
        raise UsageError(
            f"{a.shape[1]} images cannot be compared with {b.shape[1]}. "
            "Give the same images to both"
        )


def means(rows: Rows, block: int = BLOCK) -> NDArray[np.float64]:
    """The mean of every channel, ``(C, 1)``."""
    total = np.zeros((len(rows), 1))
    for start in range(0, rows.shape[1], block):
        total += rows[:, start : start + block].sum(1, dtype=np.float64, keepdims=True)
    return np.asarray(total / rows.shape[1])


def centered(rows: Rows, block: int = BLOCK) -> Iterator[NDArray[np.float64]]:
    """Blocks ``(C, n)`` in float64, each channel's mean over all images taken off."""
    middle = means(rows, block)
    for start in range(0, rows.shape[1], block):
        yield rows[:, start : start + block].astype(np.float64) - middle


def products(a: Rows, b: Rows, block: int = BLOCK) -> NDArray[np.float64]:
    """Centered sums of products ``(Ca, Cb)``: N times the covariance."""
    total = np.zeros((len(a), len(b)))
    for left, right in zip(centered(a, block), centered(b, block), strict=True):
        total += left @ right.T
    return total
