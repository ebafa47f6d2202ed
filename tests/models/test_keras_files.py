"""Keras's files and names: loaded without running code, with the preprocessing they need."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers
from keras.src.applications import convnext

import convscope as cs
from convscope._errors import ConvscopeError, UnsafeFile
from convscope._models import keras_files

# Keras turns torch tensors into arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def _refused(model: Any, kind: type[ConvscopeError] = ConvscopeError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        cs.load(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _network(*extra: Any) -> Any:
    keras.utils.set_random_seed(0)
    steps = [layers.Conv2D(4, 3, activation="relu", name="conv"), *extra, layers.Flatten()]
    return keras.Sequential([keras.Input((6, 8, 1)), *steps, layers.Dense(2, name="fc")])


@keras.saving.register_keras_serializable("tests", "Twice")
class Twice(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


def _saved(network: Any, path: Path) -> Path:
    network.save(path)
    return path


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_saved_networks_come_back(tmp_path: Path, name: str) -> None:
    network = _network(Twice(name="twice"))
    model = cs.load(_saved(network, tmp_path / name))
    assert (model.input.channels, model.input.size) == (1, (6, 8))
    assert "assumed" in model.input.preprocess.describe()
    images = torch.rand(2, 6, 8, 1)
    torch.testing.assert_close(model.logits(images), network(images).detach())
    assert model.layers["conv/pre"].shape == (4, 4, 6)


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_lambda_layers_are_refused(tmp_path: Path, name: str) -> None:
    path = _saved(_network(layers.Lambda(lambda x: x * 2)), tmp_path / name)
    assert _refused(path, UnsafeFile) == (
        f"{path} holds a Lambda layer, which runs code when the file is opened. Rebuild the "
        "network in Python: -m FILE.py:factory --weights FILE.weights.h5"
    )


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_layers_that_unpickle_what_the_file_holds_are_refused(tmp_path: Path, name: str) -> None:
    change = {"module": "keras.layers", "class_name": "TorchModuleWrapper"}
    path = _edited(_saved(_network(), tmp_path / name), lambda layer: layer.update(change))
    assert "holds a TorchModuleWrapper layer, which runs code" in _refused(path, UnsafeFile)


class Distance(keras.losses.Loss):
    """Not registered: whoever opens the file need not have it."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))


class Count(keras.metrics.MeanSquaredError):
    pass


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_a_network_was_compiled_with_is_not_needed(
    tmp_path: Path, name: str, optimizer: str
) -> None:
    network, images = _network(), torch.rand(2, 6, 8, 1)
    network.compile(optimizer, loss=Distance(), metrics=[Count()])
    network.fit(images.numpy(), np.ones((2, 2)), verbose=0)
    model = cs.load(_saved(network, tmp_path / name))
    assert not model.module.compiled
    torch.testing.assert_close(model.logits(images), network(images).detach())


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_nor_what_a_nested_network_was_compiled_with(tmp_path: Path, name: str) -> None:
    inner, images = _network(), torch.rand(2, 6, 8, 1)
    inner.compile("adam", loss=Distance(), metrics=[Count()])
    network = keras.Sequential([keras.Input((6, 8, 1)), inner, layers.Dense(3)])
    path = _saved(network, tmp_path / name)
    before = path.read_bytes()
    model = cs.load(path)
    assert not model.module.layers[0].compiled
    torch.testing.assert_close(model.logits(images), network(images).detach())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_layers_of_kerass_applications_come_back(tmp_path: Path, name: str) -> None:
    scale = convnext.LayerScale(0.5, 4, name="scale")
    network, images = _network(scale), torch.rand(2, 6, 8, 1)
    scale.gamma.assign([1.0, 2.0, 3.0, 4.0])
    model = cs.load(_saved(network, tmp_path / name))
    torch.testing.assert_close(model.logits(images), network(images).detach())


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_functions_of_a_graph_come_back_beside_layers_of_their_name(
    tmp_path: Path, name: str
) -> None:
    inputs, images = keras.Input((6, 8, 1)), torch.rand(2, 6, 8, 1)
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.Add(name="layer")([x + 3.0, x * x]) / 2.0
    network = keras.Model(inputs, layers.Multiply()([x, x + x]))
    model = cs.load(_saved(network, tmp_path / name))
    torch.testing.assert_close(model.logits(images), network(images).detach().permute(0, 3, 1, 2))


