"""What differs from the network itself is refused: with planted lies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._models.torch_modules import TorchModules

SIZE = (3, 6, 8)


@torch.library.custom_op("convscope_tests::reverse_images", mutates_args=())
def reverse_images(values: Tensor) -> Tensor:
    return values.flip(0).clone()


class Reversed(nn.Module):
    """An operation that no rule describes gives each image the result of another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.other = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.other(reverse_images(y)).mean((2, 3)).flip(0)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(count))


def test_a_result_of_another_image_is_refused() -> None:
    model = cs.load(Reversed().eval(), input=SIZE)
    assert model.activations(images(), "conv")["conv"].shape == (2, 4, 4, 6)
    with pytest.raises(cs.ConvscopeError, match=r"'other' is not what Reversed computes") as error:
        model.activations(images(), "other")
    assert "an image alone has other values than in a batch" in str(error.value)
    assert "--unchecked (unchecked=True)" in str(error.value)


def test_unchecked_results_are_marked() -> None:
    model = cs.load(Reversed().eval(), input=SIZE, unchecked=True)
    maps = cs.feature_maps(model, images(1)[0], ["conv", "other"])
    assert maps["other"].values.shape == (4, 4, 6)
    assert "UNCHECKED: 'other' is not what Reversed computes" in model.input.note


def test_a_check_with_own_images_names_every_layer() -> None:
    model = cs.load(Reversed().eval(), input=SIZE)
    found = model.check(images(3))
    assert model.check(images(1)).keys() == found.keys()  # with its mirror image
    assert list(found) == [layer.path for layer in model.layers if not layer.problem]
    assert not found["conv"]
    assert "alone" in found["other"]


def test_an_observed_network_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    call = TorchModules.call
    monkeypatch.setattr(TorchModules, "call", lambda self, native: call(self, native) + 1)
    model = cs.load(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), input=SIZE)
    with pytest.raises(cs.ConvscopeError, match="the output under observation is not what"):
        model.activations(images(), "0")


def test_a_layer_that_is_observed_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    model = cs.load(network, input=SIZE)
    assert not any(model.check().values())
    run = TorchModules.plain_pass(model.backend._framework, {"0", "1"})
    assert run is not None

    def other(self: TorchModules, paths: Any) -> Any:
        def observed(values: Tensor) -> Any:
            plain = run(values)
            plain.digests["0"], plain.digests["1"] = plain.digests["1"], plain.digests["0"]
            return plain

        return observed

    monkeypatch.setattr(TorchModules, "plain_pass", other)
    found = model.check()
    assert "its values differ from those of a plain forward hook" in found["0"]
    assert "its values differ from those of a plain forward hook" in found["1"]


class Chance(nn.Module):
    """Drops activations in evaluation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.conv(x), 0.5, training=True).mean((2, 3))


class OfTheBatch(nn.Module):
    """Normalizes by the statistics of the batch, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))


@pytest.mark.parametrize("kind", [Chance, OfTheBatch])
def test_chance_and_statistics_of_the_batch_are_no_lies(kind: Any) -> None:
    model = cs.load(kind().eval(), input=SIZE)
    state = torch.get_rng_state()
    assert model.check()["conv"] == ""
    assert torch.equal(state, torch.get_rng_state()) or kind is Chance
    assert not any(model.check().values())
    assert model.activations(images(3), "conv")["conv"].shape == (3, 4, 4, 6)


def test_a_network_that_cannot_be_copied_is_compared_with_itself() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("not twice")

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model = cs.load(Held().eval(), input=SIZE)
    assert not any(model.check().values())
