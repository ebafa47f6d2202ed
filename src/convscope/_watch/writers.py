"""``Frames``: a picture of each moment in a folder, and an animation of them all."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from convscope._errors import UsageError
from convscope._layers import figure_name, file_name
from convscope._plot import Sheet
from convscope._plot.colors import BACKGROUND
from convscope._plot.output import write
from convscope._watch.frame import Frame, Span, Style

_WHOLE, _LEAST, _MOST = 8.0, 0.1, 0.6  # seconds: of an animation, and of each frame
_LAST = 2.0  # seconds that the last frame stands


class Frames:
    """Writes ``digit.conv1.0003.png`` into ``folder``, and at the end ``digit.conv1.webp``.

    Beside each picture its numbers stand as ``.npz``: at the end, when the range of all frames is
    known, every picture is drawn once more on that range, so that frames can be compared. A step
    that is written again, as after an interruption, replaces the frames from there on.

    - ``seconds``: for each frame; by default so many that the animation lasts about 8.
    - ``most``: frames in an animation; of more, evenly spaced ones are taken.
    """

    def __init__(
        self, folder: str | Path, *, seconds: float | None = None, most: int = 120
    ) -> None:
        if most < 1 or (seconds is not None and seconds <= 0):
            raise UsageError(
                f"An animation needs most=1 or more and seconds above 0, not {most} and {seconds}"
            )
        self.folder = Path(folder)
        self.animations: tuple[Path, ...] = ()
        self._seconds = seconds
        self._most = most
        self._strips: dict[str, _Strip] = {}

    def __repr__(self) -> str:
        return f"Frames({str(self.folder)!r})"

    def write(self, frame: Frame, style: Style) -> None:
        """Draw one frame, on the range of the frames so far."""
        if frame.layer not in self._strips:
            self._strips[frame.layer] = _Strip(self.folder, frame)
        self._strips[frame.layer].add(frame, style)

    def close(self) -> None:
        """Draw every frame on one range, and write the animations."""
        found = [strip.finish(self._most, self._seconds) for strip in self._strips.values()]
        self.animations = tuple(found)


class _Strip:
    """The frames of one layer, in the order of their steps."""

    def __init__(self, folder: Path, first: Frame) -> None:
        self._folder = folder
        self._image, self._layer = first.image, first.layer
        self._spans: dict[int, Span] = {}
        self._style = Style()
        for step in self._on_disk():
            past = _read(self._path(step, ".npz")) if step < first.step else None
            if past is not None and past.channels == first.channels:
                self._spans[step] = past.span
            else:
                self._forget(step)

    def _forget(self, step: int) -> None:
        """Remove a frame that is of another run."""
        self._spans.pop(step, None)
        for suffix in (".npz", ".png"):
            self._path(step, suffix).unlink(missing_ok=True)

    def _path(self, step: int, suffix: str) -> Path:
        return self._folder / figure_name(self._image, f"{self._layer}.{step:04d}", suffix)

    def _on_disk(self) -> list[int]:
        """The steps whose numbers are there."""
        stem = re.escape(f"{file_name(Path(self._image).stem)}.{file_name(self._layer)}.")
        names = (path.name for path in self._folder.glob("*.npz"))
        return sorted(
            int(m[1]) for name in names if (m := re.fullmatch(stem + r"(\d+)\.npz", name))
        )

    def add(self, frame: Frame, style: Style) -> None:
        """Write the numbers and the picture; whatever is there of later steps is out of date."""
        for step in [step for step in self._spans if step > frame.step]:
            self._forget(step)
        self._style = style
        self._spans[frame.step] = frame.span
        frame.save(self._path(frame.step, ".npz"))
        self._sheet(frame, "so far").save(self._path(frame.step, ".png"))

    def _sheet(self, frame: Frame, when: str) -> Sheet:
        spans = list(self._spans.values())
        whole = spans[0]
        for span in spans[1:]:
            whole |= span
        number = f"the {len(spans)} frames" if len(spans) > 1 else "this frame"
        return frame.sheet(self._style, whole, f"in {number} {when}".strip())

    def finish(self, most: int, seconds: float | None) -> Path:
        """Draw all frames on the range of all; the path of the animation."""
        steps = sorted(self._spans)
        places = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
        animated = {steps[place] for place in places}
        images = []
        for step in steps:
            sheet = self._sheet(Frame.load(self._path(step, ".npz")), "")
            sheet.save(self._path(step, ".png"))
            if step in animated:
                images.append(sheet.image)
        path = self._folder / figure_name(self._image, self._layer, ".webp")
        return write(path, lambda: animation(images, seconds))


def _read(path: Path) -> Frame | None:
    """The frame that was written to ``path``; ``None`` where it is damaged."""
    try:
        return Frame.load(path)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def animation(images: Sequence[Image.Image], seconds: float | None = None) -> bytes:
    """An endless animated WebP, lossless; of palette images that may differ in size."""
    size = max(image.width for image in images), max(image.height for image in images)
    frames = [_on_canvas(image, size) for image in images]
    each = seconds or min(max(_WHOLE / len(frames), _LEAST), _MOST)
    durations = [round(1000 * each)] * (len(frames) - 1) + [round(1000 * max(each, _LAST))]
    file = io.BytesIO()
    frames[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        lossless=True,
        quality=30,
        method=0,
    )
    return file.getvalue()


def _on_canvas(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at the lower left: the tiles stay in place where a legend has one line less."""
    if image.size == size:
        return image
    canvas = Image.new("P", size, BACKGROUND)
    canvas.putpalette(image.getpalette() or [])
    canvas.paste(image, (0, size[1] - image.height))
    return canvas
