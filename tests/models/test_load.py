"""``load``: names, modules, trained files, factories, and the line that says what went wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_networks import TinyCNN
from torch import nn

import convscope as cs
from convscope._errors import (
    ConvscopeError,
    MissingDependency,
    ModelError,
    UsageError,
    WeightsError,
)
from convscope._models.architectures import build
from convscope._models.load import parse_spec


def _refused(model: Any, **options: Any) -> str:
    with pytest.raises(ConvscopeError) as caught:
        cs.load(model, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_requested_random_weights_are_noted_as_such() -> None:
    pytest.importorskip("torchvision")
    assert cs.load("torchvision:vit_b_16,weights=none").untrained_evidence() == (
        "its weights are random, as requested"
    )


def test_options_after_commas() -> None:
    spec = parse_spec(
        "keras:VGG16,include_top=false,classes=10,input_shape=96x64x3,alpha=.5,w=none"
    )
    assert spec.options == {
        "include_top": False,
        "classes": 10,
        "input_shape": (96, 64, 3),
        "alpha": 0.5,
        "w": None,
    }
    assert (
        _refused("demo,top")
        == "'top' in 'demo,top' is not an option. Write NAME,key=value,key=value"
    )


# Modules


def test_a_module_is_not_changed_and_its_input_is_read_from_its_first_convolution(
    tiny: TinyCNN,
) -> None:
    model = cs.load(tiny.train())
    assert model.module is tiny
    assert tiny.training
    assert (model.input.channels, model.input.size, model.name) == (3, None, "TinyCNN")
    assert cs.load(model) is model


def test_a_size_that_cannot_be_known_is_found_and_noted() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3))
    model = cs.load(module)
    assert model.layers["0"].shape == (2, 26, 26)
    assert model.input.note == "input size unknown, 28×28 assumed for the layer table"
    odd = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(7, 3))
    with pytest.raises(ModelError, match=r"Sequential failed on .* --input C,H,W"):
        cs.load(odd).layers  # noqa: B018


def test_given_options_win_and_leave_a_loaded_model_alone(tiny: TinyCNN) -> None:
    first = cs.load(tiny, input=(3, 10, 14), classes=list("abcde"))
    second = cs.load(first, preprocess="imagenet,crop=20x28", classes=list("vwxyz"))
    assert (first.input.size, first.input.classes[0]) == ((10, 14), "a")
    assert (second.input.size, second.input.classes[0]) == ((20, 28), "v")
    assert first.layers["conv1"].shape == (6, 10, 14)
    assert second.layers["conv1"].shape == (6, 20, 28)
    assert cs.load(first, preprocess="tf").input.preprocess.mean == 0.5
    assert cs.load(first, preprocess="tf").input.size == (10, 14)


@pytest.mark.parametrize(
    ("given", "options", "text"),
    [
        (
            5,
            {},
            "A int is not a model. Give a name such as 'torchvision:vgg16', a file, an nn.Module "
            "or a keras.Model",
        ),
        (
            nn.ReLU(),
            {"weights": "a.pth"},
            "weights= goes with a model's name; load them into the module yourself",
        ),
        (
            nn.ReLU(),
            {"input": (3,)},
            "input is (channels, height, width), not (3,): input=(3, 224, 224)",
        ),
        (
            nn.LazyConv2d(3, 1),
            {},
            "LazyConv2d has lazy layers without weights. Call it once on a batch first",
        ),
        ("demo", {"weights": "a.pth"}, "demo brings its own weights; --weights a.pth is too many"),
        ("demo,width=3", {}, "demo takes no options, and 'width' was given"),
        (
            "squeezenet1_1",
            {},
            "No model 'squeezenet1_1'. Close: 'torchvision:squeezenet1_1', "
            "'torchvision:squeezenet1_0'. Give demo, torchvision:NAME, timm:NAME, keras:NAME, "
            "a file, "
            "or FILE.py:factory",
        ),
        (
            "torchvison:vgg16",
            {},
            "No model 'torchvison'. Close: 'torchvision'. Give demo, "
            "torchvision:NAME, timm:NAME, keras:NAME, a file, or FILE.py:factory",
        ),
    ],
)
def test_what_is_no_model_gives_an_error_of_one_line(given: Any, options: Any, text: str) -> None:
    assert _refused(given, **options) == text


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_in_memory_is_refused() -> None:
    script = torch.jit.trace(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4))
    assert "is a TorchScript program, whose layers cannot be inspected" in _refused(script)


# Files that are no models


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("net.pt", "weights need their network: -m FILE.py:factory --weights {file}, or -m "),
        ("net.ckpt", "weights need their network: -m FILE.py:factory --weights {file}, or -m "),
        ("net.pth", "-m torchvision:NAME,weights=none --weights {file}"),
        ("net.onnx", "ONNX is not read. Load the network it was exported from: FILE.py:factory"),
        ("net.pt2", "an exported program has no modules left to inspect."),
        ("net.pkl", "a pickle would run code when opened. Save model.state_dict() and load it"),
        ("net.tflite", "TensorFlow Lite is not read."),
        ("net.txt", "is not a model file. Supported: .keras, .h5, .safetensors with its metadata"),
        ("net.py", "Which function of {file} makes the model? -m {file}:NAME"),
    ],
)
def test_a_file_of_another_kind_gets_advice(tmp_path: Path, file: str, part: str) -> None:
    path = tmp_path / file
    path.write_text("x")
    text = _refused(str(path))
    assert text.startswith((f"{path}", "Which function"))
    assert part.format(file=path) in text


def test_a_misspelt_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_text("x")
    assert _refused(tmp_path / "nett.keras") == (
        f"No model file '{tmp_path}/nett.keras'. Close: 'net.keras'."
    )
    assert _refused(tmp_path / "gone.h5").endswith("gone.h5'. There is no such file.")
    assert _refused(str(tmp_path)).startswith(f"{tmp_path} is a folder, not a model.")


# Trained files with their metadata


def _trained(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    module = build("simplecnn", 1, (12, 16), 2)
    path = folder / "net.safetensors"
    save_file(module.state_dict(), path)
    metadata = {
        "architecture": {"name": "simplecnn", "channels": 1},
        "classes": ["round", "square"],
        "preprocess": {"size": [12, 16], "mean": [0.1], "std": [0.3]},
        **changes,
    }
    path.with_suffix(".json").write_text(json.dumps(metadata))
    return path


def test_a_card_brings_everything_back(tmp_path: Path) -> None:
    path = _trained(tmp_path)
    model = cs.load(path)
    assert model.input.classes == ("round", "square")
    assert model.input.preprocess == cs.Preprocess(size=(12, 16), mean=(0.1,), std=(0.3,))
    assert model.input.preprocess.origin == "net.json"
    torch.manual_seed(0)
    tiny = build("simplecnn", 1, (12, 16), 2)
    images = torch.rand(2, 1, 12, 16)
    torch.testing.assert_close(model.logits(images), tiny(images).detach())
    assert _refused(path, weights=path).endswith(f"--weights {path} is too many")


def test_missing_or_foreign_metadata_is_an_error(tmp_path: Path) -> None:
    path = _trained(tmp_path, preprocess={})
    assert _refused(path).startswith(
        f"{path.with_suffix('.json')} is not metadata that convscope wrote (KeyError: 'size'). "
        "Give "
        "the network: -m torchvision:NAME --weights"
    )
    path.with_suffix(".json").unlink()
    assert _refused(path).startswith(
        f"{path} holds weights without their metadata net.json. Give the network: "
        "-m torchvision:NAME"
    )
    _trained(tmp_path, architecture={"name": "simplecn", "channels": 1})
    assert "simplecn" in _refused(path)
    _trained(tmp_path, classes=["a", "b", "c"])
    assert "'fc3.weight' is (2, 84) in the file and (3, 84) in the network" in _refused(path)


# Factories

_FILE = """
from dataclasses import dataclass
from torch import nn
import beside

