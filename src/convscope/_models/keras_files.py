"""Keras models: finding Keras with the right backend, its applications, its files."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convscope._errors import (
    MissingDependency,
    ModelError,
    UnsafeFile,
    WeightsError,
    closest,
    import_optional,
)
from convscope._images import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from convscope._models.backend import Backend
from convscope._models.bridge_backend import BridgeBackend
from convscope._models.hook_backend import HookBackend
from convscope._models.inputs import UNKNOWN_PREPROCESS, Input, imagenet_classes
from convscope._models.keras_layers import KerasLayers, channels_last, stated_shape, takes_signals
from convscope._models.keras_preprocessing import find_preprocessing
from convscope._models.model import Model
from convscope._models.weights import error_text, near_files, no_network

# What keras.applications.<module>.preprocess_input does: the published modes.
_MODES = {
    "caffe": Preprocess(mean=(103.939, 116.779, 123.68), scale=255.0, order="BGR"),
    "tf": Preprocess(mean=0.5, std=0.5),
    "torch": Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "itself": Preprocess(scale=255.0),  # the network holds its own rescaling
}
_MODE_OF = {
    "vgg16": "caffe",
    "vgg19": "caffe",
    "resnet": "caffe",
    "resnet50": "caffe",
    "resnet_v2": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "inception_v3": "tf",
    "inception_resnet_v2": "tf",
    "xception": "tf",
    "nasnet": "tf",
    "densenet": "torch",
    "mobilenet_v3": "itself",
    "efficientnet": "itself",
    "efficientnet_v2": "itself",
    "convnext": "itself",
}

_REBUILD = "Rebuild the network in Python: -m FILE.py:factory --weights FILE.weights.h5"
_MODEL_MODULES = re.compile(
    r"builtins|keras(\.(layers|models|initializers|regularizers|constraints|activations|ops|random"
    r"|dtype_policies|optimizers|losses|metrics|quantizers|applications)(\.\w+)*)?"
    r"|keras\.src\.(ops|layers|models|engine|random)(\.\w+)*"
    r"|keras\.src\.applications\.\w+"
)
# Layers that unpickle or run what a file brings along; of these .h5 files Keras asks no consent.
_RUN_CODE = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}


def import_keras(what: str) -> Any:
    """Keras, on its torch backend unless the user has chosen another."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "keras":
            raise MissingDependency("keras", what, "keras") from None
        backend = os.environ.get("KERAS_BACKEND")
        raise ModelError(
            f"{what} needs Keras, whose {backend} backend does not start: {error_text(error)}. "
            "Set KERAS_BACKEND=torch"
        ) from None
    return keras


def from_keras(model: Any, name: str, input: Input | None = None) -> Model:
    """A live ``keras.Model``."""
    keras = import_keras(name)
    backend = _backend(keras.backend.backend(), model, name)
    if input is not None:
        return Model(backend, name, input)
    channels, size, depth = _shape(model)
    unknown = UNKNOWN_PREPROCESS.at(size) if size else UNKNOWN_PREPROCESS
    loaded = Model(
        backend, name, Input(channels or 3, unknown, (), "", depth, takes_signals(model))
    )
    find_preprocessing(loaded)
    return loaded


def _backend(keras_backend: str, model: Any, name: str) -> Backend:
    if keras_backend == "torch":
        return HookBackend(KerasLayers(model))
    if keras_backend in ("tensorflow", "jax"):
        return BridgeBackend(model)
    raise ModelError(
        f"{name} lives on Keras's {keras_backend} backend. Set KERAS_BACKEND=torch before Keras is "
        "imported, and load the model again"
    )


def _shape(model: Any) -> tuple[int | None, tuple[int, int] | None, int]:
    """Channels, ``(height, width)`` and slices of a model's first input, where it says them."""
    shape = stated_shape(model)
    if shape is None or (len(shape) not in (4, 5) and not takes_signals(model)):
        return None, None, 0
    last = channels_last(model)
    channels = shape[-1] if last else shape[1]
    sides = shape[1:-1] if last else shape[2:]
    *slices, height, width = (1, *sides) if len(sides) == 1 else sides
    depth = slices[0] if slices else 1
    known = bool(depth and height and width)
    return channels, (depth * height, width) if known else None, depth if slices and known else 0


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
    channels, size, _ = _shape(model)
    preprocess = _application_preprocess(module, size or (224, 224))
    thousand = options.get("include_top", True) and options.get("classes", 1000) == 1000
    classes = imagenet_classes() if thousand else ()
    return from_keras(model, name, Input(channels or 3, preprocess, classes))


def _application_preprocess(module: str, size: tuple[int, int]) -> Preprocess:
    if module not in _MODE_OF:
        return UNKNOWN_PREPROCESS.at(size)
    # Keras leaves resizing to the user; a center crop at 7/8 is the usual evaluation.
    return replace(
        _MODES[_MODE_OF[module]],
        size=size,
        resize=round(size[0] * 8 / 7) if size[0] == size[1] else None,
        interpolation="bicubic",
        origin=f"keras.applications.{module}; resize and crop as usual for ImageNet",
    )


