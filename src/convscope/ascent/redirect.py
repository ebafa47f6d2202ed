"""Dead starts: a way out for a picture that a ReLU gives no gradient at all.

While ``redirected`` holds, the gradient of every ReLU passes for the marked pictures that get none,
except where it would push what is already negative further down (lucid's rule), and mostly where
least is missing: evenly spread, the gradients of a grating's many places would cancel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, top: float | None, marked: Tensor) -> Tensor:
        ctx.save_for_backward(values, marked)
        ctx.top = top
        return values.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        values, marked = ctx.saved_tensors
        (gradient,) = upstream
        active = values > 0 if ctx.top is None else (values > 0) & (values < ctx.top)
        passed = gradient * active
        shape = (-1, *[1] * (values.ndim - 1))
        starved = marked & ~passed.flatten(1).any(1)
        if not starved.any():
            return passed, None, None
        upward = (values > 0) | (gradient > 0)
        helpful = gradient * upward * _nearness(values, upward & (gradient != 0)).view_as(values)
        return torch.where(starved.view(shape), helpful, passed), None, None


def _nearness(values: Tensor, where: Tensor) -> Tensor:
    """1 for the highest of the values in question, e⁻³ one standard deviation below it."""
    flat = values.flatten(1)
    highest = flat.masked_fill(~where.flatten(1), -torch.inf).amax(1, keepdim=True)
    spread = flat.std(1, keepdim=True).clamp_min(1e-12) if flat.shape[1] > 1 else 1.0
    return (3 * (flat - highest) / spread).clamp(-30, 0).exp().nan_to_num()


_RELUS = {F.relu, torch.relu, Tensor.relu}
_RELU6 = {F.relu6}


class redirected(TorchFunctionMode):
    """For a ``with``; ``marked`` says which pictures of the batch may use it."""

    def __init__(self, marked: Tensor) -> None:
        super().__init__()
        self._marked = marked

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        top = 6.0 if function in _RELU6 else None
        if function in _RELUS or top:
            values = args[0] if args else (kwargs or {})["input"]
            if values.requires_grad and len(values) == len(self._marked):
                return _Redirected.apply(values, top, self._marked)
        return function(*args, **(kwargs or {}))
