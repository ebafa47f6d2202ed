"""Activations handed over as they are computed are those that ``activations`` returns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ModelError, UnknownLayer, is_out_of_memory


class Overwriting(nn.Module):
    """Writes into results after they were computed, re-uses a module, and adds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.last = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.conv(images))
        maps += images
        maps = self.act(self.conv(maps))
        maps.mul_(2)
        return self.last(maps.mean((2, 3)))


def model() -> cs.Model:
    return cs.load(Overwriting(), preprocess=cs.Preprocess(size=(6, 5)))


PATHS = ["conv", "act", "conv#2", "act#2", "/add", "last"]


def test_what_is_streamed_is_what_is_returned() -> None:
    looked, images = model(), torch.rand(2, 3, 6, 5)
    expected = looked.activations(images, PATHS)
    found: dict[str, Tensor] = {}
    looked.stream(images, PATHS, lambda path, maps: found.__setitem__(path, maps.clone()))
    order = [layer.path for layer in looked.layers.select(PATHS)]
    assert sorted(found) == sorted(order)
    for path in order:
        assert torch.equal(found[path], expected[path]), path


def test_the_pass_ends_with_the_deepest_layer_and_leaves_no_hook() -> None:
    module = Overwriting()
    module.last = nn.Linear(7, 2)  # would fail
    looked = cs.load(module, preprocess=cs.Preprocess(size=(6, 5)))
    with pytest.raises(ModelError):
        looked.logits(torch.rand(1, 3, 6, 5))
    seen: list[str] = []
    looked.backend.stream(
        looked, torch.rand(1, 3, 6, 5), ["conv", "act"], lambda path, _: seen.append(path)
    )
    assert seen == ["conv", "act"]
    assert not any(part._forward_hooks for part in module.modules())


def test_what_the_consumer_raises_comes_out_as_it_is() -> None:
    def refuse(path: str, maps: Tensor) -> None:
        raise KeyError(path)

    with pytest.raises(KeyError, match="act"):
        model().stream(torch.rand(1, 3, 6, 5), "act", refuse)


def test_a_layer_that_is_not_called_is_named() -> None:
    looked = model()
    with pytest.raises(UnknownLayer, match=r"'conv#3' of Overwriting was not called"):
        looked.backend.stream(
            looked, torch.rand(1, 3, 6, 5), ["conv", "conv#3"], lambda path, maps: None
        )


def test_a_fingerprint_is_that_of_the_numbers() -> None:
    one, same, other = model(), model(), model()
    with torch.no_grad():
        other.module.conv.bias[0] += 1e-6
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (ValueError("shapes do not match"), False),
    ],
)
def test_running_out_of_memory_is_recognized_inside_other_errors(
    error: Exception, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected
    with pytest.raises(ModelError) as raised:
        raise ModelError("failed") from error
    assert is_out_of_memory(raised.value) is expected


def test_a_keras_model_streams_too() -> None:
    keras = pytest.importorskip("keras", reason="keras is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("KERAS_BACKEND is not torch")
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((6, 5, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Conv2D(2, 3),
        ]
    )
    looked = cs.load(network)
    paths = [layer.path for layer in looked.layers]
    images = torch.rand(2, 6, 5, 3)
    expected = looked.activations(images, paths)
    found: dict[str, Tensor] = {}
    looked.stream(images, paths, lambda path, maps: found.__setitem__(path, maps.clone()))
    assert all(torch.equal(found[path], expected[path]) for path in paths)
    assert len(looked.fingerprint()) == 16
