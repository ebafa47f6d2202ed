"""Where the frames of a watch go: a folder with an animation, or TensorBoard."""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import BadZipFile

import numpy as np

from convscope._errors import UsageError, import_optional
from convscope._io import write_bytes
from convscope._layers import figure_name, file_name
from convscope._plot import Sheet
from convscope._plot.animation import animated_webp
from convscope._watch.frames import FrameStyle, ValueRange, WatchFrame

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# seconds: of a whole animation, and of each frame at least, at most and at the end
_WHOLE, _SHORTEST, _LONGEST, _LAST = 8.0, 0.1, 0.6, 2.0


class FrameWriter(Protocol):
    """Where frames go."""

    def write(self, frame: WatchFrame, style: FrameStyle) -> None:
        """Write a frame.

        Args:
            frame: The maps of one layer at one step.
            style: How they are drawn.
        """

    def close(self) -> None:
        """Finish what depends on all frames; ``write`` may be called again afterwards."""


class Frames:
    """Writes ``digit.conv1.0003.png`` into a folder, and at the end ``digit.conv1.webp``.

    The values of each figure are written beside it as ``.npz``: at the end, when the range of all
    frames is known, every figure is drawn again on that range, so that frames can be compared. A
    step that is written again, as after an interruption, replaces the frames from there on.

    Attributes:
        folder: Where the files are written.
        animations: The animations, once ``close`` has written them.
    """

    def __init__(
        self, folder: str | Path, *, seconds: float | None = None, max_frames: int = 120
    ) -> None:
        """Name the folder, and how its animations run.

        Args:
            folder: Where to write.
            seconds: Time of each frame; by default such that an animation lasts about 8 seconds.
            max_frames: The largest number of frames in an animation; of more, evenly spaced ones
                are taken.

        Raises:
            UsageError: ``seconds`` or ``max_frames`` is not positive.
        """
        if max_frames < 1 or (seconds is not None and seconds <= 0):
            raise UsageError(
                "An animation needs max_frames=1 or more and seconds above 0, not "
                f"{max_frames} and {seconds}"
            )
        self.folder = Path(folder)
        self.animations: tuple[Path, ...] = ()
        self._seconds = seconds
        self._max_frames = max_frames
        self._layers: dict[str, _LayerFrames] = {}

    def __repr__(self) -> str:
        return f"Frames({str(self.folder)!r})"

    def write(self, frame: WatchFrame, style: FrameStyle) -> None:
        """Draw a frame, on the range of the frames so far.

        Args:
            frame: The maps of one layer at one step.
            style: How they are drawn.
        """
        if frame.layer not in self._layers:
            self._layers[frame.layer] = _LayerFrames(self.folder, frame)
        self._layers[frame.layer].add(frame, style)

    def close(self) -> None:
        """Draw every frame on the range of all, and write the animations."""
        layers = self._layers.values()
        self.animations = tuple(one.finish(self._max_frames, self._seconds) for one in layers)


class _LayerFrames:
    """The frames of one layer, by step."""

    def __init__(self, folder: Path, first: WatchFrame) -> None:
        self._folder = folder
        self._image, self._layer = first.image, first.layer
        self._ranges: dict[int, ValueRange] = {}
        self._style = FrameStyle()
        for step in self._steps_on_disk():
            past = _load(self._path(step, ".npz")) if step < first.step else None
            if past is not None and past.channels == first.channels:
                self._ranges[step] = past.value_range
            else:
                self._remove(step)

    def _remove(self, step: int) -> None:
        """Remove a frame of another run."""
        self._ranges.pop(step, None)
        for suffix in (".npz", ".png"):
            self._path(step, suffix).unlink(missing_ok=True)

    def _path(self, step: int, suffix: str) -> Path:
        return self._folder / figure_name(self._image, f"{self._layer}.{step:04d}", suffix)

    def _steps_on_disk(self) -> list[int]:
        stem = re.escape(f"{file_name(Path(self._image).stem)}.{file_name(self._layer)}.")
        names = (path.name for path in self._folder.glob("*.npz"))
        return sorted(
            int(m[1]) for name in names if (m := re.fullmatch(stem + r"(\d+)\.npz", name))
        )

    def add(self, frame: WatchFrame, style: FrameStyle) -> None:
        """Write values and figure; files of later steps are out of date."""
        for step in [step for step in self._ranges if step > frame.step]:
            self._remove(step)
        self._style = style
        self._ranges[frame.step] = frame.value_range
        frame.save(self._path(frame.step, ".npz"))
        self._sheet(frame, "so far").save(self._path(frame.step, ".png"))

    def _sheet(self, frame: WatchFrame, when: str) -> Sheet:
        value_range = reduce(or_, self._ranges.values())
        frames = f"the {len(self._ranges)} frames" if len(self._ranges) > 1 else "this frame"
        return frame.sheet(self._style, value_range, f"in {frames} {when}".strip())

    def finish(self, max_frames: int, seconds: float | None) -> Path:
        """Draw all frames on the range of all; return the path of the animation."""
        steps = sorted(self._ranges)
        spaced = np.linspace(0, len(steps) - 1, min(max_frames, len(steps))).round().astype(int)
        animated = {steps[k] for k in spaced}
        images = []
        for step in steps:
            sheet = self._sheet(WatchFrame.load(self._path(step, ".npz")), "")
            sheet.save(self._path(step, ".png"))
            if step in animated:
                images.append(sheet.image)
        each = seconds or min(max(_WHOLE / len(images), _SHORTEST), _LONGEST)
        durations = [each] * (len(images) - 1) + [max(each, _LAST)]
        content = animated_webp(images, [round(1000 * duration) for duration in durations])
        return write_bytes(self._folder / figure_name(self._image, self._layer, ".webp"), content)


def _load(path: Path) -> WatchFrame | None:
    """The frame that was written to ``path``; ``None`` where it is damaged."""
    try:
        return WatchFrame.load(path)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


class TensorBoard:
    """Writes each frame to TensorBoard, as an image under ``digit.png/conv1``.

    Colors span the frames so far.
    """

    def __init__(self, run: str | Path | SummaryWriter) -> None:
        """Name the run.

        Args:
            run: A folder for event files, or an open ``SummaryWriter``, which is left open.

        Raises:
            MissingDependency: TensorBoard is not installed.
            UsageError: ``run`` is neither.
        """
        self._owned = isinstance(run, (str, Path))
        if not self._owned and not callable(getattr(run, "add_image", None)):
            raise UsageError(f"TensorBoard takes a folder or a SummaryWriter, not {run!r}")
        self._writer: Any = run
        if self._owned:
            module = import_optional("torch.utils.tensorboard", "tensorboard", "cs.TensorBoard")
            self._writer = module.SummaryWriter(str(run))
        self._ranges: dict[str, ValueRange] = {}

    def __repr__(self) -> str:
        return f"TensorBoard({self._writer.log_dir!r})"

    def write(self, frame: WatchFrame, style: FrameStyle) -> None:
        """Add a frame.

        Args:
            frame: The maps of one layer at one step.
            style: How they are drawn.
        """
        tag = f"{frame.image}/{frame.layer}"
        own, past = frame.value_range, self._ranges.get(tag)
        value_range = self._ranges[tag] = own if past is None else past | own
        count = value_range.frames
        frames = f"the {count} frames so far" if count > 1 else "this frame"
        image = frame.sheet(style, value_range, f"in {frames}").image
        pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(tag, pixels, frame.step, dataformats="HWC")

    def close(self) -> None:
        """Write everything to disk."""
        self._writer.close() if self._owned else self._writer.flush()
