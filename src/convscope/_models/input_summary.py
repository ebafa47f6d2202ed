"""The picture under the microscope, and what has to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._layers import file_name
from convscope._models import Batch, Model


@dataclass(frozen=True, eq=False)
class InputSummary:
    """The picture under the microscope, and the network that looks at it.

    - ``model``: its name; ``name``: the picture's.
    - ``original``: the picture ``(H, W, 3)`` uint8, ``None`` where numbers were given.
    - ``seen``: what the model sees of it, ``(h, w, 3)`` uint8.
    - ``lines``: what was done to the picture, and what has to be said about the model.
    - ``depth``: how many slices a volume has, drawn one below the other; else 0.
    """

    model: str
    name: str
    original: NDArray[np.uint8] | None
    seen: NDArray[np.uint8]
    lines: tuple[str, ...]
    depth: int = 0


def summarize_input(model: Model, batch: Batch) -> InputSummary:
    """What has to be said of the one picture in ``batch`` before any layer is shown."""
    seen, drawn = model.preprocessed(batch)
    height, width = batch.size
    lines = []
    original = None
    if batch.views is not None and batch.preprocess is not None:
        view = batch.views[0]
        original = np.asarray(view.original.image.convert("RGB"))
        lines.append(
            f"input {view.name} {view.original.image.height}×{view.original.image.width} "
            f"(height×width), seen at {height}×{width}"
        )
        lines.append(f"preprocessing {batch.preprocess.describe()}")
        lines += view.original.notes
    else:
        lines.append(f"input {batch.names[0]} {height}×{width} (height×width), {drawn}")
    untrained = model.looks_untrained()
    if untrained:
        lines.append(f"this network looks untrained: {untrained}")
    return InputSummary(
        model.title, batch.names[0], original, seen, tuple(lines), model.input.depth
    )


def picture_name(image: str, what: str, suffix: str) -> str:
    """``cat.jpg`` and ``layer1.0/add`` make ``cat.layer1.0%2Fadd.png``."""
    return f"{file_name(Path(image).stem)}.{file_name(what)}{suffix}"
