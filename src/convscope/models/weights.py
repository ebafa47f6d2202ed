"""Reading weights without running anyone's code, and saying exactly what does not fit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from convscope.errors import ModelError, UnsafeFile, WeightsError, closest


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, by name.

    A pickle is opened with ``weights_only=True``; one that wants to run code is refused
    (``UnsafeFile``). Checkpoints that keep the weights under ``state_dict`` or ``model`` are
    understood, and the ``module.`` that DataParallel puts before each name is dropped.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        near = closest(path.name, (p.name for p in path.parent.iterdir())) if (
            path.parent.is_dir()) else ""  # fmt: skip
        raise WeightsError(f"No weights {str(path)!r}.{near or ' There is no such file.'}")
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name: it is no state_dict")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name[len("module.") :]: value for name, value in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from None


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFile(
            f"{path} wants to run code when opened ({_wanted_global(error)}), so it is not. Save "
            "the weights alone: torch.save(model.state_dict(), ...), and give the network with -m"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise WeightsError(f"{path} cannot be read as weights: {line[:160]}") from None
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not a state_dict")
    return loaded


def _wanted_global(error: Exception) -> str:
    """The name of the class or function a refused pickle asked for."""
    words = str(error).split()
    if "GLOBAL" in words:
        return words[words.index("GLOBAL") + 1].strip(".")
    return "it is no plain pickle of tensors"


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str, name: str) -> None:
    """Load ``tensors`` into ``module``; every name and shape must fit.

    Raises ``WeightsError`` that names the first keys that do not.
    """
    own = module.state_dict()
    # A counter that old checkpoints lack and that evaluation does not read.
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in own]
    shapes = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if missing or unexpected or shapes:
        parts = []
        if shapes:
            have, want = tuple(tensors[shapes[0]].shape), tuple(own[shapes[0]].shape)
            parts.append(f"{shapes[0]!r} is {have} in the file and {want} in the network")
        if missing:
            parts.append(f"the file lacks {_first(missing)}")
        if unexpected:
            parts.append(f"the network lacks {_first(unexpected)}")
        raise WeightsError(f"{source} does not fit {name}: {'; '.join(parts)}")
    module.load_state_dict(dict(tensors), strict=False)


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
    return ", ".join(map(repr, keys[:2])) + more


def cached_download(url: str, model: str) -> Path:
    """The file at ``url`` in torch's own cache, downloaded with progress where it is not there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    name = os.path.basename(urlparse(url).path)
    path = folder / name
    if path.is_file():
        return path
    digest = torch.hub.HASH_REGEX.search(name)  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), digest and digest.group(1), progress=True)
    except (OSError, RuntimeError) as error:
        raise no_network(model, url, path, error) from None
    return path


def no_network(model: str, url: str, path: Path, error: Exception) -> ModelError:
    """What to say where weights cannot be fetched: which file to put where."""
    reason = " ".join(str(getattr(error, "reason", error)).split())
    return WeightsError(
        f"The weights of {model} cannot be downloaded ({reason[:80]}). Put {url} at {path}, "
        f"or give a file with --weights, or random ones with -m {model},weights=none"
    )
