"""Rules for arithmetic: elementwise, sums over dimensions, norms, products, attention."""

from __future__ import annotations

import numpy as np

from convscope._models.tracing import places
from convscope._models.tracing.calls import Call, factors, tensors
from convscope._models.tracing.rules import ValueDependent, rule, union_without_gates
from convscope._models.tracing.spans import (
    EXACT,
    Shape,
    Spans,
    covers,
    merged_along,
    squeezed,
    union,
    varies,
)


@rule(
    "pointwise",
    *(
        "hardswish",
        "_prelu_kernel",
        "native_dropout",
        "dropout",
        "_to_copy",
        "clone",
        "contiguous",
        "masked_fill",
        "bernoulli",
        "polar",
        "complex",
        "log_sigmoid_forward",
        "rrelu_with_noise",
        "fake_quantize_per_tensor_affine",
        "fake_quantize_per_channel_affine",
        "alpha_dropout",
        "quantize_per_tensor",
        "dequantize",
        "bucketize",
        "detach",
        "alias",
        "lift_fresh",
        "lift",
        "native_batch_norm_no_training",
        "_native_batch_norm_legit_no_training",
        "gelu",
        "positive",
    ),
    places=places.pointwise,
)
def pointwise(call: Call, axis: int) -> Spans:
    """Each element depends on the elements at its own place."""
    ndim, out = call.out.ndim, tuple(call.out.shape)
    pieces, grown = [], []
    for tensor, dependence in call.sources.values():
        lead = ndim - tensor.ndim
        spans = dependence.along(axis)
        pieces.append(spans.reshape(6, *(1,) * lead, *spans.shape[1:]))
        shape: Shape = (*(1,) * lead, *tensor.shape)
        grown.append([dim for dim in range(ndim) if shape[dim] == 1 and out[dim] > 1])
    return union_without_gates(pieces, pieces, grown)


@rule("copy")
def copy(call: Call, axis: int) -> Spans:
    """What was there before is gone."""
    spans = call.spans("src", axis)
    return spans.reshape(len(spans), *(1,) * (call.out.ndim - call["src"].ndim), *spans.shape[1:])


@rule("glu")
def gated_linear_unit(call: Call, axis: int) -> Spans:
    dim = call["dim"] % call.out.ndim
    spans = call.spans("self", axis)
    if spans.shape[dim + 1] == 1:
        return spans
    halves: list[Spans] = np.split(spans, 2, dim + 1)
    return union(halves)


@rule(
    "sum",
    "mean",
    "amax",
    "amin",
    "aminmax",
    "max",
    "min",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "prod",
    "any",
    "all",
    "logsumexp",
    "linalg_vector_norm",
    "norm",
    "argmax",
    "argmin",
    "nansum",
    "nanmean",
    "median",
    "nanmedian",
    "count_nonzero",
    places=places.reduction,
)
def reduction(call: Call, axis: int) -> Spans:
    if call.has("other"):  # max of two tensors
        return pointwise(call, axis)
    source = next(tensors(call.args))
    dims = call.dims("dim", source.ndim)
    spans = merged_along(call.of(source, axis), dims)
    kept = call["keepdim"] if call.has("keepdim") else False
    return spans if kept else squeezed(spans, dims)


@rule(
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
    "logcumsumexp",
    "_logcumsumexp",
    places=places.pointwise,
)
def running(call: Call, axis: int) -> Spans:
    """Each depends on itself and on all before it."""
    spans = call.spans("self", axis)
    result: Spans = np.maximum.accumulate(spans, call["dim"] % call.out.ndim + 1)
    return result


@rule("mkldnn_rnn_layer", places=places.of_first)
def recurrent(call: Call, axis: int) -> list[Spans]:
    """Steps along dimension 0, one after another; then the last states."""
    spans = merged_along(call.spans("input", axis), [2])
    order = slice(None, None, -1 if call["reverse"] else 1)
    result = np.maximum.accumulate(spans[:, order], 1)[:, order]
    last = merged_along(spans, [0])
    states = [squeezed(last, [0]) if each.ndim < 3 else last for each in call.outputs[1:]]
    return [result, *states]


@rule(
    "topk",
    "sort",
    "kthvalue",
    "mode",
    "argsort",
    "msort",
    value_dependent=True,
    places=places.nowhere,
)
def ordering(call: Call, axis: int) -> Spans:
    """What stands at a place of an order depends on all values."""
    ndim = call["self"].ndim
    dims = [(call["dim"] if call.has("dim") else 0) % max(ndim, 1)]
    spans = merged_along(call.spans("self", axis), dims)
    return squeezed(spans, dims) if call.out.ndim < ndim else spans


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r", places=places.pointwise)
def fourier(call: Call, axis: int) -> Spans:
    return merged_along(call.spans("self", axis), call.dims("dim", call.out.ndim))


def _normalized(spans: Spans, statistics: Spans) -> Spans:
    """Exactly the statistics over all that they are taken of; locally the element alone."""
    result = np.broadcast_to(spans, np.broadcast_shapes(spans.shape, statistics.shape)).copy()
    result[EXACT] = np.maximum(result[EXACT], statistics[EXACT])
    return result


