"""Float maps → palette indices, the whole ``(C, H, W)`` block at once.

This is the only place that decides what a value's color is, and the place that refuses to lie:
ranges come from finite values only, a map without variation is not stretched into noise, and NaN
and ±inf keep reserved indices of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._errors import UsageError, closest
from convscope._plot.colors import FLAT, LEVELS, NAN, NEG_INF, POS_INF

Range = Literal["channel", "layer"] | tuple[float, float]
State = Literal["live", "zero", "constant", "nan", "inf"]

# A spread below this share of the magnitude is rounding, not structure (float32: 2⁻²³ ≈ 1.2e-7).
NOISE = 4 * float(np.finfo(np.float32).eps)
_BLOCK = 1 << 16  # values normalized at once: 256 kB of float32 stay in the cache


@dataclass(frozen=True)
class Quantized:
    """Maps as palette indices, and what each one's colors span.

    Attributes:
        indices: uint8 ``(C, H, W)``.
        low: Value at the lower end of the color map, float64 ``(C,)``.
        high: Value at the upper end.
        minimum: The map's own lowest finite value, float64 ``(C,)``; NaN where there is none.
        maximum: Its highest.
        states: Whether each map varies, is zero or constant, or holds NaN or ±inf.
    """

    indices: NDArray[np.uint8]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    states: tuple[State, ...]


def quantize(
    values: NDArray[Any],
    range: Range = "channel",
    *,
    channels: Sequence[int] | None = None,
    signed: bool = False,
) -> Quantized:
    """Convert maps to palette indices 0 … 240, and the reserved ones for NaN and ±inf.

    Args:
        values: ``(C, H, W)``.
        range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``. A map of
            one position has no range of its own: ``"channel"`` then means ``"layer"``.
        channels: Maps to convert, in this order; all by default. The layer's range is that of all
            maps nevertheless.
        signed: Make spans symmetric, so that zero is the middle index.

    Returns:
        The indices, ``(len(channels), H, W)``, and their spans.

    Raises:
        UsageError: Where the shape, the range or a channel does not suit.
    """
    block = as_maps(values)
    chosen = _chosen(channels, len(block))
    minimum, maximum, finite = _extremes(block)
    low, high = _spans(minimum, maximum, range, signed, single=block[0].size == 1)
    picked = block if channels is None else block[chosen]
    low, high, minimum, maximum = (ends[chosen] for ends in (low, high, minimum, maximum))
    finite = finite[chosen]
    flat = _flat(minimum, maximum) & (block[0].size > 1)
    indices = _indices(picked, low, high)
    # no color stands for a value where a map has no range to be colored by
    indices[(flat & (range == "channel")) | ~(high > low)] = FLAT
    for channel in np.flatnonzero(~finite):
        _reserve(indices[channel], picked[channel])
    states = tuple(
        _state(picked[c], bool(finite[c]), bool(flat[c]), minimum[c])
        for c in np.arange(len(picked))
    )
    return Quantized(indices, low, high, minimum, maximum, states)


def as_maps(values: ArrayLike) -> NDArray[np.float32]:
    """``values`` as ``(C, H, W)`` float32, or an error that says what is wrong with its shape."""
    array = np.asarray(values)
    if array.ndim != 3:
        hint = {2: " Try values[None].", 4: " Try values[0]."}.get(array.ndim, "")
        raise UsageError(f"Maps need shape (channels, height, width), not {array.shape}.{hint}")
    if array.size == 0:
        raise UsageError(f"Maps of shape {array.shape} hold no values. Give at least one channel.")
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _chosen(channels: Sequence[int] | None, count: int) -> NDArray[np.intp]:
    if channels is None:
        return np.arange(count)
    chosen = np.asarray(list(channels), dtype=np.intp)
    if chosen.size == 0:
        raise UsageError(f"No channels were chosen. Name some of 0–{count - 1}.")
    for channel in chosen[(chosen < 0) | (chosen >= count)]:
        near = min(max(int(channel), 0), count - 1)
        raise UsageError(
            f"No channel {channel}: there are {count} (0–{count - 1}). Nearest: {near}."
        )
    return chosen


def _extremes(
    block: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Finite extremes of each map (NaN: none), and whether all values are finite."""
    minimum = block.min(axis=(1, 2)).astype(np.float64)
    maximum = block.max(axis=(1, 2)).astype(np.float64)
    finite = np.isfinite(minimum) & np.isfinite(maximum)
    for channel in np.flatnonzero(~finite):
        good = block[channel][np.isfinite(block[channel])]
        ends = (good.min(), good.max()) if good.size else (np.nan, np.nan)
        minimum[channel], maximum[channel] = ends
    return minimum + 0.0, maximum + 0.0, finite  # no minus before a zero


