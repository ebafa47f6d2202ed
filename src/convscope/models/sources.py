"""Where models come from: frameworks' zoos, files, factories."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from convscope.errors import ConvscopeError, MissingDependency, ModelError, WeightsError, closest
from convscope.models import keras_files
from convscope.models.architectures import build
from convscope.models.base import UNKNOWN_PREPROCESS, Input, Model
from convscope.models.torch import TorchModel
from convscope.models.weights import cached_download, fit_weights, no_network, read_weights
from convscope.preprocess import Preprocess

DEMO = Path(__file__).parent / "builtin" / "demo.safetensors"

from_keras = keras_files.from_keras
from_keras_applications = keras_files.from_applications


def from_module(module: nn.Module, name: str, input: Input | None = None) -> Model:
    """A module as it is; its number of input channels is that of its first convolution."""
    if input is None:
        first = next((m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
        input = Input(channels=first.in_channels if first else 3)
    return TorchModel(module, name, input)


def from_torchvision(name: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """A torchvision model with the preprocessing and class names of its published weights."""
    models = _imported("torchvision.models", "torchvision", f"torchvision:{name}", "torchvision")
    if name not in models.list_models():
        near = closest(name, models.list_models())
        raise ModelError(f"No model {name!r} in torchvision.{near} All: torchvision.models.list_models()")
    published = models.get_model_weights(name)
    wanted = options.pop("weights", published.DEFAULT.name if weights is None else None)
    if wanted is not None and wanted not in (*published.__members__, "DEFAULT"):
        near = closest(wanted, published.__members__)
        raise WeightsError(f"torchvision:{name} has no weights {wanted!r}.{near} "
                           f"Known: none, {', '.join(published.__members__)}")  # fmt: skip
    entry = published[wanted] if wanted else published.DEFAULT
    if wanted:  # some networks have other inner sizes for other weights
        options = {"num_classes": len(entry.meta["categories"]), **options}
    arguments = {"weights": None, **_without_backbone(name, models), **options}
    module = _made(lambda: models.get_model(name, **arguments), f"torchvision:{name}")
    if wanted:
        path = cached_download(entry.url, f"torchvision:{name}")
        fit_weights(module, read_weights(path), path.name, name)
    elif weights is not None:
        fit_weights(module, read_weights(weights), str(weights), name)
    return from_module(module, name, _torchvision_input(entry, options))


def _without_backbone(name: str, models: ModuleType) -> dict[str, Any]:
    """Segmentation and detection models would fetch weights for their backbone on their own."""
    import inspect

    accepted = inspect.signature(models.get_model_builder(name)).parameters
    return {"weights_backbone": None} if "weights_backbone" in accepted else {}


def _torchvision_input(entry: Any, options: dict[str, Any]) -> Input:
    preset = entry.transforms()
    origin = f"torchvision {entry}"
    if not hasattr(preset, "mean"):  # detection models normalise by themselves
        return Input(3, Preprocess(origin=origin), tuple(entry.meta.get("categories", ())))
    resize = getattr(preset, "resize_size", None)
    crop = getattr(preset, "crop_size", None)
    preprocess = Preprocess(
        size=(crop[0], crop[0]) if crop else None,
        resize=resize[0] if resize else None,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=getattr(preset, "interpolation", None).value
        if hasattr(preset, "interpolation") else "bilinear",
        origin=origin,
    )  # fmt: skip
    classes = tuple(entry.meta.get("categories", ()))
    return Input(3, preprocess, classes if options.get("num_classes", len(classes)) == len(classes)
                 else ())  # fmt: skip


def from_timm(name: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """A timm model with the preprocessing of its configuration."""
    timm = _imported("timm", "timm", f"timm:{name}", "timm")
    if not timm.is_model(name.split(".")[0]):
        near = closest(name, timm.list_models())
        raise ModelError(f"No model {name!r} in timm.{near} All: timm.list_models()")
    pretrained = options.pop("weights", "default") is not None and weights is None
    try:
        module = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise _failed(f"timm:{name}", error) from error
        cache = Path(_imported("huggingface_hub.constants", "timm", name).HF_HUB_CACHE)
        page = timm.get_pretrained_cfg(name).hf_hub_id or name
        file = cache / f"models--{str(page).rstrip('/').replace('/', '--')}"
        raise no_network(f"timm:{name}", f"{page} (model.safetensors)", file, error) from None
    if weights is not None:
        fit_weights(module, read_weights(weights), str(weights), name)
    return from_module(module, name, _timm_input(timm, module))


def _timm_input(timm: Any, module: nn.Module) -> Input:
    config = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    side = int(min(height, width) / config["crop_pct"])
    exact = config["crop_mode"] == "squash"
    preprocess = Preprocess(
        size=(height, width),
        resize=(height, width) if exact else side,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"].replace("random", "bilinear"),
        origin="timm",
    )
    known = getattr(module, "num_classes", 0) == 1000
    return Input(channels, preprocess, imagenet_classes() if known else ())


def imagenet_classes() -> tuple[str, ...]:
    """The thousand class names of ImageNet-1k, in the usual order."""
    return keras_files.imagenet_classes()


def from_keras_file(path: Path, weights: str | Path | None) -> Model:
    """A ``.keras`` or ``.h5`` file."""
    return keras_files.from_file(path, weights)


def from_card(path: Path, name: str) -> Model:
    """A file written by ``convscope train``, with its JSON card beside it."""
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise ModelError(
            f"{path} holds weights without their card {card_path.name}. Give the network: "
            f"-m torchvision:NAME --weights {path}, or -m FILE.py:factory --weights {path}"
        )
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        made, shape = card["architecture"], card["preprocess"]
        size = (int(shape["size"][0]), int(shape["size"][1]))
        module = build(made["name"], made["channels"], size, len(card["classes"]))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"{card_path} is not a card that convscope wrote: {error!r}") from None
    fit_weights(module, read_weights(path), path.name, made["name"])
    preprocess = Preprocess(
        size=size, mean=tuple(shape["mean"]), std=tuple(shape["std"]), origin=card_path.name
    )
    return TorchModel(
        module.eval(), name, Input(made["channels"], preprocess, tuple(card["classes"]))
    )


def from_factory(spec: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """What ``FILE.py:factory`` or ``package.module:factory`` returns."""
    where, _, name = spec.rpartition(":")
    module = _module_at(where)
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ModelError(f"No {name!r} in {where}.{closest(name, public)}")
    factory = getattr(module, name)
    made = _made(lambda: factory(**options), spec) if callable(factory) and not isinstance(
        factory, nn.Module) else factory  # fmt: skip
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(made, keras.Model):
        if weights is not None:
            keras_files.load_weights(made, Path(weights))
        return from_keras(made, spec)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} returned a {type(made).__name__}, not an nn.Module or keras.Model")
    if weights is not None:
        fit_weights(made, read_weights(weights), str(weights), spec)
    return from_module(made, spec)


def _module_at(where: str) -> ModuleType:
    if where.endswith(".py"):
        path = Path(where).expanduser()
        if not path.is_file():
            near = closest(path.name, (p.name for p in path.parent.iterdir())) if (
                path.parent.is_dir()) else ""  # fmt: skip
            raise ModelError(f"No file {where!r}.{near or ' There is no such file.'}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)  # so that the file's classes can be pickled
        with _importing_from(path.parent):
            _made(lambda: spec.loader.exec_module(module), where)  # type: ignore[union-attr]
        return module
    with _importing_from(Path.cwd()):
        if importlib.util.find_spec(where.split(".")[0]) is None:
            raise ModelError(
                f"No model {where!r}. Give demo, torchvision:NAME, timm:NAME, keras:NAME, a file, "
                "or FILE.py:factory"
            )
        return _made(lambda: importlib.import_module(where), where)


class _importing_from:
    """Let imports find files in ``folder`` for a while, as ``python FILE`` would."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())

    def __enter__(self) -> None:
        sys.path.insert(0, self._folder)

    def __exit__(self, *_: object) -> None:
        if self._folder in sys.path:
            sys.path.remove(self._folder)


def _made(make: Any, spec: str) -> Any:
    try:
        return make()
    except ConvscopeError:
        raise
    except Exception as error:
        raise _failed(spec, error) from error


def _failed(spec: str, error: Exception) -> ModelError:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    line = " ".join(str(error).split())[:240]
    return ModelError(f"{spec} raised {type(error).__name__}: {line}{where}. "
                      "The whole traceback: --debug")  # fmt: skip


def _imported(module: str, package: str, what: str, extra: str | None = None) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise MissingDependency(package, what, extra) from None


def names_like(text: str) -> str:
    """Known names near to ``text``, from the frameworks that are installed and quick to ask."""
    names: list[str] = ["demo"]
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision"):
        models: Iterable[str] = importlib.import_module("torchvision.models").list_models()
        names += [f"torchvision:{name}" for name in models]
    by_name = {name.rpartition(":")[2]: name for name in names}
    near = closest(text.rpartition(":")[2], by_name)
    for name, full in by_name.items():
        near = near.replace(f"'{name}'", f"'{full}'")
    return near


__all__ = ["UNKNOWN_PREPROCESS", "from_card", "from_factory", "from_module", "names_like"]
