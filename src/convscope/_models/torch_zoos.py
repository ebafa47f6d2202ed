"""torchvision and timm: networks by name, with the weights and preprocessing published for them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from convscope._errors import ModelError, UsageError, WeightsError, closest, import_optional
from convscope._images import Preprocess
from convscope._models.fitting import fit_weights
from convscope._models.inputs import Input, imagenet_classes
from convscope._models.model import Model
from convscope._models.sources import call_factory, torch_model
from convscope._models.weights import (
    Weights,
    cached_download,
    check_reachable,
    no_network,
    read_weights,
)

_published_lock = threading.Lock()


def from_torchvision(name: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """A torchvision model with the preprocessing and class names of its published weights."""
    label = f"torchvision:{name}"
    models = import_optional("torchvision.models", "torchvision", label, "torchvision")
    if name not in models.list_models():
        near = closest(name, models.list_models())
        raise ModelError(
            f"No model {name!r} in torchvision.{near} All: torchvision.models.list_models()"
        )
    published = models.get_model_weights(name)
    entry, load_it = _entry(published, name, options, weights)
    taken = ""
    if weights is not None:
        module, taken = _filled(models, name, options, entry, read_weights(weights))
    elif load_it:
        held = read_weights(cached_download(entry.url, label))
        module, _ = _filled(models, name, options, entry, held)
    else:
        module = call_factory(lambda: _plain(models, name, options), label)
    model = torch_model(module, name, _built_for(module, _torchvision_input(entry, options)))
    model.weights_file = taken
    return model


def _entry(
    published: Any, name: str, options: dict[str, Any], weights: str | Path | None
) -> tuple[Any, bool]:
    """The published weights that ``options`` name, and whether to load them."""
    known = list(published.__members__)
    default = None if weights is not None else published.DEFAULT.name
    chosen = options.pop("weights", default)
    if chosen is not None and weights is not None:
        raise UsageError(f"torchvision:{name},weights={chosen} and --weights: give one of them")
    if chosen is None:
        return published.DEFAULT, False
    if chosen not in (*known, "DEFAULT"):
        near = closest(str(chosen), known)
        raise WeightsError(
            f"torchvision:{name} has no weights {chosen!r}.{near} Known: none, {', '.join(known)}"
        )
    return published[chosen], True


def _plain(models: ModuleType, name: str, options: Mapping[str, Any]) -> nn.Module:
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    # Segmentation and detection models would fetch weights for their backbone on their own, and
    # two old networks warn unless they are asked to initialize their weights.
    backbone = {"weights_backbone": None} if "weights_backbone" in accepted else {}
    old = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, **{**backbone, **old, **options})
    return network


def _filled(
    models: ModuleType,
    name: str,
    options: Mapping[str, Any],
    entry: Any,
    weights: Weights,
) -> tuple[nn.Module, str]:
    """The network with ``weights``, built as torchvision builds it for published weights.

    That way it also gets what goes with them: other inner sizes, renamed keys, Inception's own
    normalization. torchvision would unpickle the file itself, so the tensors are handed to it.

    Returns:
        The network, and what ``fit_weights`` says was taken of the file.
    """

    def published(tensors: Any) -> nn.Module | None:
        with _handing_over(entry, tensors), suppress(RuntimeError, ValueError):
            network: nn.Module = models.get_model(name, weights=entry, **options)
            return network
        return None  # it does not fit, or another number of classes was given

    if (tensors := weights.plain) and (network := published(tensors)) is not None:
        return network, ""
    plain: nn.Module = call_factory(lambda: _plain(models, name, options), f"torchvision:{name}")
    taken = fit_weights(plain, weights, name)
    return published(plain.state_dict()) or plain, taken


@contextmanager
def _handing_over(entry: Any, tensors: Mapping[str, Any]) -> Iterator[None]:
    """Let published weights be ``tensors`` for a while; the entry is shared by the process."""
    with _published_lock:
        entry.get_state_dict = lambda *_, **__: dict(tensors)
        try:
            yield
        finally:
            del entry.get_state_dict


def _torchvision_input(entry: Any, options: dict[str, Any]) -> Input:
    preset, origin = entry.transforms(), f"torchvision {entry}"
    classes = tuple(entry.meta.get("categories") or ())
    if options.get("num_classes", len(classes)) != len(classes):
        classes = ()
    if not hasattr(preset, "mean"):  # detection models normalize by themselves
        return Input(3, Preprocess(origin=origin), classes)
    resize, crop = (tuple(getattr(preset, key, None) or ()) for key in ("resize_size", "crop_size"))
    preprocess = Preprocess(
        size=(crop[0], crop[-1]) if crop else None,
        resize=resize[0] if len(resize) == 1 else resize or None,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
        origin=origin,
    )
    return Input(3, preprocess, classes)


def _built_for(module: nn.Module, input: Input) -> Input:
    """A transformer without weights may be built for another size than those published."""
    side = getattr(module, "image_size", None)
    if not isinstance(side, int) or input.size == (side, side):
        return input
    return replace(input, preprocess=input.preprocess.at((side, side)))


def from_timm(name: str, options: dict[str, Any], weights: str | Path | None) -> Model:
    """A timm model with the preprocessing of its configuration."""
    timm = import_optional("timm", "timm", f"timm:{name}", "timm")
    label = f"timm:{name}"
    if not timm.is_model(name.split(".")[0]):
        near = closest(name, timm.list_models())
        raise ModelError(f"No model {name!r} in timm.{near} All: timm.list_models()")
    pretrained = options.pop("weights", "default") is not None and weights is None
    source = _timm_source(timm, name) if pretrained else {}
    module = call_factory(
        lambda: timm.create_model(name, pretrained=pretrained, **source, **options), label
    )
    taken = "" if weights is None else fit_weights(module, read_weights(weights), name)
    model = torch_model(module, name, _timm_input(timm, module, options.get("in_chans", 3)))
    model.weights_file = taken
    return model


def _timm_source(timm: Any, name: str) -> dict[str, Any]:
    """Options that make timm read published weights from a local file, without the network."""
    known = timm.list_pretrained(f"{name.split('.')[0]}.*")
    if "." in name and name not in known:
        raise WeightsError(
            f"timm has no weights {name!r}.{closest(name, known)}"
            f" Random ones: timm:{name.split('.')[0]},weights=none"
        )
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.has_weights:
        raise WeightsError(f"timm has no weights for {name!r}. Random: timm:{name},weights=none")
    if not published.hf_hub_id:
        file = cached_download(published.url, f"timm:{name}") if published.url else None
    else:
        file = _hub_file(published.hf_hub_id, published.hf_hub_filename, f"timm:{name}")
    return {"pretrained_cfg_overlay": {"file": str(file)}} if file else {}


def _hub_file(repository: str, file: str | None, model: str) -> Path:
    """A file in the cache of the Hugging Face hub, downloaded with progress where it is not."""
    hub = import_optional("huggingface_hub", "huggingface_hub", model)
    for name in [file] if file else ["model.safetensors", "pytorch_model.bin"]:
        cached = hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    file = file or "model.safetensors"
    url = hub.hf_hub_url(repository, file)
    folder = f"models--{repository.replace('/', '--')}"
    cache = Path(hub.constants.HF_HUB_CACHE) / folder / "snapshots" / _revision(hub, folder) / file
    try:
        if hub.constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        check_reachable(url)
        return Path(hub.hf_hub_download(repository, file))
    except Exception as error:  # the hub's own kinds, requests' and httpx's
        raise no_network(model, url, cache, error) from None


def _revision(hub: Any, folder: str) -> str:
    """The snapshot in which the hub's cache looks for the main branch of a repository."""
    pointer = Path(hub.constants.HF_HUB_CACHE) / folder / "refs" / "main"
    return pointer.read_text() if pointer.is_file() else "main"


def _timm_input(timm: Any, module: nn.Module, channels: int) -> Input:
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    mode, origin = config["crop_mode"], "timm"
    resize: Any = tuple(int(side / config["crop_pct"]) for side in (height, width))
    if mode != "squash":
        resize = resize[0] if height == width else None
    if mode == "border":
        origin = "timm, whose border around the image is not drawn here"
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        origin = f"timm, colors' mean and std averaged for {channels} channels"
    preprocess = Preprocess(
        size=(height, width),
        resize=resize,
        mean=mean,
        std=std,
        interpolation=config["interpolation"].replace("random", "bilinear"),
        origin=origin,
    )
    known = getattr(module, "num_classes", 0) == 1000
    return Input(channels, preprocess, imagenet_classes() if known else ())
