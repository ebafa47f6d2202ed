"""How results travel to the browser: JSON, images, arrays as files, and binary blocks.

A ``Payload`` is a body and its media type; the functions that make one know no HTTP, so the server
and an exported page hold the same bytes. Arrays travel as little-endian blocks, one each, which
the browser reads without parsing:

    CSM1  maps in 8 bits     "CSM1" · u32 C, H, W (as sent), FH, FW (as computed)
                             · f32 low[C], high[C], mean[C] · u8 state[C] · u8 payload[C·H·W]
    CSF1  exact floats       "CSF1" · u32 N, C, H, W, flags · f32 payload
    CST1  thumbnails         "CST1" · u32 count · count × (u32 layer, h, w · f32 low, high)
                             · u8 payloads

A level v of 0 … 252 stands for low + v/252·(high − low), where low and high are the finite extremes
of the channel as computed; 253, 254 and 255 are NaN, +∞ and −∞.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import UnknownLayer

Floats = NDArray[np.float32]

JSON, BINARY, NPZ = "application/json", "application/octet-stream", "application/zip"
PNG, WEBP = "image/png", "image/webp"
MAX_SIDE, THUMBNAIL_SIDE = 56, 24  # rows and columns of maps, at most

LEVELS = 253
NAN, POS_INF, NEG_INF = 253, 254, 255
VARIED, ZERO, CONSTANT, HOLDS_NAN, HOLDS_INF = range(5)
COLOR = 1  # a flag of CSF1: the inputs of these filters are red, green and blue


@dataclass(frozen=True)
class Payload:
    """A body and its media type; an ``immutable`` one may be cached under its address."""

    body: bytes
    media_type: str
    status: int = 200
    immutable: bool = False


# JSON, images and files


def json_payload(value: object, status: int = 200) -> Payload:
    """Encode as strict JSON; numbers that are not finite become null."""
    data = json_value(value)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Payload(text.encode("utf-8", "replace"), JSON, status)


def json_value(value: Any) -> Any:
    """Replace arrays, NumPy numbers and numbers that are not finite by what JSON has."""
    if isinstance(value, np.ndarray):
        return json_value(value.tolist())
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def image_payload(image: Image.Image, media_type: str = PNG) -> Payload:
    """Encode an image as PNG or WebP."""
    stream = io.BytesIO()
    if media_type == PNG:
        image.save(stream, "png", compress_level=1)
    else:
        image.save(stream, "webp", quality=75, method=2)
    return Payload(stream.getvalue(), media_type, immutable=True)


def npz_payload(about: str, **arrays: Any) -> Payload:
    """Store arrays as ``.npz``, which ``numpy.load`` opens with its defaults: nothing is pickled.

    Args:
        about: A line that says what the arrays are, stored beside them.
        arrays: The arrays by name.
    """
    stream = io.BytesIO()
    np.savez(stream, about=np.array(about), **arrays)
    return Payload(stream.getvalue(), NPZ, immutable=True)


def check_index(index: int, count: int, what: str) -> int:
    """Return ``index`` where it is one of ``count``; else raise ``UnknownLayer``."""
    if not 0 <= index < count:
        raise UnknownLayer(f"No {what} {index}: there are {count}, from 0")
    return index


def base_name(dataset: str) -> str:
    """The name of a dataset without its folders: exported pages are passed on."""
    return PurePath(dataset).name if "/" in dataset or "\\" in dataset else dataset


# Blocks


def maps_block(values: Floats, max_side: int = 0) -> bytes:
    """Encode maps ``(C, H, W)`` as CSM1.

    Args:
        values: The maps.
        max_side: Larger maps are max-pooled to at most this many rows and columns; 0: never.
    """
    minimum, maximum, state = extremes(values)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean((1, 2), dtype=np.float64).astype(np.float32)
    sent = max_pool(values, max_side) if max_side else values
    head = struct.pack("<4s5I", b"CSM1", *sent.shape, *values.shape[1:])
    parts = (minimum, maximum, mean, state, quantize(sent, minimum, maximum))
    return head + b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def floats_block(values: Floats, flags: int = 0) -> bytes:
    """Encode ``(N, C, H, W)`` as CSF1."""
    head = struct.pack("<4s5I", b"CSF1", *values.shape, flags)
    return head + np.ascontiguousarray(values, "<f4").tobytes()


def thumbnails_block(maps: Sequence[tuple[int, Floats]], max_side: int = THUMBNAIL_SIDE) -> bytes:
    """Encode one small map ``(H, W)`` for each layer index as CST1."""
    heads, payloads = [], []
    for layer, values in maps:
        small = max_pool(values[None], max_side)
        low, high, _ = extremes(small)
        size = small.shape[1:]
        heads.append(struct.pack("<3I2f", layer, *size, float(low[0]), float(high[0])))
        payloads.append(quantize(small, low, high).tobytes())
    return struct.pack("<4sI", b"CST1", len(maps)) + b"".join(heads) + b"".join(payloads)


def extremes(values: Floats) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Minimum and maximum finite value of each channel (0 where there is none), and its state."""
    flat = values.reshape(len(values), -1)
    low, high = flat.min(1), flat.max(1)
    state = np.where(low == high, np.where(low == 0, ZERO, CONSTANT), VARIED)
    for channel in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high))):
        finite = flat[channel][np.isfinite(flat[channel])]
        low[channel], high[channel] = (finite.min(), finite.max()) if finite.size else (0, 0)
        state[channel] = HOLDS_NAN if np.isnan(flat[channel]).any() else HOLDS_INF
    return low, high, state.astype(np.uint8)


def quantize(values: Floats, low: Floats, high: Floats) -> NDArray[np.uint8]:
    """Quantize ``(C, H, W)`` to the levels 0 … 252 between ``low`` and ``high``, ``(C,)`` each."""
    span = high.astype(np.float64) - low
    scale = np.where(span > 0, (LEVELS - 1) / np.where(span > 0, span, 1), 0)
    wide = scale.max(initial=0) > 1e30 or span.max(initial=0) > 1e30  # beyond float32 when scaled
    kind = np.float64 if wide else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = values.astype(kind) - low[:, None, None].astype(kind)
        scaled *= scale[:, None, None].astype(kind)
        scaled += kind(0.5)
        levels: NDArray[np.uint8] = np.clip(np.nan_to_num(scaled), 0, LEVELS - 1).astype(np.uint8)
    if not np.isfinite(values).all():
        levels[np.isnan(values)] = NAN
        levels[np.isposinf(values)] = POS_INF
        levels[np.isneginf(values)] = NEG_INF
    return levels


def pooled_size(size: Sequence[int], max_side: int) -> tuple[int, int]:
    """Rows and columns of a map after ``max_pool``."""
    height, width = size
    share = min(1.0, max_side / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def max_pool(values: Floats, max_side: int) -> Floats:
    """Max-pool ``(C, H, W)`` to at most ``max_side`` rows and columns, aspect ratio kept."""
    for axis, count in enumerate(pooled_size(values.shape[1:], max_side), start=1):
        size = values.shape[axis]
        if count < size:
            starts = np.arange(count) * size // count
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values
