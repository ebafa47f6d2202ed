"""torchvision and timm: their preprocessing, their caches, and no network."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import convscope as cs
from convscope._errors import ConvscopeError, UsageError
from convscope._models import torch_zoos


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No host is found, and every cache is empty."""

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def _refused(model: Any, **options: Any) -> str:
    with pytest.raises(ConvscopeError) as caught:
        cs.load(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    return Image.fromarray(pixels).resize((450, 300), Image.Resampling.BICUBIC)


# torchvision


@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "efficientnet_b0", "mobilenet_v3_small", "inception_v3", "vit_b_16"]
)
def test_preprocessing_equals_torchvisions(name: str) -> None:
    for entry in torchvision.models.get_model_weights(name):
        told = torch_zoos._torchvision_input(entry, {})
        seen = told.preprocess.normalize(told.preprocess.view(_picture()).pixels)
        torch.testing.assert_close(
            torch.from_numpy(seen), entry.transforms()(_picture()), atol=1e-5, rtol=0
        )
        assert told.classes == tuple(entry.meta["categories"])
        assert told.preprocess.origin == f"torchvision {entry}"


def test_every_published_entry_is_understood() -> None:
    for name in torchvision.models.list_models():
        for entry in torchvision.models.get_model_weights(name):
            assert torch_zoos._torchvision_input(entry, {"num_classes": 7}).classes == ()


def test_wrong_names_weights_and_options() -> None:
    assert _refused("torchvision:vgg_16") == (
        "No model 'vgg_16' in torchvision. Close: 'vgg16'. All: torchvision.models.list_models()"
    )
    assert _refused("torchvision:alexnet,weights=IMAGENET1K_V2") == (
        "torchvision:alexnet has no weights 'IMAGENET1K_V2'. Close: 'IMAGENET1K_V1'. "
        "Known: none, IMAGENET1K_V1, DEFAULT"
    )
    assert _refused("torchvision:squeezenet1_1,weights=none,depth=3").startswith(
        "torchvision:squeezenet1_1 raised TypeError: "
    )
    with pytest.raises(UsageError, match="weights=DEFAULT and --weights: give one of them"):
        cs.load("torchvision:alexnet,weights=DEFAULT", weights="w.pth")


def _random(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(4)
    network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return network.eval()


def test_a_file_in_torchs_cache_is_used_without_network(
    offline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = _random("squeezenet1_1")
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    place = offline / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    text = _refused("torchvision:squeezenet1_1")
    assert text == (
        "The weights of torchvision:squeezenet1_1 cannot be downloaded ([Errno -2] Name or service "
        f"not known). Put {url} at {place}, or give a file with --weights, or random ones with "
        "-m torchvision:squeezenet1_1,weights=none"
    )
    place.parent.mkdir(parents=True)
    torch.save(network.state_dict(), place)
    model = cs.load("torchvision:squeezenet1_1")
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.logits(images), network(images).detach())
    assert "get_state_dict" not in vars(torchvision.models.SqueezeNet1_1_Weights.DEFAULT)
    assert capsys.readouterr().err == ""


def test_weights_are_loaded_as_torchvision_loads_published_ones(tmp_path: Path) -> None:
    # GoogLeNet's published weights have auxiliary heads that are dropped, and go with a
    # normalization of its own that the plain constructor leaves off.
    network = _random("googlenet", aux_logits=True, init_weights=False, transform_input=True)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = cs.load("torchvision:googlenet", weights=tmp_path / "w.safetensors")
    assert model.module.transform_input
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.logits(images), network(images).detach())


def test_another_number_of_classes(tmp_path: Path) -> None:
    network = _random("squeezenet1_1", num_classes=4)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    spec, weights = "torchvision:squeezenet1_1,weights=none", tmp_path / "w.safetensors"
    assert cs.load(f"{spec},num_classes=4", weights=weights).input.classes == ()
    assert _refused(spec, weights=weights) == (
        f"{weights} does not fit squeezenet1_1: 'classifier.1.weight' is (4, 512, 1, 1) in the "
        "file and (1000, 512, 1, 1) in the network"
    )


