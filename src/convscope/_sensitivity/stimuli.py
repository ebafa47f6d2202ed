"""Pictures made to measure: gratings of every orientation and period, and plain colors."""

from __future__ import annotations

import colorsys
import math

import torch
from torch import Tensor

ORIENTATIONS = tuple(range(0, 180, 15))
"""Of the stripes, in degrees, counter-clockwise from horizontal: 0 lies, 90 stands upright."""
HUES = tuple(range(0, 360, 30))
_PHASES = 4


def periods(size: tuple[int, int]) -> list[int]:
    """Widths of one stripe pair in pixels: 2, 3, 4, 6, 8, … up to half of the shorter side."""
    steps = sorted({round(2 ** (k / 2) * 2) for k in range(12)})
    return [step for step in steps if step <= max(2, min(size) // 2)]


def grating(size: tuple[int, int], orientation: float, period: float, channels: int) -> Tensor:
    """Full-contrast sine stripes around mid-gray in four phases: ``(4, channels, H, W)``."""
    angle = math.radians(orientation)
    rows = torch.arange(size[0], dtype=torch.float32).view(-1, 1)
    columns = torch.arange(size[1], dtype=torch.float32).view(1, -1)
    # stripes run along (cos, −sin) in x and y of the picture; brightness changes across them
    across = columns * math.sin(angle) + rows * math.cos(angle)
    phases = torch.arange(_PHASES).view(-1, 1, 1) * (2 * math.pi / _PHASES)
    waves = 0.5 + 0.5 * torch.sin(2 * math.pi * across / period + phases)
    return waves[:, None].expand(-1, channels, -1, -1).contiguous()


def colors(size: tuple[int, int]) -> Tensor:
    """Plain pictures, RGB: the hues of ``HUES`` fully saturated, then black, mid-gray and white."""
    mixed = [colorsys.hsv_to_rgb(hue / 360, 1, 1) for hue in HUES]
    mixed += [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)]
    return torch.tensor(mixed, dtype=torch.float32)[:, :, None, None].expand(-1, 3, *size)


def blank(size: tuple[int, int], channels: int) -> Tensor:
    """Mid-gray."""
    return torch.full((1, channels, *size), 0.5)
