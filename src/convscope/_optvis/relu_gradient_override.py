"""Gradients through inactive ReLUs, for images that would otherwise never get a gradient.

A ReLU has no gradient where it is inactive, nor has a clamp on its flat ends. ``with
relu_gradient_override(…)``, each of them passes a gradient for the marked images that have none,
except where it would push an inactive unit further down (lucid's rule). Positions near the
threshold weigh most: evenly spread, the gradients of the many positions of a grating would cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Interval = tuple[float, float]


class _GradientOverride(torch.autograd.Function):
    """Zeros in the forward pass; in the backward pass, the gradient of images that have no other.

    Only the marked images are stored and computed: the others of the batch cost nothing.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, interval: Interval, marked: Tensor) -> Tensor:
        ctx.save_for_backward(values[marked], marked)  # a copy: what follows may write in place
        ctx.interval = interval
        return values.new_zeros(()).expand(values.shape)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None]:
        values, marked = ctx.saved_tensors
        gradient = upstream[0][marked]
        low, high = ctx.interval
        passes = (gradient != 0) & (values > low) & (values < high)
        without_gradient = ~passes.flatten(1).any(1)
        if not without_gradient.any():
            return None, None, None
        distance = (low - values).clamp_min(0) + (values - high).clamp_min(0)
        where = ((values <= low) & (gradient > 0)) | ((values >= high) & (gradient < 0))
        where &= without_gradient.view(-1, *[1] * (values.ndim - 1))
        override = torch.zeros_like(upstream[0])
        override[marked] = gradient * where * _nearness(distance, where).view_as(values)
        return override, None, None


def _nearness(distance: Tensor, where: Tensor) -> Tensor:
    """Return 1 for the smallest distance in question, e⁻³ at one standard deviation more."""
    flat = distance.flatten(1)
    smallest = flat.masked_fill(~where.flatten(1), inf).amin(1, keepdim=True)
    std = flat.std(1, keepdim=True).clamp_min(1e-12) if flat.shape[1] > 1 else 1.0
    return (3 * (smallest - flat) / std).clamp(-30, 0).exp().nan_to_num()


def _bounds(args: tuple[Any, ...], options: Mapping[str, Any], names: tuple[str, str]) -> Interval:
    given = dict(zip(names, args[1:], strict=False)) | dict(options)
    low, high = (given.get(name) for name in names)
    return (
        float(low) if isinstance(low, (int, float)) else -inf,
        float(high) if isinstance(high, (int, float)) else inf,
    )


def _functions(names: str, interval: Callable[..., Interval]) -> dict[Any, Callable[..., Interval]]:
    namespaces = (F, torch, Tensor)
    found = {getattr(space, name, None) for name in names.split() for space in namespaces}
    return dict.fromkeys(found - {None}, interval)


# The interval of inputs in which each function has a gradient that leads to higher values
# (hardswish falls from -3 to -1.5).
_INTERVALS: dict[Any, Callable[..., Interval]] = {
    **_functions("relu relu_", lambda args, options: (0.0, inf)),
    **_functions("relu6", lambda args, options: (0.0, 6.0)),
    **_functions("hardswish hardswish_", lambda args, options: (-1.5, inf)),
    **_functions("hardsigmoid hardsigmoid_", lambda args, options: (-3.0, 3.0)),
    **_functions(
        "threshold threshold_", lambda a, o: (_bounds(a, o, ("threshold", "value"))[0], inf)
    ),
    **_functions("clamp clamp_ clip clip_", lambda a, o: _bounds(a, o, ("min", "max"))),
    **_functions("clamp_min clamp_min_", lambda a, o: _bounds(a, o, ("min", "max"))),
    **_functions(
        "hardtanh hardtanh_",
        lambda a, o: _bounds((a[0], *(a[1:3] or (-1.0, 1.0))), o, ("min_val", "max_val")),
    ),
}


class relu_gradient_override(TorchFunctionMode):
    """A context manager; ``marked`` ``(N,)`` says which images of the batch may need it."""

    def __init__(self, marked: Tensor) -> None:
        super().__init__()
        self._marked = marked

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        interval = _INTERVALS.get(function)
        values = (args[0] if args else options.get("input")) if interval else None
        if not isinstance(values, Tensor) or not self._applies(values):
            return function(*args, **options)
        override = _GradientOverride.apply(values, interval(args, options), self._marked)  # type: ignore[misc]
        return function(*args, **options) + override

    def _applies(self, values: Tensor) -> bool:
        return values.requires_grad and values.ndim > 1 and len(values) == len(self._marked)
