"""``TensorBoard``: the same pictures among a run's other curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convscope._errors import UsageError, import_optional
from convscope._watch.frame import Frame, Span, Style


class TensorBoard:
    """Writes each frame as an image of TensorBoard's, under ``digit.png/conv1``.

    ``run`` is a folder for event files, or a ``SummaryWriter`` that is open already: the pictures
    then stand beside its curves, and it is left open. Colors span the frames so far.
    """

    def __init__(self, run: Any) -> None:
        self._own = isinstance(run, (str, Path))
        if not self._own and not callable(getattr(run, "add_image", None)):
            raise UsageError(f"TensorBoard takes a folder or a SummaryWriter, not {run!r}")
        self._writer = _summary_writer(run) if self._own else run
        self._spans: dict[str, Span] = {}

    def __repr__(self) -> str:
        return f"TensorBoard({self._writer.log_dir!r})"

    def write(self, frame: Frame, style: Style) -> None:
        """Add one image."""
        tag = f"{frame.image}/{frame.layer}"
        span = self._spans[tag] | frame.span if tag in self._spans else frame.span
        self._spans[tag] = span
        number = f"the {span.frames} frames so far" if span.frames > 1 else "this frame"
        image = frame.sheet(style, span, f"in {number}").image
        self._writer.add_image(tag, np.asarray(image.convert("RGB")), frame.step, dataformats="HWC")

    def close(self) -> None:
        """Bring everything to disk."""
        self._writer.close() if self._own else self._writer.flush()


def _summary_writer(folder: str | Path) -> Any:
    found = import_optional("torch.utils.tensorboard", "tensorboard", "cs.TensorBoard")
    return found.SummaryWriter(str(folder))
