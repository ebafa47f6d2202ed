"""Weights: reading files without running their code, fitting them, recognizing untrained ones."""

from __future__ import annotations

import pickle
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
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

FRESH_NORMS = "its batch normalizations have never seen a batch"
_SAMPLE = 4096  # numbers of a kernel that are looked at
_PREFIXES = ("module.", "_orig_mod.")  # put there by DataParallel and torch.compile


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, by name.

    A pickle is opened with ``weights_only=True``; one that wants to run code is refused
    (``UnsafeFile``). Checkpoints that keep the weights under ``state_dict`` or ``model`` are
    understood, and the ``module.`` that DataParallel puts before each name is dropped.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"No weights {str(path)!r}.{near_files(path)}")
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no tensors by name. Save them: torch.save(model.state_dict(), ...)"
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def near_files(path: Path) -> str:
    """The files beside ``path`` with similar names, for the message that it does not exist."""
    beside: Iterable[str] = ()
    if path.parent.is_dir():
        beside = (file.name for file in path.parent.iterdir())
    return closest(path.name, beside) or " There is no such file."


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error_text(error, 160)}") from None


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        required = re.search(r"GLOBAL (\S+)", str(error))
        if required is None:
            raise WeightsError(
                f"{path} cannot be read as weights: it is damaged, or not a file of torch. "
                "Supported: .safetensors and .pth"
            ) from None
        raise UnsafeFile(
            f"{path} wants to run code when opened ({required[1].strip('.')}), so it is not. Save "
            "the weights alone: torch.save(model.state_dict(), ...), and give the network with -m"
        ) from None
    except Exception as error:  # damaged archives raise nearly anything
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript program, not weights. Save them: "
                "torch.save(model.state_dict(), ...), and give the network with -m"
            ) from None
        raise WeightsError(f"{path} cannot be read as weights: {error_text(error, 160)}") from None
    if not isinstance(loaded, Mapping):
        raise WeightsError(
            f"{path} holds a {type(loaded).__name__}, not a state_dict. Save one: "
            "torch.save(model.state_dict(), ...)"
        )
    return loaded


def error_text(error: object, limit: int = 240) -> str:
    """The text of an exception on one line, the file that it names included."""
    return " ".join(str(error).split())[:limit].rstrip(".")


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str, name: str) -> None:
    """Load ``tensors`` into ``module``; every name and shape must fit.

    Raises ``WeightsError`` that names the first keys that do not.
    """
    own = module.state_dict()
    # A counter that old checkpoints lack and that evaluation does not read.
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in own]
    shapes = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    parts = []
    if shapes:
        have, want = tuple(tensors[shapes[0]].shape), tuple(own[shapes[0]].shape)
        parts.append(f"{shapes[0]!r} is {have} in the file and {want} in the network")
    if missing:
        parts.append(f"the file lacks {_first(missing)}")
    if unexpected:
        parts.append(f"the network lacks {_first(unexpected)}")
    if parts:
        raise WeightsError(f"{source} does not fit {name}: {'; '.join(parts)}")
    module.load_state_dict(dict(tensors), strict=False)


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
