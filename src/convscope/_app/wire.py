"""How numbers travel to the browser: little-endian, one block each, no parsing.

    CSM1  maps in 8 bits     "CSM1" · u32 C, H, W (as sent), FH, FW (as computed)
                             · f32 low[C], high[C], mean[C] · u8 state[C] · u8 payload[C·H·W]
    CSF1  exact numbers      "CSF1" · u32 N, C, H, W, flags · f32 payload
    CST1  small maps         "CST1" · u32 count · count × (u32 layer, h, w · f32 low, high)
                             · u8 payloads

A level v of 0 … 252 stands for low + v/252·(high − low), where low and high are the finite extremes
of the channel as computed; 253, 254 and 255 are NaN, +∞ and −∞.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LEVELS = 253
NAN, POS_INF, NEG_INF = 253, 254, 255
LIVE, ZERO, CONSTANT, HOLDS_NAN, HOLDS_INF = range(5)
COLOR = 1  # a flag of CSF1: the inputs of these kernels are red, green and blue


def maps_block(values: Floats, most: int = 0) -> bytes:
    """``(C, H, W)`` as CSM1; larger maps than ``most`` a side keep the highest of each block."""
    least, greatest, state = extremes(values)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean((1, 2), dtype=np.float64).astype(np.float32)
    shown = pooled(values, most) if most else values
    head = struct.pack("<4s5I", b"CSM1", *shown.shape, *values.shape[1:])
    parts = (least, greatest, mean, state, levels(shown, least, greatest))
    return head + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def floats_block(values: Floats, flags: int = 0) -> bytes:
    """``(N, C, H, W)`` as CSF1."""
    head = struct.pack("<4s5I", b"CSF1", *values.shape, flags)
    return head + np.ascontiguousarray(values, "<f4").tobytes()


def thumbnails_block(maps: Sequence[tuple[int, Floats]], most: int = 24) -> bytes:
    """One small map ``(H, W)`` for each layer, by its index, as CST1."""
    heads, payloads = [], []
    for layer, values in maps:
        small = pooled(values[None], most)
        least, greatest, _ = extremes(small)
        size = small.shape[1:]
        heads.append(struct.pack("<3I2f", layer, *size, float(least[0]), float(greatest[0])))
        payloads.append(levels(small, least, greatest).tobytes())
    return struct.pack("<4sI", b"CST1", len(maps)) + b"".join(heads) + b"".join(payloads)


def extremes(values: Floats) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Least and greatest finite value of each channel (0 where there is none), and its state."""
    flat = values.reshape(len(values), -1)
    least, greatest = flat.min(1), flat.max(1)
    state = np.where(least == greatest, np.where(least == 0, ZERO, CONSTANT), LIVE)
    for channel in np.flatnonzero(~(np.isfinite(least) & np.isfinite(greatest))):
        good = flat[channel][np.isfinite(flat[channel])]
        least[channel], greatest[channel] = (good.min(), good.max()) if good.size else (0, 0)
        state[channel] = HOLDS_NAN if np.isnan(flat[channel]).any() else HOLDS_INF
    return least, greatest, state.astype(np.uint8)


def levels(values: Floats, low: Floats, high: Floats) -> NDArray[np.uint8]:
    """``(C, H, W)`` in 8 bits."""
    span = high.astype(np.float64) - low
    scale = np.where(span > 0, (LEVELS - 1) / np.where(span > 0, span, 1), 0)
    wide = scale.max(initial=0) > 1e30 or span.max(initial=0) > 1e30  # beyond float32 when scaled
    kind = np.float64 if wide else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        found = values.astype(kind) - low[:, None, None].astype(kind)
        found *= scale[:, None, None].astype(kind)
        found += kind(0.5)
        made: NDArray[np.uint8] = np.clip(np.nan_to_num(found), 0, LEVELS - 1).astype(np.uint8)
    if not np.isfinite(values).all():
        made[np.isnan(values)] = NAN
        made[np.isposinf(values)] = POS_INF
        made[np.isneginf(values)] = NEG_INF
    return made


def pooled_size(size: Sequence[int], most: int) -> tuple[int, int]:
    """Rows and columns that ``pooled`` leaves of a map."""
    height, width = size
    share = min(1.0, most / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def pooled(values: Floats, most: int) -> Floats:
    """``(C, H, W)`` with at most ``most`` rows and columns: of each block the highest value.

    Both sides shrink alike: a map stays as long as it is.
    """
    for axis, count in enumerate(pooled_size(values.shape[1:], most), start=1):
        size = values.shape[axis]
        if count < size:
            starts = np.arange(count) * size // count
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values
