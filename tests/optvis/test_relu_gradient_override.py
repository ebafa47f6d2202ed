"""The way out of a flat activation function: only for who needs it, and only upwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convscope as cs
from convscope._optvis import Transforms
from convscope._optvis.relu_gradient_override import relu_gradient_override

FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu, in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "Tensor.relu_": lambda x: x.relu_(),
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "hardtanh 0…6, in place": lambda x: F.hardtanh(x, 0.0, 6.0, True),
    "clamp": lambda x: x.clamp(min=0),
    "torch.clamp": lambda x: torch.clamp(x, 0.0, 4.0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
}


class Flat(nn.Module):
    """A channel that random pictures leave where its activation function is flat."""

    def __init__(self, function: Callable[[Tensor], Tensor], bias: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.function = function
        self.bias = bias
        with torch.no_grad():
            edge = torch.tensor([[-2.0, 0, 2], [-2, 0, 2], [-2, 0, 2]])
            self.conv.weight[:] = torch.stack([edge, edge.T])[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x) + self.bias).mean((2, 3))


@pytest.mark.parametrize("name", FLAT)
def test_a_unit_with_a_flat_start_is_revived(name: str) -> None:
    """The best picture adds 6: enough to leave the flat part, and noise is not."""
    start = {"hardtanh": -5.0, "hardswish": -4.0, "hardsigmoid": -7.0}.get(name, -4.0)
    model = cs.load(
        Flat(FLAT[name], start), input=(1, 16, 16), preprocess=cs.Preprocess(size=(16, 16))
    )
    last = model.layers[-2].path if "mean" in model.layers[-1].path else model.layers[-1].path
    seen = cs.maximize(model, f"{last}:0", steps=64, transforms=Transforms(0, 0, 0, 0, 0))
    assert not seen.dead
    assert seen.curve[-1] > seen.curve[0]


@pytest.mark.parametrize("function", FLAT.values(), ids=FLAT)
def test_values_and_other_pictures_are_not_touched(function: Callable[[Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = (3 * torch.randn(3, 4, 5, 5, generator=generator)).requires_grad_()
    helped = plain.detach().clone().requires_grad_()
    expected = function(plain * 1.0)
    with relu_gradient_override(torch.tensor([True, False, True])):
        found = function(helped * 1.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    expected.sum().backward()
    found.sum().backward()  # every picture has a gradient of its own: nothing is overridden
    torch.testing.assert_close(helped.grad, plain.grad, rtol=0, atol=0)


@pytest.mark.parametrize(("start", "sign"), [(-5.0, 1), (9.0, -1)])
def test_only_what_leads_back_is_let_through(start: float, sign: int) -> None:
    """A clamp to 0…6: from below, gradients that raise; from above, those that lower."""
    values = torch.full((2, 1, 3, 3), start, requires_grad=True)
    with relu_gradient_override(torch.tensor([True, False])):
        result = F.relu6(values + 0)
    slopes = torch.arange(-4.0, 5.0).view(1, 1, 3, 3).expand(2, -1, -1, -1)
    (gradient,) = torch.autograd.grad(result, values, slopes)
    assert not gradient[1].any()
    np.testing.assert_array_equal(gradient[0].sign(), ((slopes[0] * sign) > 0) * sign)
