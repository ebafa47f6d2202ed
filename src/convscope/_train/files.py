"""What a training writes: weights, their metadata, and, until it ends, where to go on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from convscope._errors import UsageError, one_line

_AFRESH = "Start afresh: --no-resume (resume=False)"


class Files:
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

    def write(self, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Weights and metadata."""
        self.weights.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().contiguous() for name, value in weights.items()}
        _replace(self.weights, lambda file: file.write_bytes(save(tensors)))
        text = _on_one_line(json.dumps(metadata, indent=1, ensure_ascii=False)) + "\n"
        _replace(self.metadata, lambda file: file.write_text(text, encoding="utf-8"))

    def suspend(self, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Note where the next run with the same ``settings`` goes on."""
        kept = {"settings": dict(settings), **state}
        _replace(self.state, lambda file: torch.save(kept, file))

    def resume(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the last run noted, ``None`` where it came to its end.

        Raises ``UsageError`` where it was another training.
        """
        if not self.state.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
            noted: dict[str, Any] = state["settings"]
        except Exception as error:  # damaged archives raise nearly anything
            raise UsageError(
                f"{self.state} cannot be read: {one_line(error, 100)}. {_AFRESH}"
            ) from None
        changed = _differences(noted, settings)
        if changed:
            raise UsageError(
                f"{self.state} holds epoch {state['number']} of a training with {changed}. "
                f"Give the same settings to continue it. {_AFRESH}"
            )
        return state

    def finish(self) -> None:
        """There is nothing to go on with any more."""
        self.state.unlink(missing_ok=True)


def _differences(noted: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """``rate 0.1, not 0.05; epochs 10, not 3``."""
    names = [*settings, *(name for name in noted if name not in settings)]
    pairs = [(name, noted.get(name), settings.get(name)) for name in names]
    return "; ".join(f"{name} {was}, not {now}" for name, was, now in pairs if was != now)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Through a temporary file: an interrupted write leaves the old one."""
    temporary = path.with_suffix(".tmp")
    write(temporary)
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)


def _on_one_line(text: str) -> str:
    """Lists of numbers of an indented JSON text, each on one line."""
    return re.sub(r"\[[\s\d.,+-]+\]", lambda found: " ".join(found[0].split()), text)
