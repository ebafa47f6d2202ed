"""Results changed on their way, and kernels shuffled in a copy: the network itself stays."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_networks import Functional, TinyCNN
from torch import Tensor, nn
from torch.nn import functional as F

import convscope as cs
from convscope._errors import ModelError, UnknownLayer, UsageError
from convscope._models import Edit


def _without(channel: int) -> Edit:
    def edit(values: Tensor) -> Tensor:
        values = values.clone()
        values[:, channel] = 0
        return values

    return edit


def _images() -> Tensor:
    return torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))


def test_the_network_goes_on_with_what_the_edit_returns(tiny: TinyCNN) -> None:
    """A channel before an in-place ReLU and batch norm; by hand the same."""
    model = cs.load(tiny, preprocess=cs.Preprocess(size=(10, 14)))
    found = model.edited({"conv2": _without(3)})
    with torch.no_grad():
        x = tiny.conv2(tiny.pool1(tiny.relu1(tiny.conv1(_images()))))
        x[:, 3] = 0
        truth = tiny.fc(tiny.deep(tiny.relu2(tiny.norm2(x))).mean((2, 3)))
    torch.testing.assert_close(found.logits(_images()), truth)
    torch.testing.assert_close(found.activations(_images(), ["conv2", "fc"])["fc"], truth)
    torch.testing.assert_close(found.activations(_images(), "conv2")["conv2"], x)
    assert not torch.allclose(model.logits(_images()), truth)


def test_edits_add_up_and_the_model_itself_has_none(tiny: TinyCNN) -> None:
    model = cs.load(tiny, preprocess=cs.Preprocess(size=(10, 14)))
    one = model.edited({"conv1": _without(0)})
    both = one.edited({"fc": lambda scores: scores + 10})
    torch.testing.assert_close(both.logits(_images()), one.logits(_images()) + 10)
    torch.testing.assert_close(model.logits(_images()), tiny(_images()).detach())
    assert not any(part._forward_hooks for part in tiny.modules())


def test_functions_and_second_calls_can_be_edited() -> None:
    network = Functional().eval()
    model = cs.load(network, input=(2, 16, 16))
    x = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    for path in ("/relu", "block.0/relu", "pool#2"):
        found = model.edited({path: torch.zeros_like})
        assert not found.activations(x, path)[path].any()
        assert not torch.allclose(found.logits(x), model.logits(x)), path
    headless = model.edited({"pool#2": torch.zeros_like})
    with torch.no_grad():
        truth = network.head(F.relu(torch.ones(1, 4)))
    torch.testing.assert_close(headless.logits(x), truth)


def test_gradients_pass_through_an_edit(tiny: TinyCNN) -> None:
    model = cs.load(tiny, preprocess=cs.Preprocess(size=(10, 14)))
    x = _images().requires_grad_()
    scores = model.edited({"fc": lambda values: 3 * values}).logits(x, grad=True)
    (tripled,) = torch.autograd.grad(scores[:, 1].sum(), x)
    (plain,) = torch.autograd.grad(tiny(x)[:, 1].sum(), x)
    torch.testing.assert_close(tripled, 3 * plain)


def test_a_failing_edit_leaves_nothing_behind(tiny: TinyCNN) -> None:
    model = cs.load(tiny, preprocess=cs.Preprocess(size=(10, 14)))
    with pytest.raises(UsageError, match=r"at 'conv1' returned \(2, 1, 10, 14\) for a result of"):
        model.edited({"conv1": lambda values: values[:, :1]}).logits(_images())
    with pytest.raises(UnknownLayer, match="No layer 'conv9' in TinyCNN"):
        model.edited({"conv9": torch.zeros_like})
    assert not any(part._forward_hooks for part in tiny.modules())


def test_shuffled_kernels_are_those_of_a_copy(tiny: TinyCNN) -> None:
    model = cs.load(tiny, preprocess=cs.Preprocess(size=(10, 14)))
    before = copy.deepcopy(tiny.state_dict())
    found = model.randomized(["conv1", "fc"], seed=1)
    for path in ("conv1", "fc"):
        mine, theirs = model.weights(path).ravel(), found.weights(path).ravel()
        assert (mine != theirs).any()
        assert sorted(mine) == sorted(theirs)
    assert (found.weights("conv2") == model.weights("conv2")).all()
    again = model.randomized(["conv1", "fc"], seed=1)
    torch.testing.assert_close(again.logits(_images()), found.logits(_images()))
    assert not torch.allclose(found.logits(_images()), model.logits(_images()))
    for name, value in tiny.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_that_cannot_be_copied_is_an_error() -> None:
    class Single(nn.Conv2d):
        def __deepcopy__(self, memo: object) -> Single:
            raise TypeError("there can be only one")

    model = cs.load(Single(3, 2, 3), preprocess=cs.Preprocess(size=(8, 8)))
    with pytest.raises(ModelError, match=r"cannot be copied \(there can be only one\)"):
        model.randomized([])
