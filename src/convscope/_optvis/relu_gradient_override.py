"""Dead starts: a way out for a picture that an activation function gives no gradient at all.

A ReLU passes no gradient where it is off, and so do a clamp's flat ends. While
``relu_gradient_override`` holds, each of them lets one through for the marked pictures
that get none, except where it would
push what is off further off (lucid's rule), and mostly where least is missing: evenly spread, the
gradients of a grating's many places would cancel.
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
    """Adds nothing; its gradient is what helps the marked pictures that get no other.

    Only the marked ones are kept and looked at: the others of the batch cost nothing.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, zone: Interval, marked: Tensor) -> Tensor:
        ctx.save_for_backward(values[marked], marked)  # a copy: what follows may write in place
        ctx.zone = zone
        return values.new_zeros(()).expand(values.shape)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None]:
        values, marked = ctx.saved_tensors
        gradient = upstream[0][marked]
        low, high = ctx.zone
        passed = (gradient != 0) & (values > low) & (values < high)
        starved = ~passed.flatten(1).any(1)
        if not starved.any():
            return None, None, None
        missing = (low - values).clamp_min(0) + (values - high).clamp_min(0)
        wanted = ((values <= low) & (gradient > 0)) | ((values >= high) & (gradient < 0))
        wanted &= starved.view(-1, *[1] * (values.ndim - 1))
        helped = torch.zeros_like(upstream[0])
        helped[marked] = gradient * wanted * _nearness(missing, wanted).view_as(values)
        return helped, None, None


def _nearness(missing: Tensor, where: Tensor) -> Tensor:
    """1 for the one that misses least of those in question, e⁻³ a standard deviation below it."""
    flat = missing.flatten(1)
    least = flat.masked_fill(~where.flatten(1), inf).amin(1, keepdim=True)
    spread = flat.std(1, keepdim=True).clamp_min(1e-12) if flat.shape[1] > 1 else 1.0
    return (3 * (least - flat) / spread).clamp(-30, 0).exp().nan_to_num()


def _bounds(args: tuple[Any, ...], options: Mapping[str, Any], names: tuple[str, str]) -> Interval:
    given = dict(zip(names, args[1:], strict=False)) | dict(options)
    low, high = (given.get(name) for name in names)
    return (
        float(low) if isinstance(low, (int, float)) else -inf,
        float(high) if isinstance(high, (int, float)) else inf,
    )


def _named(functions: str, zone: Any) -> dict[Any, Callable[..., Interval]]:
    places = (F, torch, Tensor)
    found = {getattr(place, name, None) for name in functions.split() for place in places}
    return dict.fromkeys(found - {None}, zone)


# Between which values of its input each function has a gradient that leads up (hardswish falls
# from -3 to -1.5).
_ZONES: dict[Any, Callable[..., Interval]] = {
    **_named("relu relu_", lambda args, options: (0.0, inf)),
    **_named("relu6", lambda args, options: (0.0, 6.0)),
    **_named("hardswish hardswish_", lambda args, options: (-1.5, inf)),
    **_named("hardsigmoid hardsigmoid_", lambda args, options: (-3.0, 3.0)),
    **_named("threshold threshold_", lambda a, o: (_bounds(a, o, ("threshold", "value"))[0], inf)),
    **_named("clamp clamp_ clip clip_", lambda a, o: _bounds(a, o, ("min", "max"))),
    **_named("clamp_min clamp_min_", lambda a, o: _bounds(a, o, ("min", "max"))),
    **_named(
        "hardtanh hardtanh_",
        lambda a, o: _bounds((a[0], *(a[1:3] or (-1.0, 1.0))), o, ("min_val", "max_val")),
    ),
}


class relu_gradient_override(TorchFunctionMode):
    """For a ``with``; ``marked`` says which pictures of the batch may use it."""

    def __init__(self, marked: Tensor) -> None:
        super().__init__()
        self._marked = marked

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        zone = _ZONES.get(function)
        values = (args[0] if args else options.get("input")) if zone else None
        if not isinstance(values, Tensor) or not self._concerns(values):
            return function(*args, **options)
        way_out = _GradientOverride.apply(values, zone(args, options), self._marked)  # type: ignore[misc]
        return function(*args, **options) + way_out

    def _concerns(self, values: Tensor) -> bool:
        return values.requires_grad and values.ndim > 1 and len(values) == len(self._marked)
