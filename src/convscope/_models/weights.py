"""Weights: reading files without running their code, recognizing untrained ones."""

from __future__ import annotations

import glob
import json
import pickle
import re
import socket
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from convscope._errors import UnsafeFile, WeightsError, closest
from convscope._models.pickles import read_pickle, wanted
from convscope._models.readings import flattened

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
        part: The name under which the weights are to be found, where one was asked for.
    """

    source: str
    held: Any
    objects: tuple[str, ...] = ()
    part: str = ""

    @property
    def plain(self) -> dict[str, Tensor]:
        """The tensors of a file that holds nothing else; else empty."""
        held = dict(dict.items(self.held)) if isinstance(self.held, dict) else {}
        is_plain = not self.part and all(isinstance(value, Tensor) for value in held.values())
        return held if is_plain else {}


def read_weights(path: str | Path) -> Weights:
    """The tensors in a ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt`` or ``.bin`` file.

    A pickle is opened with ``weights_only=True``, and none of the objects in it is made; one that
    wants to run code is refused (``UnsafeFile``). Of a file in several shards, the index or any
    shard stands for all. ``FILE#NAME`` asks for what the file keeps under a name.
    """
    path, part = _part(Path(path).expanduser())
    if not path.is_file():
        raise WeightsError(f"No weights {str(path)!r}.{near_files(path)}")
    files, parts, objects = _shards(path), list[Any](), list[str]()
    for file in files:
        held, made = _read_safetensors(file) if _is_safe(file) else _read_pickle(file)
        parts.append(held)
        objects += made
    held = parts[0] if len(files) == 1 else _joined(parts)
    if not flattened(held).entries:
        raise _without_tensors(path, held, objects)
    return Weights(str(path), held, tuple(objects), part)


def _part(path: Path) -> tuple[Path, str]:
    file, mark, part = str(path).rpartition("#")
    return (Path(file), part) if mark and not path.is_file() else (path, "")


def _joined(shards: list[Any]) -> dict[str, Any]:
    mappings = [shard for shard in shards if isinstance(shard, dict)]
    return {name: value for shard in mappings for name, value in dict.items(shard)}


def _without_tensors(path: Path, held: Any, objects: list[str]) -> WeightsError | UnsafeFile:
    if objects:
        return unsafe(path, objects[0])
    if not isinstance(held, dict):
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
        if path in _named(index):
            return _indexed(index)
    name = f"{glob.escape(path.stem[: shard.start()])}-*-of-{shard[1]}{path.suffix}"
    beside = sorted(path.parent.glob(name))
    return beside if len(beside) == int(shard[1]) else [path]


def _named(index: Path) -> list[Path]:
    """The files that an index names; none where it is not one."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [index.parent / Path(name).name for name in dict.fromkeys(names)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _indexed(index: Path) -> list[Path]:
    files = _named(index)
    if not files:
        raise WeightsError(
            f"{index} is not an index of weights in shards (it has no 'weight_map'). Give the "
            "file of weights itself"
        )
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
    return path.suffix.lower() == ".safetensors"


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
            raise unsafe(path, name) from None
        if "Unsupported operand" in str(error) and zipfile.is_zipfile(path):
            raise WeightsError(
                f"{path} was saved with a pickle protocol that cannot be read without running "
                f"code. Save it again with torch's own: {_STATE}"
            ) from None
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


def shard_count(path: str) -> int:
    """Of how many shards the name of a file says that it is one; 0 where it says nothing."""
    shard = _SHARD.search(Path(path).stem)
    return int(shard[1]) if shard else 0


def unsafe(path: Path | str, name: str) -> UnsafeFile:
    return UnsafeFile(
        f"{path} wants to run code when opened ({name}), so it is not. Save the weights alone: "
        f"{_STATE}, and give the network with -m"
    )


def error_text(error: object, limit: int = 240) -> str:
    """The text of an exception on one line, the file that it names included."""
    return " ".join(str(error).split())[:limit].rstrip(".")


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
