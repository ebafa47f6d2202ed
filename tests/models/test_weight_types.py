"""Networks whose weights are of several floating types: the batch enters with the one they take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import convscope as cs


class Mixed(nn.Module):
    """A convolution, and parts of other types registered before and after it."""

    def __init__(self, kind: torch.dtype, first: Callable[[], nn.Module | nn.Parameter]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = first()
        self.conv = nn.Conv2d(3, 4, 3).to(kind)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(self.conv(x).float() * self.calls)


def double_scalar() -> nn.Parameter:
    return nn.Parameter(torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "first",
    [
        double_scalar,
        lambda: nn.Parameter(torch.ones(())),
        lambda: nn.Linear(4, 2).double(),  # a head, registered first
        lambda: nn.Linear(4, 2).half(),
        lambda: nn.Conv2d(4, 2, 1),
    ],
)
def test_a_batch_enters_with_the_type_that_the_first_kernel_called_takes(
    kind: torch.dtype, first: Callable[[], nn.Module | nn.Parameter]
) -> None:
    plain, images = Mixed(kind, first).eval(), torch.rand(2, 3, 8, 8)
    model = cs.load(Mixed(kind, first), input=(3, 8, 8))
    found = model.activations(images, ["conv", "norm"])
    with torch.no_grad():
        expected = plain(images.to(kind))
        assert torch.equal(found["conv"], plain.conv(images.to(kind)).float())
    assert torch.equal(found["norm"], expected)  # counted once: trying a type leaves no trace
    assert model.module.calls.item() == 0
    entered = images.clone().requires_grad_()
    result = model.activations(entered, "conv", grad=True)["conv"]
    assert torch.autograd.grad(result.sum(), entered)[0].dtype == torch.float32


def test_a_network_that_casts_its_input_itself_gets_the_type_of_its_first_kernel() -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.conv = nn.Conv2d(3, 4, 3).half()

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.half()).float() * self.scale

    network, images = Casting().eval(), torch.rand(1, 3, 8, 8)
    found = cs.load(network, input=(3, 8, 8)).activations(images, "conv")["conv"]
    with torch.no_grad():
        assert torch.equal(found, network.conv(images.half()).float())


def test_a_network_that_runs_with_no_type_says_its_own_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3).double(), nn.Conv2d(4, 4, 3))
    with pytest.raises(cs.ConvscopeError, match="Sequential failed on an input of 3×8×8: Runtime"):
        cs.load(network).logits(torch.rand(3, 8, 8))
