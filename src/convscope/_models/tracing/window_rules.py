"""Rules for what slides over positions: convolution, pooling, padding, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from convscope._models.tracing import places
from convscope._models.tracing.calls import Call
from convscope._models.tracing.rules import broadcast_alone, rule, union_without_gates
from convscope._models.tracing.spans import (
    NOWHERE,
    Spans,
    Taps,
    compact,
    everything,
    expanded,
    full,
    gathered,
    merged_along,
    read,
    reshaped,
)


@lru_cache(maxsize=1024)
def sliding(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    """A window that moves by ``stride``."""
    first = np.arange(outputs)[:, None] * stride - padding
    return Taps(first + np.arange(kernel) * dilation, size)


@lru_cache(maxsize=1024)
def spreading(
    size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int
) -> Taps:
    """The transposed convolution: output ``i · stride - padding + tap · dilation`` reads ``i``."""
    at = np.arange(outputs)[:, None] + padding - np.arange(kernel) * dilation
    return Taps(np.where(at % stride == 0, at // stride, NOWHERE), size)


@lru_cache(maxsize=1024)
def adapting(size: int, outputs: int) -> Taps:
    """Windows from ``⌊i · size / outputs⌋`` to ``⌈(i + 1) · size / outputs⌉``."""
    at = np.arange(outputs)
    starts, ends = at * size // outputs, -(-(at + 1) * size // outputs)
    index = starts[:, None] + np.arange(max(1, int((ends - starts).max())))
    return Taps(np.where(index < ends[:, None], index, NOWHERE), size)


def _each(values: Any, count: int) -> list[int]:
    """One number for every spatial dimension."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * count if len(numbers) == 1 else numbers


@rule("convolution", "_convolution", "convolution_overrideable", places=places.on_grid)
def convolution(call: Call, axis: int) -> Spans:
    count = call["weight"].ndim - 2
    shape, kernel = call.shape("input"), call.shape("weight")[2:]
    stride, padding, dilation = (_each(call[n], count) for n in ("stride", "padding", "dilation"))
    window = spreading if call["transposed"] else sliding
    spans = call.spans("input", axis)
    for k in range(count):
        outputs = call.out.shape[2 + k]
        taps = window(shape[2 + k], outputs, kernel[k], stride[k], padding[k], dilation[k])
        spans = read(spans, 2 + k, taps)
    spans = _channels_merged(spans, call["groups"], shape[1], call.out.shape[1])
    if not call.depends("weight"):
        return spans
    weight = merged_along(
        call.spans("weight", axis), range(count + 2)
    )  # dynamic: a filter is a gate
    everywhere = list(range(2, count + 2))
    return union_without_gates([spans, weight], [spans, weight], [[], everywhere])


