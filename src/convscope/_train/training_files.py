"""The files of a training: weights, metadata, and the state of an unfinished one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor

from convscope._errors import UsageError, one_line
from convscope._io import atomic_file

_START_AGAIN = "To start again: --no-resume (resume=False)"

# Names in the files of version 0.1.0.
_OLD_STATE_NAMES = {"optimiser": "optimizer"}
_OLD_SETTING_NAMES = {
    "pictures of": "image size",
    "training pictures": "training images",
    "test pictures": "test images",
}


class TrainingFiles:
    """The files of one training, named after its weights.

    ``net.safetensors``, ``net.json``, and ``net.resume.pt`` while it is unfinished; each is
    replaced as a whole or not at all.
    """

    def __init__(self, weights: Path) -> None:
        if weights.suffix != ".safetensors":
            raise UsageError(
                f"Weights are written as .safetensors, not {weights.name!r}. "
                f"Use -o {weights.with_suffix('.safetensors')}"
            )
        self.weights = weights
        self.metadata = weights.with_suffix(".json")
        self.state = weights.with_suffix(".resume.pt")

    def write_weights(self, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write weights and metadata."""
        tensors = {name: value.detach().contiguous() for name, value in weights.items()}
        _replace(self.weights, lambda file: file.write(save(tensors)))
        text = _numbers_on_one_line(json.dumps(metadata, indent=1, ensure_ascii=False)) + "\n"
        _replace(self.metadata, lambda file: file.write(text.encode()))

    def write_state(self, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Write the state from which a run with the same ``settings`` can continue."""
        content = {"settings": dict(settings), **state}
        _replace(self.state, lambda file: torch.save(content, file))

    def read_state(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the state of an interrupted run, ``None`` if there is none.

        Raises:
            UsageError: The state cannot be read, or is of a training with other settings.
        """
        if not self.state.exists():
            return None
        try:
            loaded = torch.load(self.state, map_location="cpu", weights_only=True)
            state = _rename_keys(loaded, _OLD_STATE_NAMES)
            saved = _rename_keys(state["settings"], _OLD_SETTING_NAMES)
        except Exception as error:  # damaged archives raise nearly anything
            raise UsageError(
                f"{self.state} cannot be read: {one_line(error, 100)}. {_START_AGAIN}"
            ) from None
        differences = _differences(saved, settings)
        if differences:
            raise UsageError(
                f"{self.state} holds epoch {state['number']} of a training with {differences}. "
                f"Give the same settings to continue it. {_START_AGAIN}"
            )
        return state

    def remove_state(self) -> None:
        """Remove the state of an interrupted run."""
        self.state.unlink(missing_ok=True)


def _rename_keys(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in content.items()}


def _differences(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """``rate 0.1, not 0.05; epochs 10, not 3``."""
    names = [*settings, *(name for name in saved if name not in settings)]
    pairs = [(name, saved.get(name), settings.get(name)) for name in names]
    return "; ".join(f"{name} {old}, not {new}" for name, old, new in pairs if old != new)


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with atomic_file(path, durable=True) as file:
        write(file)


def _numbers_on_one_line(text: str) -> str:
    """Put each list of numbers of an indented JSON text on one line."""
    return re.sub(r"\[[\s\d.,+-]+\]", lambda found: " ".join(found[0].split()), text)
