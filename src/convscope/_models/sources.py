"""Where models come from: modules, trained files with their metadata, factories."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from convscope._errors import ConvscopeError, ModelError, UsageError, closest
from convscope._images import Preprocess
from convscope._models import keras_files
from convscope._models.architectures import build
from convscope._models.fitting import fit_weights
from convscope._models.hook_backend import HookBackend
from convscope._models.input_search import candidates
from convscope._models.inputs import Input
from convscope._models.lazy_layers import is_lazy
from convscope._models.model import Model
from convscope._models.torch_modules import TorchModules
from convscope._models.weights import error_text, near_files, read_weights
from convscope._models.wrappers import unwrapped

DEMO = Path(__file__).parent / "builtin" / "demo.safetensors"


def from_module(module: nn.Module, name: str, input: Input | None = None) -> Model:
    """A user's module; what it takes is found by trying, when it is needed."""
    module, name = unwrapped(module, name)
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"{name} is a TorchScript program, whose layers cannot be inspected. Give the "
            "nn.Module it was made from"
        )
    if any(map(is_lazy, chain(module.parameters(), module.buffers()))):
        raise ModelError(f"{name} has lazy layers without weights. Call it once on a batch first")
    if input is not None:
        return torch_model(module, name, input)
    tried = candidates(module)
    return Model(HookBackend(TorchModules(module)), name, tried[0].of(Input()), tried)


def torch_model(module: nn.Module, name: str, input: Input) -> Model:
    """A ``Model`` of exactly this module."""
    return Model(HookBackend(TorchModules(module)), name, input)


def from_metadata(path: Path, name: str) -> Model:
    """A file written by ``convscope train``, with its JSON metadata beside it."""
    metadata_path = path.with_suffix(".json")
    network = f"-m torchvision:NAME --weights {path}, or -m FILE.py:factory --weights {path}"
    if not metadata_path.is_file():
        raise ModelError(
            f"{path} holds weights without their metadata {metadata_path.name}. Give the network: "
            f"{network}"
        )
    try:
        metadata = json.loads(metadata_path.read_text(encoding="utf-8"))
        kind, shape = metadata["architecture"], metadata["preprocess"]
        size = (int(shape["size"][0]), int(shape["size"][1]))
        module = build(kind["name"], kind["channels"], size, len(metadata["classes"]))
    except (KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise ModelError(
            f"{metadata_path} is not metadata that convscope wrote ({type(error).__name__}: "
            f"{error_text(error, 80)}). Give the network: {network}"
        ) from None
    fit_weights(module, replace(read_weights(path), source=path.name), kind["name"])
    preprocess = Preprocess(
        size=size, mean=tuple(shape["mean"]), std=tuple(shape["std"]), origin=metadata_path.name
    )
    return torch_model(
        module.eval(), name, Input(kind["channels"], preprocess, tuple(metadata["classes"]))
    )


def from_factory(spec: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """What ``FILE.py:factory`` or ``package.module:factory`` returns."""
    where, _, name = spec.rpartition(":")
    with _importing_from(Path(where).expanduser().parent if where.endswith(".py") else Path()):
        module = _file_module(where) if where.endswith(".py") else _package_module(where)
        if not hasattr(module, name):
            public = [n for n in vars(module) if not n.startswith("_")]
            near = closest(name, public) or f" It has {', '.join(public[:5]) or 'nothing'}."
            raise ModelError(f"No {name!r} in {where}.{near} Write {where}:NAME")
        factory = getattr(module, name)
        if callable(factory) and not isinstance(factory, (nn.Module, Model)):
            network = call_factory(lambda: factory(**options), spec)
        else:
            refuse_options(spec, options)
            network = factory
    return _from_result(network, spec, weights)


def _from_result(network: Any, spec: str, weights: str | Path | None) -> Model:
    keras = sys.modules.get("keras")
    if isinstance(network, Model) and weights is None:  # one that brings its own preprocessing
        return network
    if keras is not None and isinstance(network, keras.Model):
        if weights is not None:
            keras_files.load_weights(network, Path(weights))
        return keras_files.from_keras(network, spec)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{spec} returned a {type(network).__name__}, not an nn.Module or keras.Model"
        )
    taken = "" if weights is None else fit_weights(network, read_weights(weights), spec)
    model = from_module(network, spec)
    model.weights_file = taken
    return model


def refuse_options(spec: str, options: Mapping[str, Any]) -> None:
    """Refuse options where nothing takes them."""
    if options:
        raise UsageError(f"{spec} takes no options, and {next(iter(options))!r} was given")


def _file_module(where: str) -> ModuleType:
    path = Path(where).expanduser()
    if not path.is_file():
        raise ModelError(f"No file {where!r}.{near_files(path)}")
    # A name of its own: a user's timm.py must not stand in for timm.
    spec = importlib.util.spec_from_file_location(f"convscope_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{where} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    try:
        call_factory(lambda: loader.exec_module(module), where)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module


def _package_module(where: str) -> ModuleType:
    package = where.partition(".")[0]
    if not all(part.isidentifier() for part in where.split(".")) or (
        package not in sys.modules and importlib.util.find_spec(package) is None
    ):
        near = closest(where, ("torchvision", "timm", "keras"))
        raise ModelError(
            f"No model {where!r}.{near} Give demo, torchvision:NAME, timm:NAME, keras:NAME, a "
            "file, or FILE.py:factory"
        )
    module: ModuleType = call_factory(lambda: importlib.import_module(where), where)
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let imports find files in ``folder`` for a while, as ``python FILE`` would."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def names_like(text: str) -> str:
    """Known names near to ``text``, from the frameworks that are quick to import."""
    names = ["demo"]
    with suppress(Exception):  # advice must not fail where torchvision does
        models = importlib.import_module("torchvision.models").list_models()
        names += [f"torchvision:{name}" for name in models]
    by_name = {name.rpartition(":")[2]: name for name in names}
    near = closest(text.rpartition(":")[2], by_name)
    return re.sub(r"'([^']+)'", lambda match: repr(by_name[match[1]]), near)


def call_factory(make: Callable[[], Any], what: str) -> Any:
    """``make()``, the user's code; what it raises becomes one line."""
    try:
        return make()
    except ConvscopeError:
        raise
    except (Exception, SystemExit) as error:
        raise _factory_error(what, error) from error


def _factory_error(what: str, error: BaseException) -> ModelError:
    frames = traceback.extract_tb(error.__traceback__)
    files = [f for f in frames if Path(f.filename).parent != Path(__file__).parent]
    where = f" ({Path(files[-1].filename).name}:{files[-1].lineno})" if files else ""
    return ModelError(
        f"{what} raised {type(error).__name__}: {error_text(error)}{where}. "
        "The whole traceback: --debug"
    )