def _channels_merged(spans: Spans, groups: int, inputs: int, outputs: int) -> Spans:
    if spans.shape[2] == 1 or groups == 1:
        return merged_along(spans, [1])
    parts = spans.reshape(6, spans.shape[1], groups, inputs // groups, *spans.shape[3:]).max(3)
    return compact(parts.repeat(outputs // groups, 2), [1])


@rule(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "mkldnn_max_pool2d",
    places=places.on_grid,
)
def pooling(call: Call, axis: int) -> Spans:
    count = int(_plain_name(call)[8])
    kernel = _each(call["kernel_size"], count)
    stride = _each(call["stride"] or kernel, count)
    padding = _each(call["padding"], count)
    dilation = _each(call["dilation"] if call.has("dilation") else 1, count)
    spans = call.spans("self", axis)
    for k in range(count):
        dim = call.out.ndim - count + k
        size, outputs = call["self"].shape[dim], call.out.shape[dim]
        taps = sliding(size, outputs, kernel[k], stride[k], padding[k], dilation[k])
        spans = read(spans, dim, taps)
    return spans


def _plain_name(call: Call) -> str:
    name: str = call.func._schema.name.partition("::")[2]
    return name.removeprefix("mkldnn_")


@rule(
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    places=places.on_grid,
)
def adaptive_pooling(call: Call, axis: int) -> Spans:
    spans = call.spans("self", axis)
    count = len(_each(call["output_size"], 1))
    for dim in range(call.out.ndim - count, call.out.ndim):
        spans = read(spans, dim, adapting(call["self"].shape[dim], call.out.shape[dim]))
    return spans


@rule("constant_pad_nd", places=places.continued)
def constant_padding(call: Call, axis: int) -> Spans:
    return _padded(call, call["pad"], axis, lambda at, _size: at)


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", places=places.continued)
def reflection_padding(call: Call, axis: int) -> Spans:
    return _padded(
        call, call["padding"], axis, lambda at, size: size - 1 - np.abs(size - 1 - np.abs(at))
    )


@rule("replication_pad1d", "replication_pad2d", "replication_pad3d", places=places.continued)
def replication_padding(call: Call, axis: int) -> Spans:
    return _padded(call, call["padding"], axis, lambda at, size: at.clip(0, size - 1))


def _padded(call: Call, pads: Sequence[int], axis: int, source: Any) -> Spans:
    """``pads`` are (before, after) from the last dimension on; ``source`` says what is read."""
    spans = call.spans("self", axis)
    for k in range(len(pads) // 2):
        dim = call.out.ndim - 1 - k
        size = call["self"].shape[dim]
        at = np.arange(-pads[2 * k], size + pads[2 * k + 1])
        spans = read(spans, dim, Taps(source(at, size)[:, None], size))
    return spans


_RESIZING = (
    "upsample_nearest1d",
    "_upsample_nearest_exact1d",
    "upsample_linear1d",
    "upsample_nearest2d",
    "_upsample_nearest_exact2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "_upsample_lanczos2d_aa",
    "upsample_nearest3d",
    "_upsample_nearest_exact3d",
    "upsample_trilinear3d",
)
_SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}


@rule(*_RESIZING, places=places.on_grid)
def resizing(call: Call, axis: int) -> Spans:
    count = call.out.ndim - 2
    names = _SCALES[count]
    corners = call["align_corners"] if call.has("align_corners") else None
    spans = call.spans("self", axis)
    for k in range(count):
        size, outputs = call["self"].shape[2 + k], call.out.shape[2 + k]
        if size == 1 and outputs > 1:
            spans = broadcast_alone(spans, call.extents[axis])
        taps = _resized(call.func, names, size, outputs, corners, call[names[k]])
        spans = read(spans, 2 + k, taps)
    return spans


@lru_cache(maxsize=256)
def _resized(
    func: Any, names: tuple[str, ...], size: int, outputs: int, corners: bool | None, scale: Any
) -> Taps:
    """Which positions a resize reads: those that it gives a weight, asked of itself."""
    options: dict[str, Any] = {names[0]: scale}
    if corners is not None:
        options["align_corners"] = corners
    probe = torch.eye(size, dtype=torch.float64)
    if len(names) == 1:
        weights = func(probe[None], [outputs], **options)[0].T.numpy()
    else:  # the last dimension keeps its size: antialiasing is wrong where that is 1
        between = (1,) * (len(names) - 2)
        resized = func(probe.view(1, 1, size, *between, size), [outputs, *between, size], **options)
        weights = resized.view(outputs, size).numpy()
    positions = [np.flatnonzero(np.abs(row) > 1e-9) for row in weights]
    index = np.full((outputs, max(1, *(len(at) for at in positions))), NOWHERE)
    for row, at in zip(index, positions, strict=True):
        row[: len(at)] = at
    return Taps(index, size)


@rule("im2col")
def windows_as_columns(call: Call, axis: int) -> Spans:
    """``(C, H, W)`` to ``(C · kernel, positions)``, with a batch or without."""
    source = call["self"]
    first = source.ndim - 2
    spans = call.spans("self", axis)
    options = [call[n] for n in ("kernel_size", "stride", "padding", "dilation")]
    kernel, counts = call["kernel_size"], []
    for k in (0, 1):
        size = source.shape[first + k]
        width, stride, padding, dilation = (_each(option, 2)[k] for option in options)
        counts.append((size + 2 * padding - dilation * (width - 1) - 1) // stride + 1)
        taps = sliding(size, counts[k], width, stride, padding, dilation)
        spans = gathered(spans, first + 2 * k, taps)
    spans = spans.transpose(*range(first + 1), first + 2, first + 4, first + 1, first + 3)
    shape = (*source.shape[:first], *kernel, *counts)
    return reshaped(spans, shape, tuple(call.out.shape))


@rule("col2im", places=places.on_grid)
def columns_as_windows(call: Call, axis: int) -> Spans:
    """The inverse, windows summed where they overlap."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        _each(call[n], 2) for n in ("kernel_size", "stride", "padding", "dilation")
    )
    height, width = call.out.shape[-2:]
    rows = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    columns = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    lead = tuple(call.out.shape[:-2])
    shape = (*lead, kh, kw, rows, columns)
    spans = full(reshaped(call.spans("self", axis), call.shape("self"), shape), shape)
    canvas = np.zeros((6, *lead, height + 2 * ph, width + 2 * pw), np.int32)
    for i, j in np.ndindex(kh, kw):
        part = canvas[..., i * dh : i * dh + sh * rows : sh, j * dw : j * dw + sw * columns : sw]
        np.maximum(part, spans[..., i, j, :, :], out=part)
    inner = canvas[..., ph : ph + height, pw : pw + width]
    return compact(inner, range(call.out.ndim))


@rule("torchvision::deform_conv2d", value_dependent=True, places=places.on_grid)
def deformable_convolution(call: Call, axis: int) -> Spans:
    """Samples wherever its offsets say; locally, where it would without any."""
    kernel, shape = call.shape("weight")[2:], call.shape("input")
    spans = call.spans("input", axis)
    for k, letter in enumerate("hw"):
        stride, pad, dilation = (call[f"{n}_{letter}"] for n in ("stride", "pad", "dilation"))
        outputs = call.out.shape[2 + k]
        taps = sliding(shape[2 + k], outputs, kernel[k], stride, pad, dilation)
        spans = read(spans, 2 + k, taps)
    for name in ("offset", "mask"):
        if call.depends(name):
            spans = np.maximum(spans, merged_along(call.spans(name, axis), [1]))
    spans = expanded(merged_along(spans, [1]), 0, spans.shape[1]).copy()
    spans[:2] = np.maximum(spans[:2], everything(call.extents[axis], 4)[:2])
    return spans
