"""Every computed result has an address: against plain hooks, or the same written out by hand."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convscope as cs

H, W = 6, 8


def load(network: nn.Module) -> cs.Model:
    return cs.load(network.eval(), input=(3, H, W))


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, H, W, generator=torch.Generator().manual_seed(count))


@dataclass(frozen=True)
class Pair:
    low: Tensor
    high: Tensor


class Several(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.kind(y.clamp(max=0), y.clamp(min=0))


class Further(nn.Module):
    def __init__(self, kind: Any = Pair) -> None:
        super().__init__()
        self.body = Several(kind)
        self.rows = nn.LSTM(4 * 6, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        pair = self.body(x)
        values = pair if isinstance(pair, (tuple, list)) else list(vars(pair).values())
        first, second = (values[0] + values[1]).chunk(2, 1)
        first = first.clone()
        first[:, 0] = 0
        joined = torch.cat([first, second, first], 1)[:, :4]
        out, (state, _) = self.rows(joined.permute(0, 2, 1, 3).flatten(2))
        return out[:, -1] + state[0]


@pytest.mark.parametrize("kind", [Pair, lambda a, b: (a, b), lambda a, b: [a, b]])
def test_further_values_of_a_result(kind: Any) -> None:
    torch.manual_seed(0)
    network, values = Further(kind).eval(), images()
    model = load(network)
    body = network.body.conv(values)
    recorded = model.activations(values, ["body", "body[1]", "/chunk[1]", "rows[1]"])
    assert torch.equal(recorded["body"], body.clamp(max=0))
    assert torch.equal(recorded["body[1]"], body.clamp(min=0))
    assert torch.equal(recorded["/chunk[1]"], body.chunk(2, 1)[1])
    assert recorded["rows[1]"].shape == (2, 1, 5)  # one layer of states
    assert model.layers["rows[1]"].parameters == 0
    first = body.chunk(2, 1)[0].clone()
    first[:, 0] = 0
    assert torch.equal(model.activations(values, "/setitem")["/setitem"], first)


def test_edits_and_gradients_of_further_values() -> None:
    torch.manual_seed(0)
    network, values = Further().eval(), images()
    model, other = load(network), copy.deepcopy(network)
    edited = model.edited({"body[1]": torch.zeros_like}).logits(values)
    other.body.kind = lambda a, b: Pair(a, b * 0)
    assert torch.equal(edited, other(values))
    written = model.edited({"/setitem": lambda maps: maps * 0 + 2}).logits(values)
    assert not torch.equal(written, network(values))
    x = values.clone().requires_grad_()
    at = model.activations(x, ["body[1]", "/add"], grad=True)
    slope = torch.autograd.grad(at["/add"].sum(), at["body[1]"])[0]
    assert torch.equal(slope, torch.ones_like(slope))


class Block(nn.Module):
    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x))) + x


class Shared(nn.Module):
    """A block made of modules that were registered before it, under other names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.block = Block(self.conv, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).mean((2, 3))


def test_a_block_of_modules_that_were_registered_before_it() -> None:
    torch.manual_seed(0)
    network, values = Shared().eval(), images()
    model = load(network)
    listed = [layer.path for layer in model.layers]
    assert listed == ["block", "conv", "norm", "block/relu", "block/add", "/mean"]
    assert model.layers["block"].container
    named = model.activations(values, ["block.conv", "conv"])
    assert torch.equal(named["block.conv"], network.conv(values))
    assert torch.equal(named["block.conv"], named["conv"])
    assert model.weights("block.conv").shape == (3, 3, 3, 3)
    off = model.edited({"block.conv": torch.zeros_like}).logits(values)
    assert not torch.equal(off, network(values))
    assert model.receptive_fields()["block.conv"].size == (3, 3)
    maps = cs.feature_maps(model, values[0], "block.conv")["block.conv"]
    assert torch.allclose(torch.from_numpy(maps.values), named["conv"][0], atol=1e-6)


def test_a_second_name_is_the_call_that_is_made_by_it() -> None:
    torch.manual_seed(0)
    act = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.Conv2d(4, 4, 3), act).eval()
    model = load(network)
    assert model.layers["1#2"].aliases == ("3",)
    recorded = model.activations(images(), ["1", "3"])
    assert torch.equal(recorded["3"], network(images()))
    assert torch.equal(recorded["1"], network[:2](images()))


class Loop(nn.Module):
    """Calls its convolution more often for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3 if x.mean() > 0.9 else 1):
            x = self.conv(x)
        return x.mean((2, 3))


def test_calls_that_only_some_images_lead_to() -> None:
    torch.manual_seed(0)
    network = Loop().eval()
    model, bright = load(network), torch.ones(1, 3, H, W)
    assert [layer.path for layer in model.layers] == ["conv", "/mean"]
    third = model.activations(bright, "conv#3")["conv#3"]
    assert torch.equal(third, network.conv(network.conv(network.conv(bright))))
    with pytest.raises(cs.ConvscopeError, match=r"'conv#3' of Loop was not called"):
        model.activations(bright * 0, "conv#3")


class PastTheVersion(nn.Module):
    def __init__(self, write: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.write(y)
        return y.mean((2, 3))


@pytest.mark.parametrize(
    "write",
    [lambda y: y.data.clamp_(min=0), lambda y: y.detach().numpy().__imul__(2)],
    ids=["data", "numpy"],
)
def test_writes_that_torch_does_not_count(write: Any) -> None:
    torch.manual_seed(0)
    network = PastTheVersion(write).eval()
    recorded = load(network).activations(images(), "conv")["conv"]
    assert torch.equal(recorded, network.conv(images()))


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda one: self.conv(one[None])[0].mean((1, 2)))(x)


def test_a_convolution_inside_vmap() -> None:
    torch.manual_seed(0)
    network, values = Mapped().eval(), images(3)
    model = load(network)
    assert torch.allclose(
        model.activations(values, "conv")["conv"], network.conv(values), atol=1e-6
    )
    doubled = model.edited({"conv": lambda maps: maps * 2}).logits(values)
    assert torch.allclose(doubled, network(values) * 2, atol=1e-6)