@rule(
    "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", places=places.pointwise
)
def softmax(call: Call, axis: int) -> Spans:
    spans = call.spans("self", axis)
    return _normalized(spans, merged_along(spans, [call["dim"] % call.out.ndim]))


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm", places=places.pointwise)
def layer_norm(call: Call, axis: int) -> Spans:
    spans, ndim = call.spans("input", axis), call.out.ndim
    count = len(call["normalized_shape"])
    return _normalized(spans, merged_along(spans, range(ndim - count, ndim)))


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "batch_norm",
    places=places.pointwise,
)
def batch_norm(call: Call, axis: int) -> Spans:
    """Pointwise, unless it takes the statistics of the batch."""
    spans = call.spans("input", axis)
    if not (call.has("training") and call["training"]):
        return spans
    return _normalized(spans, merged_along(spans, [k for k in range(call.out.ndim) if k != 1]))


@rule("native_group_norm", "group_norm", places=places.pointwise)
def group_norm(call: Call, axis: int) -> Spans:
    spans = call.spans("input", axis)
    space = range(2, call.out.ndim)
    statistics = merged_along(spans, space)
    channels = call.out.shape[1]
    if spans.shape[2] > 1:
        groups = call["group"] if call.has("group") else call["num_groups"]
        width = channels // groups
        parts = statistics.reshape(6, statistics.shape[1], groups, width, *(1,) * len(space))
        statistics = parts.max(3).repeat(width, 2)
    return _normalized(spans, statistics)


@rule(
    "mm",
    "bmm",
    "matmul",
    "dot",
    "mv",
    "linear",
    "addmm",
    "addbmm",
    "addmv",
    "baddbmm",
    places=places.product,
)
def product(call: Call, axis: int) -> Spans:
    left, right = factors(call)
    vector = call[right].ndim == 1
    a, b = call.spans(left, axis), call.spans(right, axis)
    if call[left].ndim == 1:
        a = a.reshape(6, 1, -1)
    if vector:
        b = b.reshape(6, -1, 1)
    elif right == "weight":
        b = b.swapaxes(-1, -2)
    result = _multiplied(a, b)
    if call[left].ndim == 1:
        result = result.squeeze(-2)
    if vector:
        result = result.squeeze(-1)
    added = "self" if left != "self" else "bias"
    return union([result, call.spans(added, axis)]) if call.depends(added) else result


def _multiplied(a: Spans, b: Spans) -> Spans:
    """Rows of ``a`` with columns of ``b``: all that is summed over, of both."""
    rows, columns = merged_along(a, [a.ndim - 2]), merged_along(b, [b.ndim - 3])
    lead = max(rows.ndim, columns.ndim)
    rows, columns, a, b = (_led(spans, lead) for spans in (rows, columns, a, b))
    last, before = lead - 2, lead - 3
    return union_without_gates([rows, columns], [a, b], [[last], [before]])


def _led(spans: Spans, ndim: int) -> Spans:
    return spans.reshape(6, *(1,) * (ndim - spans.ndim), *spans.shape[1:])


@rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "scaled_dot_product_attention",
    places=places.of_queries,
)
def attention(call: Call, axis: int) -> Spans:
    """Each query depends on itself and on all keys and values."""
    q, k, v = (call.spans(name, axis) for name in ("query", "key", "value"))
    token, feature = q.ndim - 3, q.ndim - 2
    query, keys = merged_along(q, [feature]), merged_along(k, [token, feature])
    if not (varies(query, [token]) and covers(k, query)):  # else every key is about the whole
        query = union([query, keys])
    mask = "attn_bias" if call.has("attn_bias") else "attn_mask"
    if call.depends(mask):
        spans = call.spans(mask, axis)
        query = union([query, merged_along(spans, [spans.ndim - 2])])
    return union_without_gates([query, merged_along(v, [token])], [query, v], [[feature], [token]])


@rule("_native_multi_head_attention", "_transformer_encoder_layer_fwd", places=places.pointwise)
def fused_attention(call: Call, axis: int) -> Spans:
    """All tokens of a sequence, dimension 1, depend on all."""
    tokens = [each.along(axis) for tensor, each in call.sources.values() if tensor.ndim == 3]
    return union([merged_along(spans, [1, 2]) for spans in tokens])


@rule("embedding", places=places.nowhere)
def embedding(call: Call, axis: int) -> Spans:
    """A row of a table for each index."""
    return call.spans("indices", axis)[..., None]


@rule(
    "grid_sampler_2d",
    "grid_sampler_3d",
    "cudnn_grid_sampler",
    "max_unpool2d",
    "max_unpool3d",
    "fractional_max_pool2d",
    "torchvision::roi_align",
    "torchvision::roi_pool",
    "torchvision::ps_roi_align",
    "torchvision::ps_roi_pool",
    places=places.on_grid,
)
def sampled(call: Call, axis: int) -> Spans:
    """Where these read from is decided by values."""
    raise ValueDependent


@rule(
    "nonzero",
    "nonzero_static",
    "masked_select",
    "unique_consecutive",
    "_unique2",
    "unique_dim",
    "bincount",
    "histc",
    "searchsorted",
    "multinomial",
    "torchvision::nms",
    places=places.nowhere,
)
def anywhere(call: Call, axis: int) -> Spans:
    """Where these read from is decided by values."""
    raise ValueDependent