def _cannot_build(name: str, error: Exception) -> ModelError:
    text = error_text(error, 2000)
    url = re.search(r"https?://\S+?(?=[\s:,)]|$)", text)
    if "URL fetch failure" in text and url:
        folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
        path = folder / url[0].rpartition("/")[2]
        return no_network(f"keras:{name}", url[0], path, text.rpartition(" -- ")[2])
    return ModelError(f"keras:{name} raised {type(error).__name__}: {text[:240]}")


def load_weights(model: Any, path: Path) -> None:
    """Put a ``.weights.h5`` (or old ``.h5``) file into a Keras model."""
    if not path.is_file():
        raise WeightsError(f"No weights {str(path)!r}.{near_files(path)}")
    try:
        model.load_weights(str(path))
    except Exception as error:
        raise WeightsError(f"{path} does not fit {model.name}: {error_text(error)}") from None


def from_file(path: Path, weights: str | Path | None) -> Model:
    """A ``.keras`` or ``.h5`` file, refused where it would run code."""
    keras = import_keras(str(path))
    configuration = _configuration(path)
    archive = path.suffix.lower() == ".keras"
    nested = archive and _drop_compilation(configuration)
    _refuse_code(configuration, path, keras)
    try:
        with _rewritten(path, configuration) if nested else nullcontext(path) as file:
            model = keras.models.load_model(
                str(file),
                custom_objects=None if archive else _legacy_objects(keras),
                compile=False,
                safe_mode=True,
            )
    except Exception as error:
        line = f"{type(error).__name__}: {error_text(error)}"
        raise ModelError(f"{path} cannot be loaded: {line}. {_REBUILD}") from error
    if weights is not None:
        load_weights(model, Path(weights))
    return from_keras(model, str(path))


def _configuration(path: Path) -> Any:
    """The model's configuration, read without building anything."""
    try:
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        h5py = import_optional("h5py", "h5py", str(path), "keras")
        with h5py.File(path) as file:
            text = file.attrs.get("model_config")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not a Keras model file: {error_text(error, 160)}") from None
    if text is None:
        raise ModelError(
            f"{path} holds weights without a network. Give it: -m FILE.py:factory --weights {path}"
        )
    return json.loads(text)


def _drop_compilation(configuration: Any) -> bool:
    """Remove what networks were compiled with; whether there was any below the outermost.

    ``load_model(compile=False)`` ignores that of the outermost alone: a nested network would be
    compiled again, its optimizer and losses made.
    """
    dropped = [node.pop("compile_config", None) for node in _nodes(configuration)]
    return any(dropped[1:])


@contextmanager
def _rewritten(path: Path, configuration: Any) -> Iterator[Path]:
    """A copy of a ``.keras`` file for the length of the block, with another configuration."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "model.keras"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
            target.writestr("config.json", json.dumps(configuration))
            for entry in source.infolist():
                if entry.filename != "config.json":
                    with source.open(entry) as read, target.open(entry.filename, "w") as write:
                        shutil.copyfileobj(read, write)
        yield copy


def _legacy_objects(keras: Any) -> dict[str, Any]:
    """What ``.h5`` files name without its module, and Keras does not find or confuses."""
    functions = vars(importlib.import_module("keras.src.ops.numpy"))
    found: dict[str, Any] = {
        name: _LayerOrFunction(getattr(keras.layers, name, None), value)
        for name, value in functions.items()
        if isinstance(value, type) and issubclass(value, keras.Operation)
    }
    return found | _application_layers(keras)


@dataclass(frozen=True)
class _LayerOrFunction:
    """A layer and a function of one name: ``layers.Add`` and the ``Add`` of ``x + y``."""

    layer: Any
    function: Any

    def from_config(self, config: dict[str, Any]) -> Any:
        """The one that was written: layers alone say whether they are trainable."""
        is_layer = self.layer is not None and "trainable" in config
        return (self.layer if is_layer else self.function).from_config(config)


def _application_layers(keras: Any) -> dict[str, Any]:
    """The layers that ``keras.applications`` defines for its own networks: ``.h5`` needs them."""
    builders = [f for name, f in vars(keras.applications).items() if name[0].isupper()]
    modules = {builder.__module__: vars(sys.modules[builder.__module__]) for builder in builders}
    return {
        name: value
        for module, names in modules.items()
        for name, value in names.items()
        if isinstance(value, type)
        and issubclass(value, keras.layers.Layer)
        and value.__module__ == module
    }


def _refuse_code(configuration: Any, path: Path, keras: Any) -> None:
    """Refuse Lambda layers, and whatever comes from outside the parts of Keras that make models.

    A class that the running program has registered with Keras itself is let through.
    """
    for node in _nodes(configuration):
        kind, module = str(node.get("class_name")), str(node.get("module") or "keras")
        registered = str(node.get("registered_name") or "")
        if running := {_last(kind), _last(registered)} & {*_RUN_CODE, "__lambda__"}:
            function = "__lambda__" in running
            part = "function of its own" if function else f"{min(running)} layer"
            raise UnsafeFile(
                f"{path} holds a {part}, which runs code when the file is opened. {_REBUILD}"
            )
        if not _MODEL_MODULES.fullmatch(module) and (
            registered not in keras.saving.get_custom_objects()
        ):
            raise UnsafeFile(f"{path} wants to import {module}.{kind}. {_REBUILD}")


def _last(name: str) -> str:
    """``Lambda`` of ``keras>Lambda`` or ``layers.Lambda``."""
    return re.split(r"[.>]", name)[-1]


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object in a configuration."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)
