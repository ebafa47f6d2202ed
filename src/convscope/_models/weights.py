"""Weights: reading files without running their code, fitting them, recognizing untrained ones."""

from __future__ import annotations

import glob
import json
import pickle
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from convscope._errors import UnsafeFile, WeightsError, closest
from convscope._models.fitting import Reading, canonical, flattened, readings, same_shape
from convscope._models.lazy_layers import is_lazy, materialize
from convscope._models.pickles import is_data, read_pickle, wanted

FRESH_NORMS = "its batch normalizations have never seen a batch"
_SAMPLE = 4096  # numbers of a kernel that are looked at
_STATE = "torch.save(model.state_dict(), ...)"
_SHARD = re.compile(r"-\d+-of-(\d+)$")


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    Attributes:
        source: The file, for messages.
        held: Tensors by name, or mappings that hold such ones.
        objects: Classes of objects that stand beside them in the file and were not made.
    """

    source: str
    held: Any
    objects: tuple[str, ...] = ()

    @property
    def plain(self) -> dict[str, Tensor]:
        """The tensors of a file that holds nothing else; else empty."""
        held = dict(self.held) if isinstance(self.held, Mapping) else {}
        return held if all(isinstance(value, Tensor) for value in held.values()) else {}


def read_weights(path: str | Path) -> Weights:
    """The tensors in a ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file.

    A pickle is opened with ``weights_only=True``, and none of the objects in it is made; one that
    wants to run code is refused (``UnsafeFile``). Of a file in several shards, the index or any
    shard stands for all.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"No weights {str(path)!r}.{near_files(path)}")
    files, parts, objects = _shards(path), list[Any](), list[str]()
    for file in files:
        part, made = _read_safetensors(file) if _is_safe(file) else _read_pickle(file)
        parts.append(part)
        objects += made
    held = parts[0] if len(files) == 1 else _joined(parts)
    if not flattened(held):
        raise _without_tensors(path, held, objects)
    return Weights(str(path), held, tuple(objects))


def _joined(shards: list[Any]) -> dict[str, Any]:
    mappings = [shard for shard in shards if isinstance(shard, Mapping)]
    return {name: value for shard in mappings for name, value in shard.items()}


def _without_tensors(path: Path, held: Any, objects: list[str]) -> WeightsError | UnsafeFile:
    if objects:
        return _unsafe(path, objects[0])
    if not isinstance(held, Mapping):
        return WeightsError(
            f"{path} holds a {type(held).__name__}, not a state_dict. Save one: {_STATE}"
        )
    return WeightsError(f"{path} holds no tensors by name. Save them: {_STATE}")


def _shards(path: Path) -> list[Path]:
    """All files that hold the weights of which ``path`` is one shard, or the index."""
    if path.suffix == ".json":
        return _indexed(path)
    shard = _SHARD.search(path.stem)
    if shard is None:
        return [path]
    for index in sorted(path.parent.glob("*.index.json")):
        if path in (files := _indexed(index)):
            return files
    name = f"{glob.escape(path.stem[: shard.start()])}-*-of-{shard[1]}{path.suffix}"
    beside = sorted(path.parent.glob(name))
    return beside if len(beside) == int(shard[1]) else [path]


def _indexed(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = [index.parent / Path(name).name for name in dict.fromkeys(names)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(
            f"{index} is not an index of weights in shards (it has no 'weight_map'). Give the "
            "file of weights itself"
        ) from None
    absent = next((file.name for file in files if not file.is_file()), None)
    if absent is not None:
        raise WeightsError(f"{index} names the shard {absent!r}, which is not beside it")
    return files


def near_files(path: Path) -> str:
    """The files beside ``path`` with similar names, for the message that it does not exist."""
    beside: Iterable[str] = ()
    if path.parent.is_dir():
        beside = (file.name for file in path.parent.iterdir())
    return closest(path.name, beside) or " There is no such file."


def _is_safe(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _read_safetensors(path: Path) -> tuple[Any, list[str]]:
    try:
        return load_file(path), []
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error_text(error, 160)}") from None


def _read_pickle(path: Path) -> tuple[Any, list[str]]:
    try:
        return read_pickle(path)
    except pickle.UnpicklingError as error:
        if name := wanted(error):
            raise _unsafe(path, name) from None
        raise WeightsError(
            f"{path} cannot be read as weights: it is damaged, or not a file of torch. "
            "Supported: .safetensors and .pth"
        ) from None
    except Exception as error:  # damaged archives raise nearly anything
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript program, not weights. Save them: {_STATE}, and give the "
                "network with -m"
            ) from None
        raise WeightsError(f"{path} cannot be read as weights: {error_text(error, 160)}") from None


def _unsafe(path: Path | str, name: str) -> UnsafeFile:
    return UnsafeFile(
        f"{path} wants to run code when opened ({name}), so it is not. Save the weights alone: "
        f"{_STATE}, and give the network with -m"
    )


def error_text(error: object, limit: int = 240) -> str:
    """The text of an exception on one line, the file that it names included."""
    return " ".join(str(error).split())[:limit].rstrip(".")


def fit_weights(module: nn.Module, weights: Weights, name: str) -> str:
    """Load ``weights`` into ``module``; every name and shape must fit.

    Nesting (``state_dict``, ``params_ema``), prefixes (``model.``) and wrappers (``module.``) are
    looked through. Where averaged weights and others fit, the averaged ones are taken.

    Returns:
        The name of the file, and in brackets what was taken of it where it holds more.

    Raises:
        WeightsError: If nothing fits (names the first keys that do not), or several parts do.
        UnsafeFile: If the file holds a whole model and no weights.
    """
    found = readings(module, flattened(weights.held))
    one = _chosen(found, weights.source)
    if not one.values and weights.objects:
        raise _unsafe(weights.source, weights.objects[0])
    materialize(module, one.values)
    own = module.state_dict()
    one.shapes = [k for k in one.values if not same_shape(k, own[k], one.values[k])]
    if one.fits:
        _load_into(module, one, weights.source)
    elif not _translated(module, one):
        shard = _SHARD.search(Path(weights.source).stem)
        more = f"; it is one of {int(shard[1])} shards: put the others beside it" if shard else ""
        raise WeightsError(f"{weights.source} does not fit {name}: {_differences(one, own)}{more}")
    return Path(weights.source).name + _said(found, one)


def _said(found: list[Reading], one: Reading) -> str:
    """What was taken of a file that holds more, and what it lacks, in brackets."""
    notes = [canonical(one.place)] if len(found) > 1 or one.is_part else []
    notes += ["without extra state"] if one.lacks_state else []
    said = ", ".join(filter(None, notes))
    return f" ({said})" if said else ""


def _chosen(found: list[Reading], source: str) -> Reading:
    """The averaged weights of those that fit; an error where several remain that differ."""
    left = [one for one in found if one.is_averaged] or found
    if any(not _equal(left[0].values, other.values) for other in left[1:]):
        places, first = [one.place for one in left], left[0].place.split(".")[0]
        raise WeightsError(
            f"{source} holds several weights that fit: {_first(places)}. Save the one you mean "
            f"alone: torch.save(torch.load({source!r})[{first!r}], '{first}.pth')"
        )
    return left[0]


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a.keys() != b.keys():
        return False
    pairs = [(value, b[name]) for name, value in a.items()]
    return all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else repr(x) == repr(y)
        for x, y in pairs
    )


