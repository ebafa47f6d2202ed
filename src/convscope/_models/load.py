"""``load``: from a name, a file or a network to a ``Model``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from convscope._errors import ModelError, UsageError
from convscope._images import Preprocess, parse_preprocess
from convscope._models import keras_files, sources, torch_zoos
from convscope._models.keras_preprocessing import find_preprocessing
from convscope._models.model import Model, ModelLike
from convscope._models.weights import near_files
from convscope._models.wrappers import not_a_model

_FRAMEWORKS: dict[str, Callable[[Spec], Model]] = {
    "torchvision": lambda spec: torch_zoos.from_torchvision(spec.name, spec.options, spec.weights),
    "timm": lambda spec: torch_zoos.from_timm(spec.name, spec.options, spec.weights),
    "keras": lambda spec: keras_files.from_applications(spec.name, spec.options, spec.weights),
}
_ADVICE = {
    ".pt2": "an exported program has no modules left to inspect. Load the network it was made "
    "from: FILE.py:factory --weights FILE.safetensors",
    ".onnx": "ONNX is not read. Load the network it was exported from: FILE.py:factory",
    ".pkl": "a pickle would run code when opened. Save model.state_dict() and load it with "
    "-m FILE.py:factory --weights FILE.pth",
    ".pth": "weights need their network: -m FILE.py:factory --weights {file}, or "
    "-m torchvision:NAME,weights=none --weights {file}",
    ".pb": "a TensorFlow SavedModel is not read. Save it from Keras: model.save('model.keras')",
    ".tflite": "TensorFlow Lite is not read. Load the Keras model it was converted from",
}
_ADVICE |= {".pickle": _ADVICE[".pkl"]} | dict.fromkeys((".pt", ".bin", ".ckpt"), _ADVICE[".pth"])


@dataclass(frozen=True)
class Spec:
    """A model's name taken apart: ``torchvision:vgg16,weights=none``."""

    text: str
    name: str
    options: dict[str, Any]
    weights: str | Path | None = None


def load(
    model: ModelLike,
    *,
    weights: str | Path | None = None,
    preprocess: Preprocess | str | None = None,
    classes: Sequence[str] | None = None,
    input: tuple[int, ...] | None = None,
    unchecked: bool = False,
) -> Model:
    """Load a network; the network itself is not changed.

    Args:
        model: ``demo``, ``torchvision:NAME``, ``timm:NAME``, ``keras:NAME`` (options after
            commas: ``torchvision:vgg16,weights=none``), a ``.keras`` or ``.h5`` file, a
            ``.safetensors`` file written by ``convscope train``, ``FILE.py:factory`` or
            ``package.module:factory``, an ``nn.Module``, a ``keras.Model``, or a ``Model``.
        weights: A ``.safetensors`` or ``.pth`` file of weights, which may nest them or give them
            a prefix, or the index of its shards (``.weights.h5`` for Keras); ``net.pth#model``
            for one of several in it. Goes with a name.
        preprocess: From an image to the network's input, where the model does not bring its own,
            or not the right one: a ``Preprocess`` or a text such as ``imagenet``.
        classes: The names of the outputs, in order.
        input: Shape of one image, ``(channels, height, width)``, where it cannot be known; of
            networks of volumes ``(channels, slices, height, width)``, of signals
            ``(channels, length)``.
        unchecked: Show also layers that differ from the network's own (see ``Model.check``), with a
            note, instead of refusing them.

    Returns:
        The model; ``model`` itself where it was a ``Model`` and nothing else was given.

    Raises:
        ModelError: If the model cannot be found, built or run.
        WeightsError: If weights do not fit, or cannot be downloaded.
        UnsafeFile: If a file would run code when it is opened.
        UsageError: If an argument is malformed.
    """
    loaded = _loaded(model, weights)
    if loaded is model and (input, preprocess, classes) != (None, None, None):
        loaded = loaded.copy()
    if input is not None:
        loaded.set_input_shape(input)
        if preprocess is None:  # of a network that had no variables yet
            find_preprocessing(loaded)
    if preprocess is not None:
        loaded.set_input(preprocess=_merged(preprocess, loaded.stated_input.preprocess))
    if classes is not None:
        loaded.set_input(classes=tuple(classes))
    if unchecked and not loaded.unchecked:
        loaded = loaded.copy() if loaded is model else loaded
        loaded.unchecked = True
    return loaded


