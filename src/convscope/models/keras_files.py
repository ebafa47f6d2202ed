"""Keras models: finding Keras with the right backend, its applications, its files."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from convscope.errors import MissingDependency, ModelError, UnsafeFile, WeightsError, closest
from convscope.models.base import UNKNOWN_PREPROCESS, Input, Model
from convscope.models.weights import no_network
from convscope.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

# What keras.applications.<module>.preprocess_input does: the published modes.
_MODES = {
    "caffe": Preprocess(mean=(103.939, 116.779, 123.68), scale=255.0, order="BGR"),
    "tf": Preprocess(mean=0.5, std=0.5),
    "torch": Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "itself": Preprocess(scale=255.0),  # the network holds its own rescaling
}
_MODE_OF = {
    "vgg16": "caffe", "vgg19": "caffe", "resnet": "caffe", "resnet50": "caffe",
    "resnet_v2": "tf", "mobilenet": "tf", "mobilenet_v2": "tf", "inception_v3": "tf",
    "inception_resnet_v2": "tf", "xception": "tf", "nasnet": "tf", "densenet": "torch",
    "mobilenet_v3": "itself", "efficientnet": "itself", "efficientnet_v2": "itself",
    "convnext": "itself",
}  # fmt: skip


def import_keras(what: str) -> Any:
    """Keras, on its torch backend unless the user has chosen another."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise MissingDependency("keras", what, "keras") from None
        raise
    return keras


def from_keras(model: Any, name: str, input: Input | None = None) -> Model:
    """A live ``keras.Model``."""
    keras = import_keras(name)
    backend = keras.backend.backend()
    if backend != "torch":
        raise ModelError(
            f"{name} lives on Keras's {backend} backend. Set KERAS_BACKEND=torch before Keras is "
            "imported, and load the model again"
        )
    from convscope.models.keras import KerasModel

    if input is None:
        channels, size = _shape(model, keras)
        input = Input(channels or 3, UNKNOWN_PREPROCESS.at(size) if size else UNKNOWN_PREPROCESS)
    return KerasModel(model, name, input)


def _shape(model: Any, keras: Any) -> tuple[int | None, tuple[int, int] | None]:
    """Channels and ``(height, width)`` of a model's first input, as far as it says."""
    shape = getattr(model, "input_shape", None) if getattr(model, "inputs", None) else None
    if isinstance(shape, list) and shape:
        shape = shape[0]
    if not isinstance(shape, tuple) or len(shape) != 4:
        return None, None
    last = keras.config.image_data_format() == "channels_last"
    channels = shape[3] if last else shape[1]
    height, width = shape[1:3] if last else shape[2:4]
    return channels, (height, width) if height and width else None


def from_applications(name: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """A model of ``keras.applications`` with the preprocessing it was trained with."""
    keras = import_keras(f"keras:{name}")
    builders = {n: f for n, f in vars(keras.applications).items() if n[0].isupper()}
    if name not in builders:
        raise ModelError(f"No model {name!r} in keras.applications.{closest(name, builders)}")
    if weights is not None:
        options["weights"] = None
    try:
        model = builders[name](**options)
    except Exception as error:
        raise _cannot_build(name, error) from error
    if weights is not None:
        load_weights(model, Path(weights))
    module = builders[name].__module__.rpartition(".")[2]
    channels, size = _shape(model, keras)
    preprocess = _application_preprocess(module, size)
    thousand = options.get("include_top", True) and options.get("classes", 1000) == 1000
    classes = imagenet_classes() if thousand else ()
    return from_keras(model, name, Input(channels or 3, preprocess, classes))


def _application_preprocess(module: str, size: tuple[int, int] | None) -> Preprocess:
    size = size or (224, 224)
    mode = _MODES[_MODE_OF.get(module, "tf")]
    # Keras leaves resizing to the user; a centre crop at 7/8 is the usual evaluation.
    return Preprocess(
        size=size, resize=round(min(size) * 8 / 7), mean=mode.mean, std=mode.std,
        scale=mode.scale, order=mode.order, interpolation="bicubic",
        origin=f"keras.applications.{module}",
    )  # fmt: skip


def _cannot_build(name: str, error: Exception) -> ModelError:
    text = " ".join(str(error).split())
    url = re.search(r"https?://\S+?(?=[\s:,)]|$)", text)
    if "URL fetch failure" in text and url:
        folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
        path = folder / url[0].rpartition("/")[2]
        return no_network(f"keras:{name}", url[0], path, OSError("no network"))
    return ModelError(f"keras:{name} raised {type(error).__name__}: {text[:240]}")


def load_weights(model: Any, path: Path) -> None:
    """Put a ``.weights.h5`` (or old ``.h5``) file into a Keras model."""
    if not path.is_file():
        raise WeightsError(f"No weights {str(path)!r}. There is no such file.")
    try:
        model.load_weights(str(path))
    except Exception as error:
        line = " ".join(str(error).split())[:240]
        raise WeightsError(f"{path} does not fit {model.name}: {line}") from None


def from_file(path: Path, weights: str | Path | None) -> Model:
    """A ``.keras`` or ``.h5`` file, refused where it would run code."""
    keras = import_keras(str(path))
    _refuse_code(_configuration(path), path, keras)
    try:
        model = keras.models.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:
        line = " ".join(str(error).split())[:240]
        raise ModelError(f"{path} cannot be loaded: {type(error).__name__}: {line}") from error
    if weights is not None:
        load_weights(model, Path(weights))
    return from_keras(model, str(path))


def _configuration(path: Path) -> Any:
    """The model's configuration, read without building anything."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        import h5py

        with h5py.File(path) as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise ModelError(
                    f"{path} holds weights without a network. Give it: "
                    f"-m FILE.py:factory --weights {path}"
                )
            return json.loads(text)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        line = " ".join(str(error).split())[:160]
        raise ModelError(f"{path} is not a Keras model file: {line}") from None


def _refuse_code(configuration: Any, path: Path, keras: Any) -> None:
    """Refuse Lambda layers, and classes from modules that are not Keras's own.

    A class that the running program has registered with Keras itself is let through.
    """
    for node in _nodes(configuration):
        kind, module = str(node.get("class_name")), str(node.get("module") or "keras")
        if kind == "Lambda":
            raise UnsafeFile(
                f"{path} holds a Lambda layer, which runs code when the file is opened. Rebuild "
                f"the network in Python: -m FILE.py:factory --weights FILE.weights.h5"
            )
        known = module.split(".")[0] in ("keras", "builtins", "tensorflow", "tf_keras")
        registered = str(node.get("registered_name") or "")
        if not known and registered not in keras.saving.get_custom_objects():
            raise UnsafeFile(
                f"{path} wants to import {module}.{kind}. Rebuild the network in Python: "
                "-m FILE.py:factory --weights FILE.weights.h5"
            )


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every serialised object in a configuration."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def imagenet_classes() -> tuple[str, ...]:
    """The thousand class names of ImageNet-1k, in the usual order."""
    text = (resources.files("convscope.models") / "builtin" / "imagenet.txt").read_text("utf-8")
    return tuple(text.splitlines())