def _edited(path: Path, change: Any) -> Path:
    """The same file with another configuration."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"][1])
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config["config"]["layers"][1])
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


_FOREIGN = [
    ({"module": "os", "class_name": "system"}, "wants to import os.system"),
    ({"module": "keras.utils", "class_name": "get_file"}, "wants to import keras.utils.get_file"),
    ({"module": "keras.src.utils.file_utils"}, "wants to import keras.src.utils.file_utils.Conv2D"),
    ({"module": "keras", "class_name": "layers.Lambda"}, "holds a Lambda layer"),
    ({"module": "keras.src.layers.core.lambda_layer", "class_name": "Lambda"}, "a Lambda layer"),
    ({"module": None, "registered_name": "any>Lambda"}, "holds a Lambda layer"),
    ({"module": "kerasx.layers"}, "wants to import kerasx.layers.Conv2D"),
    ({"module": "keras.src.applications.a.b"}, "wants to import keras.src.applications.a.b.Conv2D"),
]


@pytest.mark.parametrize(("change", "part"), _FOREIGN)
@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_foreign_modules_are_refused(tmp_path: Path, name: str, change: Any, part: str) -> None:
    path = _edited(_saved(_network(), tmp_path / name), lambda layer: layer.update(change))
    assert part in _refused(path, UnsafeFile)


def test_code_hidden_in_an_argument_is_refused(tmp_path: Path) -> None:
    def hide(layer: Any) -> None:
        layer["config"]["activation"] = {"class_name": "__lambda__", "config": {"code": "4wAA"}}

    path = _edited(_saved(_network(), tmp_path / "net.keras"), hide)
    assert "which runs code" in _refused(path, UnsafeFile)


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("net.keras", "net.h5"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        assert _refused(tmp_path / name).startswith(
            f"{tmp_path / name} is not a Keras model file: "
        )
    weights = tmp_path / "net.weights.h5"
    _network().save_weights(weights)
    assert _refused(weights) == (
        f"{weights} holds weights without a network. Give it: -m FILE.py:factory "
        f"--weights {weights}"
    )


def test_weights_go_into_a_factorys_network_and_must_fit(tmp_path: Path) -> None:
    network, weights = _network(), tmp_path / "net.weights.h5"
    network.layers[0].set_weights([np.full((3, 3, 1, 4), 0.5), np.zeros(4)])
    network.save_weights(weights)
    code = (
        "from keras import Input, Sequential, layers\n"
        "def net(width=4):\n"
        "    return Sequential([Input((6, 8, 1)), layers.Conv2D(width, 3, activation='relu',"
        " name='conv'), layers.Flatten(), layers.Dense(2, name='fc')], name='net')\n"
    )
    (tmp_path / "nets.py").write_text(code)
    model = cs.load(f"{tmp_path}/nets.py:net", weights=weights)
    assert (model.weights("conv") == 0.5).all()
    text = _refused(f"{tmp_path}/nets.py:net,width=5", weights=weights)
    assert text.startswith(f"{weights} does not fit net: ")
    assert "conv" in text
    text = _refused(f"{tmp_path}/nets.py:net", weights=tmp_path / "nets.weights.h5")
    assert text == f"No weights '{tmp_path}/nets.weights.h5'. Close: 'net.weights.h5'."


# keras.applications

_MODULES = sorted(keras_files._MODE_OF)


@pytest.mark.parametrize("module", _MODULES)
def test_preprocessing_equals_kerass_own(module: str) -> None:
    own = getattr(keras.applications, module).preprocess_input
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    preprocess = keras_files._application_preprocess(module, (5, 7))
    view = preprocess.view(pixels)
    expected = own(pixels.astype(np.float32).copy())
    np.testing.assert_allclose(
        preprocess.normalize(view.pixels), np.moveaxis(expected, 2, 0), atol=2e-5
    )
    assert preprocess.origin.startswith(f"keras.applications.{module}; ")


def test_every_application_has_its_preprocessing() -> None:
    builders = {f for name, f in vars(keras.applications).items() if name[0].isupper()}
    made_in = {builder.__module__.rpartition(".")[2] for builder in builders}
    assert made_in <= set(_MODULES)
    assert keras_files._application_preprocess("new", (4, 4)).origin.startswith("assumed")


def test_an_application_without_its_top() -> None:
    model = cs.load("keras:MobileNet,include_top=false,weights=none,alpha=.25,input_shape=64x96x3")
    assert (model.input.size, model.input.classes) == ((64, 96), ())
    assert model.input.preprocess.resize is None
    assert model.layers["conv1"].shape == (8, 32, 48)
    assert (
        model.backend.untrained_evidence(model)
        == "its batch normalizations have never seen a batch"
    )


def test_a_network_that_rescales_itself_is_given_0_to_255() -> None:
    layers = keras.layers
    steps = [keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.Conv2D(2, 3)]
    model = cs.load(keras.Sequential(steps))
    white = np.full((8, 8, 3), 255, np.uint8)
    assert float(model.prepare(white).values.max()) == 255
    assert "its own Rescaling" in model.input.preprocess.describe()
    plain = cs.load(keras.Sequential([steps[0], layers.Conv2D(2, 3)]))
    assert float(plain.prepare(white).values.max()) == 1


def test_wrong_names_and_options() -> None:
    assert _refused("keras:VGG61") == (
        "No model 'VGG61' in keras.applications. Close: 'VGG16', 'VGG19'."
    )
    assert _refused("keras:MobileNet,weights=none,alpa=1").startswith(
        "keras:MobileNet raised TypeError: "
    )


def test_without_network_the_file_and_its_place_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights.h5"

    def offline(**_: Any) -> None:
        raise Exception(f"URL fetch failure on {url}: None -- [Errno -2] Name or service not known")

    offline.__module__ = "keras.src.applications.vgg16"
    monkeypatch.setattr(keras.applications, "VGG16", offline)
    monkeypatch.setenv("KERAS_HOME", "/somewhere")
    assert _refused("keras:VGG16") == (
        "The weights of keras:VGG16 cannot be downloaded ([Errno -2] Name or service not known). "
        f"Put {url} at /somewhere/models/vgg16_weights.h5, or give a file with --weights, or "
        "random ones with -m keras:VGG16,weights=none"
    )


def test_the_trained_resnet_does_not_look_untrained(real_data: Path) -> None:
    model = cs.load(real_data / "keras" / "resnet8_cifar10.h5")
    assert model.untrained_evidence() == ""
    assert model.input.size == (32, 32)
    assert [la.path for la in model.layers][-2:] == ["dense/pre", "dense"]