@dataclass
class Config:
    width: int = 4

def factory(width: int = 4, channels: int = 3):
    import beside_too
    return nn.Sequential(nn.Conv2d(channels, Config(width).width, 1), nn.ReLU())

def with_preprocessing():
    import convscope as cs
    return cs.load(factory(), preprocess="imagenet", classes=["a"])

def raises():
    raise ValueError("no such\\nthing")

def rubbish():
    return 3

def leaves():
    raise SystemExit(2)

instance = nn.Conv2d(3, 2, 1)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("beside", "beside_too"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    path = tmp_path / "timm.py"  # must not stand in for the framework
    path.write_text(_FILE)
    return path


def test_a_factory_in_a_file(file: Path) -> None:
    before = list(sys.path)
    model = cs.load(f"{file}:factory,width=5", input=(3, 4, 4))
    assert model.weights("0").shape == (5, 3, 1, 1)
    assert model.name == f"{file}:factory,width=5"
    assert cs.load(f"{file}:instance", input=(3, 4, 4)).layers["conv2d"].shape == (2, 4, 4)
    brought = cs.load(f"{file}:with_preprocessing").input
    assert (brought.preprocess.origin, brought.classes) == ("--preprocess imagenet", ("a",))
    assert sys.path == before
    assert getattr(sys.modules.get("timm"), "__file__", "") != str(file)
    for name in ("beside", "beside_too"):
        sys.modules.pop(name)


def test_a_factory_with_weights(file: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = cs.load(f"{file}:factory", weights=tmp_path / "w.safetensors", input=(3, 4, 4))
    assert (model.weights("0") == network[0].weight.detach().numpy()).all()


def test_what_a_factory_may_do_wrong(file: Path) -> None:
    assert _refused(f"{file}:raises") == (
        f"{file}:raises raised ValueError: no such thing (timm.py:19). The whole traceback: --debug"
    )
    assert _refused(f"{file}:leaves").startswith(f"{file}:leaves raised SystemExit: 2 (timm.py:")
    assert _refused(f"{file}:rubbish") == (
        f"{file}:rubbish returned a int, not an nn.Module or keras.Model"
    )
    assert _refused(f"{file}:factry") == (
        f"No 'factry' in {file}. Close: 'factory'. Write {file}:NAME"
    )
    assert "unexpected keyword argument 'depth'" in _refused(f"{file}:factory,depth=3")
    assert _refused(f"{file}:instance,depth=3").endswith("takes no options, and 'depth' was given")
    assert _refused(f"{file.parent}/tim.py:factory") == (
        f"No file '{file.parent}/tim.py'. Close: 'timm.py'."
    )
    broken = file.parent / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    assert _refused(f"{broken}:factory").startswith(
        f"{broken} raised ModuleNotFoundError: No module named 'nothing_of_this_name' (broken.py:1)"
    )
    assert "convscope_file_broken" not in sys.modules


def test_a_factory_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets_of_tests").mkdir()
    (tmp_path / "my_nets_of_tests" / "small.py").write_text(
        "from torch import nn\ndef net(): return nn.Conv2d(3, 2, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert cs.load("my_nets_of_tests.small:net").input.channels == 3
    assert "No module named 'my_nets_of_tests.large'" in _refused("my_nets_of_tests.large:net")
    assert _refused("no_such_package:net").startswith("No model 'no_such_package'. Give demo, ")
    assert _refused(":net").startswith("No model ''. Give demo, ")
    for name in [name for name in sys.modules if name.startswith("my_nets_of_tests")]:
        sys.modules.pop(name)


# Optional dependencies


@pytest.mark.parametrize(
    ("spec", "package"),
    [("torchvision:vgg16", "torchvision"), ("timm:resnet18", "timm"), ("keras:VGG16", "keras")],
)
def test_a_missing_framework_names_the_install_command(
    spec: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency) as caught:
        cs.load(spec)
    assert str(caught.value) == (
        f"{spec} needs {package}. Install it: pip install 'convscope[{package}]'"
    )


def test_kinds_of_errors() -> None:
    assert issubclass(WeightsError, ModelError)
    with pytest.raises(UsageError):
        cs.load("demo,a")