def _merged(chosen: Preprocess | str, own: Preprocess) -> Preprocess:
    """The user's preprocessing, with the model's own resize and crop where it names none."""
    given = parse_preprocess(chosen) if isinstance(chosen, str) else chosen
    if given.size is not None:
        return given
    return replace(given, size=own.size, resize=given.resize or own.resize)


def _loaded(model: ModelLike, weights: str | Path | None) -> Model:
    if isinstance(model, (str, Path)):
        return _from_text(str(model), weights)
    if weights is not None:
        raise UsageError("weights= goes with a model's name; load them into the module yourself")
    if isinstance(model, Model):
        return model
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        return keras_files.from_keras(model, getattr(model, "name", "keras model"))
    if isinstance(model, nn.Module):
        return sources.from_module(model, type(model).__name__)
    raise not_a_model(model)


def parse_spec(text: str, weights: str | Path | None = None) -> Spec:
    """Take a model's name apart.

    >>> parse_spec("keras:VGG16,include_top=false,classes=10").options
    {'include_top': False, 'classes': 10}
    """
    name, *parts = [text] if Path(text).exists() else text.split(",")
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(
                f"{part!r} in {text!r} is not an option. Write NAME,key=value,key=value"
            )
        if key == "weight":  # frameworks ignore this one, and download
            raise UsageError(f"No option 'weight' in {text!r}. Close: 'weights'")
        options[key] = _value(value)
    return Spec(text, name, options, weights)


def _value(text: str) -> Any:
    """``false``, ``none``, ``3``, ``0.5``, ``96x96x3`` (a shape), or a string."""
    simple = {"true": True, "false": False, "none": None}
    if text.lower() in simple:
        return simple[text.lower()]
    if "x" in text and all(part.isdigit() for part in text.split("x")):
        return tuple(int(part) for part in text.split("x"))
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _from_text(text: str, weights: str | Path | None) -> Model:
    spec = parse_spec(text, weights)
    framework, colon, rest = spec.name.partition(":")
    if colon and framework in _FRAMEWORKS:
        model = _FRAMEWORKS[framework](Spec(text, rest, spec.options, weights))
    elif spec.name == "demo":
        _refuse_extras(spec)
        model = sources.from_metadata(sources.DEMO, text)
    elif colon and not Path(spec.name).exists():
        model = sources.from_factory(spec.name, spec.options, weights)
    else:
        model = _from_file(Path(spec.name).expanduser(), spec)
    model.name = text
    if weights is None:
        model.weights_file = ""
    elif not model.weights_file:
        model.weights_file = Path(weights).name
    model.random_weights = weights is None and ",weights=none" in text.lower()
    return model


def _refuse_extras(spec: Spec) -> None:
    """Refuse options and weights that a model complete in itself would otherwise ignore."""
    if spec.weights is not None:
        raise UsageError(
            f"{spec.name} brings its own weights; --weights {spec.weights} is too many"
        )
    sources.refuse_options(spec.name, spec.options)


def _from_file(path: Path, spec: Spec) -> Model:
    suffix = path.suffix.lower()
    known = suffix in {".keras", ".h5", ".hdf5", ".safetensors", ".py", *_ADVICE}
    if not path.exists():
        raise _unknown(spec.text, path, looks_like_file=known)
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a model. {_ADVICE['.pb']}")
    if suffix in (".keras", ".h5", ".hdf5"):
        sources.refuse_options(spec.name, spec.options)
        return keras_files.from_file(path, spec.weights)
    if suffix == ".safetensors":
        _refuse_extras(spec)
        return sources.from_metadata(path, spec.text)
    if suffix == ".py":
        raise ModelError(f"Which function of {path} makes the model? -m {path}:NAME")
    if suffix in _ADVICE:
        raise ModelError(f"{path}: {_ADVICE[suffix].format(file=path)}")
    raise ModelError(
        f"{path} is not a model file. Supported: .keras, .h5, .safetensors with its metadata"
    )


def _unknown(text: str, path: Path, looks_like_file: bool) -> ModelError:
    if looks_like_file:
        return ModelError(f"No model file {text!r}.{near_files(path)}")
    near = sources.names_like(text)
    return ModelError(
        f"No model {text!r}.{near} Give demo, torchvision:NAME, timm:NAME, keras:NAME, a file, or "
        "FILE.py:factory"
    )