# timm


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "test_vit",
        "efficientnet_b0",
        "beit_base_patch16_224",
        "tf_efficientnetv2_s",
        "convnext_base.clip_laion2b_augreg_ft_in12k_in1k",
        "dm_nfnet_f0",
    ],
)
def test_preprocessing_equals_timms(name: str) -> None:
    module = nn.Module()
    module.pretrained_cfg = timm.get_pretrained_cfg(name).to_dict()
    config = timm.data.resolve_model_data_config(module)
    transform = timm.data.create_transform(**config)
    told = torch_zoos._timm_input(timm, module, 3).preprocess
    seen = told.normalize(told.view(_picture()).pixels)
    torch.testing.assert_close(torch.from_numpy(seen), transform(_picture()), atol=1e-5, rtol=0)


def test_timm_without_network_fails_at_once_with_the_file_and_its_place(
    offline: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started = time.perf_counter()
    text = _refused("timm:test_resnet")
    assert time.perf_counter() - started < 5
    place = f"{offline}/hub/models--timm--test_resnet.r160_in1k/snapshots/main/model.safetensors"
    assert text == (
        "The weights of timm:test_resnet cannot be downloaded ([Errno -2] Name or service not "
        "known). Put https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/"
        f"model.safetensors at {place}, or give a file with --weights, or random ones with "
        "-m timm:test_resnet,weights=none"
    )
    assert capfd.readouterr() == ("", "")
    # and that is true:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    Path(place).parent.mkdir(parents=True)
    save_file(network.state_dict(), place)
    model = cs.load("timm:test_resnet")
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.logits(images), network(images).detach())
    assert len(model.input.classes) == 1000


def test_what_timm_does_not_have() -> None:
    assert _refused("timm:resnet81").startswith("No model 'resnet81' in timm. Close: 'resnet18'")
    text = _refused("timm:resnet18.a1_in2k")
    assert text.startswith("timm has no weights 'resnet18.a1_in2k'. Close: 'resnet18.a1_in1k'")
    text = _refused("timm:botnet50ts_256")
    assert (
        text == "timm has no weights for 'botnet50ts_256'. Random: timm:botnet50ts_256,weights=none"
    )
    assert _refused("timm:test_resnet,weights=none,dept=3").startswith(
        "timm:test_resnet raised Type"
    )


def test_timm_with_other_channels_and_weights_from_a_file(tmp_path: Path) -> None:
    model = cs.load("timm:test_resnet,weights=none,in_chans=1")
    assert model.input.channels == 1
    assert model.prepare(_picture()).values.shape[1] == 1
    assert "averaged" in model.input.preprocess.origin
    save_file(model.module.state_dict(), tmp_path / "w.safetensors")
    again = cs.load("timm:test_resnet,in_chans=1", weights=tmp_path / "w.safetensors")
    images = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(again.logits(images), model.logits(images))


def test_a_transformer_without_weights_takes_the_size_it_is_built_for() -> None:
    model = cs.load("torchvision:vit_b_32,weights=none,image_size=64")
    assert model.input.size == (64, 64)
    assert model.layers["encoder.layers.encoder_layer_0.mlp"].shape == (768, 2, 2)


# Weights as they are saved in training


@pytest.mark.parametrize("held", ["net", "state_dict"])
def test_checkpoints_of_training_go_through_the_same_door(tmp_path: Path, held: str) -> None:
    network = _random("squeezenet1_1")
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({held: state, "epoch": 3}, tmp_path / "w.pth")
    model = cs.load("torchvision:squeezenet1_1", weights=tmp_path / "w.pth")
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.logits(images), network(images).detach())
    assert model.title == "torchvision:squeezenet1_1 · weights w.pth"
    network = timm.create_model("test_resnet").eval()
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save(
        {held: network.state_dict() | {"x": torch.ones(1)}, "ema": state}, tmp_path / "w.pth"
    )
    model = cs.load("timm:test_resnet", weights=tmp_path / "w.pth")
    torch.testing.assert_close(model.logits(images), network(images).detach())


def test_nested_weights_get_what_goes_with_published_ones(tmp_path: Path) -> None:
    network = _random("googlenet", aux_logits=True, init_weights=False, transform_input=True)
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(3)}}, tmp_path / "w.ckpt")
    model = cs.load("torchvision:googlenet", weights=tmp_path / "w.ckpt")
    assert model.module.transform_input
    assert model.weights_file == "w.ckpt (state_dict.model)"
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.logits(images), network(images).detach())
