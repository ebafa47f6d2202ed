"""Weights: read without running code, and told exactly where they do not fit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convscope._errors import UnsafeFile, WeightsError
from convscope._models import Input
from convscope._models.fitting import fit_weights
from convscope._models.sources import torch_model
from convscope._models.weights import Weights, read_weights, untrained_kernels


@pytest.fixture
def module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def _one_line(error: type[Exception], call: Any) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_safetensors_are_read_and_old_checkpoints_lack_a_counter(
    tmp_path: Path, module: nn.Module
) -> None:
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "w.safetensors")
    fit_weights(module, read_weights(tmp_path / "w.safetensors"), "net")


def test_a_pickle_that_wants_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"state_dict": Attack()}, tmp_path / "w.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack(), protocol=2))
    for name in ("w.pth", "plain.pth"):
        text = _one_line(UnsafeFile, lambda name=name: read_weights(tmp_path / name))
        assert text == (
            f"{tmp_path}/{name} wants to run code when opened (posix.system), so it is not. Save "
            "the weights alone: torch.save(model.state_dict(), ...), and give the network with -m"
        )
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_is_refused_with_the_class_it_wants(
    tmp_path: Path, module: nn.Module
) -> None:
    torch.save(module, tmp_path / "w.pth")
    text = _one_line(UnsafeFile, lambda: read_weights(tmp_path / "w.pth"))
    assert "(torch.nn.modules.container.Sequential)" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pth", b"no pickle at all"),
        ("w.pth", b""),
        ("w.pth", b"PK\x03\x04 cut short"),
        ("w.pth", b"\x89HDF\r\n\x1a\n" + bytes(64)),
        ("w.safetensors", b"version https://git-lfs"),
    ],
)
def test_damaged_files_are_not_called_unsafe(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    text = _one_line(WeightsError, lambda: read_weights(tmp_path / name))
    assert text.startswith(f"{tmp_path}/{name} ")
    assert "run code" not in text


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    text = _one_line(WeightsError, lambda: read_weights(tmp_path / "list.pth"))
    assert text.endswith(
        "list.pth holds a list, not a state_dict. Save one: torch.save(model.state_dict(), ...)"
    )
    torch.save({"epoch": 2}, tmp_path / "epoch.pth")
    assert "holds no tensors by name" in _one_line(
        WeightsError, lambda: read_weights(tmp_path / "epoch.pth")
    )
    text = _one_line(WeightsError, lambda: read_weights(tmp_path / "epcoh.pth"))
    assert text == f"No weights '{tmp_path}/epcoh.pth'. Close: 'epoch.pth'."


def test_the_first_keys_that_do_not_fit_are_named(module: nn.Module) -> None:
    state = dict(module.state_dict())
    state["0.weight"] = torch.zeros(8, 3, 3, 3)
    for key in ("1.weight", "1.bias", "2.bias"):
        state[f"x.{key}"] = state.pop(key)
    text = _one_line(WeightsError, lambda: fit_weights(module, Weights("w.pth", state), "net"))
    assert text == (
        "w.pth does not fit net: '0.weight' is (8, 3, 3, 3) in the file and (4, 3, 3, 3) in the "
        "network; the file lacks '1.weight', '1.bias' and 1 more; the network lacks 'x.1.weight', "
        "'x.1.bias' and 1 more"
    )


# Kernels in the standard layout


@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_of_a_transposed_convolution(groups: int) -> None:
    layer = nn.ConvTranspose2d(4, 6, (3, 2), groups=groups, bias=False)
    kernel = torch_model(nn.Sequential(layer), "t", Input(4)).weights("0")
    assert kernel.shape == (6, 4 // groups, 3, 2)
    for channel in range(4):  # the response to one pixel is the kernel itself
        pixel = torch.zeros(1, 4, 1, 1)
        pixel[0, channel] = 1
        response = layer(pixel)[0].detach().numpy()
        group, inside = divmod(channel, 4 // groups)
        mine = slice(group * 6 // groups, (group + 1) * 6 // groups)
        torch.testing.assert_close(response[mine], kernel[mine, inside])


def test_layers_without_a_kernel_say_which_have_one() -> None:
    model = torch_model(nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm((4, 5, 5))), "net", Input(3))
    model.set_input(preprocess=model.input.preprocess.at((5, 5)))
    with pytest.raises(KeyError) as caught:
        model.weights("1")
    assert str(caught.value) == "LayerNorm '1' of net has no kernel. Layers that have one: '0'"


# Does it look untrained


def test_untrained_networks_are_recognized_and_why(module: nn.Module) -> None:
    def why(network: nn.Module) -> str:
        return torch_model(network, "net", Input(3)).untrained_evidence()

    assert why(module) == "its batch normalizations have never seen a batch"
    module(torch.rand(2, 3, 8, 8))
    plain = nn.Sequential(nn.Conv2d(3, 32, 5), nn.Conv2d(32, 32, 3), nn.Linear(99, 10))
    assert why(plain) == "its kernels are uniform random numbers"
    for layer in plain:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert why(plain) == "all its biases are exactly zero"
    for layer in plain:
        nn.init.normal_(layer.bias)
    assert why(plain) == ""
    assert why(nn.ReLU()) == ""


def test_large_kernels_are_sampled_and_the_first_trained_one_ends_the_search() -> None:
    class Unread:
        def numel(self) -> int:
            return 10**9

        def detach(self) -> Any:
            raise AssertionError("read although the first kernel looks trained")

    assert untrained_kernels([(torch.randn(40, 40), None), (Unread(), None)]) == ""  # type: ignore
    uniform = torch.rand(1000, 4000) - 0.5
    assert untrained_kernels([(uniform, None)]) == "its kernels are uniform random numbers"
