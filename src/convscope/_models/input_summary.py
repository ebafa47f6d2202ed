"""The input image as the model gets it, and the notes that go with every figure of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._models.inputs import Batch
from convscope._models.model import Model


@dataclass(frozen=True, eq=False)
class InputSummary:
    """An input image, original and preprocessed, with the notes for figures made from it.

    - ``model``: the model's title; ``name``: the image's name.
    - ``original``: the image ``(H, W, 3)`` uint8, ``None`` where an array of floats was given.
    - ``preprocessed``: the image after resize and crop, ``(h, w, 3)`` uint8.
    - ``lines``: how it was preprocessed, and warnings about the model.
    - ``depth``: number of slices of a volume, drawn one below the other; 0 for images.
    """

    model: str
    name: str
    original: NDArray[np.uint8] | None
    preprocessed: NDArray[np.uint8]
    lines: tuple[str, ...]
    depth: int = 0


def summarize_input(model: Model, batch: Batch) -> InputSummary:
    """Summarize the one image in ``batch``."""
    preprocessed, drawn = model.preprocessed(batch)
    height, width = batch.size
    lines = []
    original = None
    if batch.views is not None and batch.preprocess is not None:
        view = batch.views[0]
        original = np.asarray(view.original.image.convert("RGB"))
        lines.append(
            f"input {view.name} {view.original.image.height}×{view.original.image.width} "
            f"(height×width), preprocessed to {height}×{width}"
        )
        lines.append(f"preprocessing {batch.preprocess.describe()}")
        lines += view.original.notes
    else:
        size = f" {height}×{width} (height×width)"
        size = f", a signal of length {width}" if model.input.signal else size
        lines.append(f"input {batch.names[0]}{size}, {drawn}")
    if untrained := model.untrained_note():
        lines.append(untrained)
    return InputSummary(
        model.title, batch.names[0], original, preprocessed, tuple(lines), model.input.depth
    )