def _spans(
    minimum: NDArray[np.float64],
    maximum: NDArray[np.float64],
    range: Range,
    signed: bool,
    *,
    single: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values at the two ends of the color map, for each map."""
    if isinstance(range, str):
        if range not in ("channel", "layer"):
            near = closest(range, ("channel", "layer"))
            raise UsageError(f"No range {range!r}.{near} Known: channel, layer, (low, high)")
        if range == "layer" or single:
            known = np.isfinite(minimum)
            bottom = minimum[known].min() if known.any() else np.nan
            top = maximum[known].max() if known.any() else np.nan
            minimum, maximum = np.full_like(minimum, bottom), np.full_like(maximum, top)
    else:
        low, high = _fixed(range, signed)
        minimum, maximum = np.full_like(minimum, low), np.full_like(maximum, high)
    if signed:
        maximum = np.maximum(np.abs(minimum), np.abs(maximum))
        minimum = -maximum
    return minimum, maximum


def _fixed(range: tuple[float, float], signed: bool) -> tuple[float, float]:
    low, high = (float(end) for end in range)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UsageError(f"A range needs low < high, both finite, not ({low:g}, {high:g}).")
    if signed and low != -high:
        maximum = max(abs(low), abs(high))
        raise UsageError(
            f"Signed colors need a range centered on zero, not ({low:g}, {high:g}). "
            f"Nearest: ({-maximum:g}, {maximum:g})."
        )
    return low, high


def _flat(minimum: NDArray[np.float64], maximum: NDArray[np.float64]) -> NDArray[np.bool_]:
    magnitude = np.maximum(np.abs(minimum), np.abs(maximum))
    with np.errstate(invalid="ignore"):
        return np.asarray(maximum - minimum <= NOISE * magnitude, dtype=np.bool_)


def _indices(
    block: NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """``round((value − low) / (high − low) · 240)``, a few maps at a time."""
    spread = high - low
    wide = ~((spread > 1e-30) & (spread < 1e37)) & (spread > 0)
    kind = np.float64 if wide.any() else np.float32  # such spreads overflow in float32
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(spread > 0, (LEVELS - 1) / spread, 0.0)
    start = np.where(np.isfinite(low), low, 0.0)
    indices = np.empty(block.shape, np.uint8)
    step = max(1, _BLOCK // block[0].size)
    for first in np.arange(0, len(block), step):
        part = slice(first, first + step)
        levels = np.subtract(block[part], start[part, None, None], dtype=kind)
        with np.errstate(invalid="ignore", over="ignore"):
            levels *= scale[part, None, None].astype(kind)
            levels += kind(0.5)
            np.clip(levels, 0, LEVELS - 0.5, out=levels)
            indices[part] = levels.astype(np.uint8)
    return indices


def _reserve(indices: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
    indices[np.isnan(values)] = NAN
    indices[np.isposinf(values)] = POS_INF
    indices[np.isneginf(values)] = NEG_INF


def _state(values: NDArray[np.float32], finite: bool, flat: bool, minimum: float) -> State:
    if not finite:
        return "nan" if np.isnan(values).any() else "inf"
    if flat:
        return "zero" if minimum == 0 else "constant"
    return "live"
