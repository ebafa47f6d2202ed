"""Blocks that return their result in some structure: seen, edited, and differentiated like any."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._models.structure import first_tensor, leaves, replaced


@dataclass
class Output:
    features: Any
    extra: Any = None


@dataclass(frozen=True)
class Frozen:
    features: Any


@dataclass(slots=True)
class Slotted:
    features: Any


class Named(dict):  # type: ignore[type-arg]
    """A dict that cannot be made from its items alone."""

    def __init__(self, name: str, **items: Any) -> None:
        super().__init__(**items)
        self.name = name


class Pair(tuple):  # type: ignore[type-arg]
    """A tuple that is not made from an iterable."""

    __slots__ = ()

    def __new__(cls, first: Any, second: Any) -> Pair:
        return super().__new__(cls, (first, second))


Fields = namedtuple("Fields", "features extra")

# How a block wraps its result, and how the network takes it out again.
WRAPPED: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "tuple": (lambda t: (None, t), lambda o: o[1]),
    "list": (lambda t: [t, t * 2], lambda o: o[0]),
    "dict": (lambda t: {"a": [None, (t,)]}, lambda o: o["a"][1][0]),
    "OrderedDict": (lambda t: OrderedDict(features=t), lambda o: o["features"]),
    "defaultdict": (lambda t: defaultdict(list, features=t), lambda o: o["features"]),
    "dict subclass": (lambda t: Named("x", features=t), lambda o: o["features"]),
    "UserDict": (lambda t: UserDict(features=t), lambda o: o["features"]),
    "mapping proxy": (lambda t: {"a": MappingProxyType({"b": 1}), "c": t}, lambda o: o["c"]),
    "namedtuple": (lambda t: Fields(t, None), lambda o: o.features),
    "tuple subclass": (lambda t: Pair(t, None), lambda o: o[0]),
    "dataclass": (lambda t: Output(t), lambda o: o.features),
    "frozen dataclass": (lambda t: Frozen(t), lambda o: o.features),
    "slotted dataclass": (lambda t: Slotted(t), lambda o: o.features),
    "nested dataclass": (lambda t: Output([Frozen(t)]), lambda o: o.features[0].features),
    "namespace": (lambda t: SimpleNamespace(features=t), lambda o: o.features),
    "integers first": (lambda t: (torch.arange(3), t), lambda o: o[1]),
}


class Block(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 4, 3), kind

    def forward(self, x: Tensor) -> Any:
        return WRAPPED[self.kind][0](self.conv(x))


class Network(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.block, self.head, self.kind = Block(kind), nn.Conv2d(4, 3, 1), kind

    def forward(self, x: Tensor) -> Tensor:
        return self.head(WRAPPED[self.kind][1](self.block(x))).mean((2, 3))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
def test_a_block_is_recorded(kind: str, grad: bool, images: Tensor) -> None:
    network = Network(kind).eval()
    expected = network.block.conv(images)
    maps = cs.load(network, input=(3, 9, 8)).activations(images, ["block", "head"], grad=grad)
    torch.testing.assert_close(maps["block"], expected, rtol=0, atol=0, check_device=False)
    torch.testing.assert_close(maps["head"], network.head(expected), rtol=0, atol=0)
    if grad:
        (gradient,) = torch.autograd.grad(maps["head"].sum(), maps["block"])
        weights = network.head.weight.sum(0).expand(2, 4, 7, 6)
        torch.testing.assert_close(gradient, weights)


@pytest.mark.parametrize("kind", WRAPPED)
def test_an_edit_reaches_what_follows(kind: str, images: Tensor) -> None:
    network = Network(kind).eval()
    edited = cs.load(network, input=(3, 9, 8)).edited({"block": torch.zeros_like})
    torch.testing.assert_close(edited.logits(images), network.head.bias.expand(2, 3).detach())


def test_a_structure_is_copied_and_the_original_kept() -> None:
    old, new = torch.zeros(1), torch.ones(1)
    original = Output([Frozen(old), {"a": old}], extra="kept")
    made = replaced(original, old, new)
    assert made.features[0].features is new
    assert made.features[1]["a"] is new
    assert made.extra == "kept"
    assert original.features[0].features is old


def test_what_is_no_structure_is_a_leaf() -> None:
    module, text = nn.ReLU(), "text"
    assert list(leaves([module, text, None, 3])) == [module, text, None, 3]
    assert first_tensor([module, torch.arange(3)]) is None
    assert replaced(module, text, None) is module