def _load_into(module: nn.Module, one: Reading, source: str) -> None:
    objects = [k for k, value in one.values.items() if not is_data(value)]
    if objects:
        raise WeightsError(
            f"{source} has objects of classes in {objects[0]!r}, which are not made. Save numbers, "
            "text and tensors there"
        )
    try:
        module.load_state_dict(one.values, strict=False)
    except Exception as error:  # also what the network's own set_extra_state raises
        raise WeightsError(
            f"{source} cannot be loaded: {type(error).__name__}: {error_text(error)}"
        ) from None


def _translated(module: nn.Module, one: Reading) -> bool:
    """Whether the network's own hooks understand the names, as those of an older version."""
    own = module.state_dict()
    before = {k: v.clone() for k, v in own.items() if isinstance(v, Tensor) and not is_lazy(v)}
    try:
        nn.Module.load_state_dict(module, one.values | one.unexpected, strict=True)
    except Exception:  # hooks may raise anything
        nn.Module.load_state_dict(module, before, strict=False)
        return False
    return True


def _differences(one: Reading, own: Mapping[str, Any]) -> str:
    parts = []
    if one.shapes:
        have, want = tuple(one.values[one.shapes[0]].shape), tuple(own[one.shapes[0]].shape)
        parts.append(f"{one.shapes[0]!r} is {have} in the file and {want} in the network")
    if one.missing:
        parts.append(f"the file lacks {_first(one.missing)}")
    if one.unexpected:
        parts.append(f"the network lacks {_first(list(one.unexpected))}")
    return "; ".join(parts)


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
    return ", ".join(map(repr, keys[:2])) + more


def cached_download(url: str, model: str) -> Path:
    """The file at ``url`` in torch's own cache, downloaded with progress where it is not there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    if path.is_file():
        return path
    digest = re.search(r"-([a-f0-9]+)\.", path.name)
    try:
        check_reachable(url)
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest and digest[1], progress=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise no_network(model, url, path, error) from None
    return path


def check_reachable(url: str) -> None:
    """Raise ``OSError`` at once where the host of ``url`` cannot be resolved, unless by a proxy."""
    if not getproxies().keys() & {"http", "https", "all"}:
        socket.getaddrinfo(urlparse(url).hostname, 443)


def no_network(model: str, url: str, path: Path, error: object) -> WeightsError:
    """The error for weights that cannot be downloaded: which file to put where."""
    reason = error_text(getattr(error, "reason", error), 80)
    return WeightsError(
        f"The weights of {model} cannot be downloaded ({reason}). Put {url} at {path}, "
        f"or give a file with --weights, or random ones with -m {model},weights=none"
    )


def untrained_kernels(kernels: Sequence[tuple[Tensor, Tensor | None]]) -> str:
    """Why kernels and their biases look as initialized; empty where they do not.

    The default initialization of torch is uniform within ±1/√fan-in, which no training keeps; the
    usual others set every bias to zero. Ends at the first kernel that looks trained.
    """
    biases = [bias for _, bias in kernels if bias is not None]
    if biases and not any(bool(bias.detach().any()) for bias in biases):
        return "all its biases are exactly zero"
    large = [weight for weight, _ in kernels if weight.numel() >= 400]
    if large and all(_is_uniform(weight) for weight in large):
        return "its kernels are uniform random numbers"
    return ""


def _is_uniform(kernel: Tensor) -> bool:
    """A uniform distribution has kurtosis 1.8 and fills its range; trained kernels have peaks."""
    flat = kernel.detach().flatten()
    values = flat[:: max(1, len(flat) // _SAMPLE)].float()
    centered = values - values.mean()
    variance = centered.pow(2).mean()
    kurtosis = float(centered.pow(4).mean() / variance.pow(2).clamp_min(1e-30))
    reach = float(values.abs().max() / (variance.sqrt() * 3**0.5).clamp_min(1e-30))
    return abs(kurtosis - 1.8) < 0.25 and reach < 1.08
