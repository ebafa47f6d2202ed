"""Moments of an ascent, and the animation they make."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convscope._optvis.optimizer import OptimizationStep
from convscope._plot import Section, Sheet, Tile, map_tiles, picture_tile

MOST, SIDE = 40, 512  # moments of a picture, and the longest side they are kept at
_ROOM = 256 << 20  # bytes for the moments of all pictures together
_FILE = 8 << 20  # bytes of an animation
_FIRST, _EACH, _LAST = 0.6, 0.12, 2.5  # seconds


@dataclass(frozen=True, eq=False)
class AnimationFrame:
    """A picture after ``step`` steps: ``pixels`` uint8 ``(C, H, W)``, reduced where it is large."""

    step: int
    pixels: NDArray[np.uint8]

    @property
    def label(self) -> str:
        return f"step {self.step}" if self.step else "start"


class FrameRecorder:
    """Keeps moments of a climb: the start, then evenly or, with ``easing`` 2, denser at first.

    - ``steps``: of one picture; ``pictures``: how many there will be, which share the memory
    """

    def __init__(self, steps: int, pictures: int = 1, *, easing: float = 1.0) -> None:
        self._strips: dict[tuple[str, int], list[AnimationFrame]] = {}
        self._done = 0
        count = max(2, min(MOST, steps + 1, _ROOM // (pictures * 3 * SIDE**2)))
        places = np.linspace(0, 1, count) ** easing * steps
        self._wanted = {int(place) for place in np.ceil(places)}

    def start(self, names: Sequence[str], pictures: Tensor) -> None:
        """The pictures before their first step; ``names``: as in ``OptimizationStep.units``."""
        self._done = 0
        for name in names:
            for key in [key for key in self._strips if key[0] == name]:
                del self._strips[key]
        self._keep(names, pictures)

    def __call__(self, step: OptimizationStep) -> None:
        """Another step of the pictures that were started last."""
        self._done += 1
        if self._done in self._wanted:
            self._keep(step.units, step.images())

    def _keep(self, names: Sequence[str], pictures: Tensor) -> None:
        each = len(pictures) // len(names)
        for k, pixels in enumerate(to_uint8(pictures)):
            key = (names[k // each], k % each)
            self._strips.setdefault(key, []).append(AnimationFrame(self._done, pixels))

    def of(self, name: str, index: int = 0) -> tuple[AnimationFrame, ...]:
        """What was kept of one picture."""
        return tuple(self._strips.get((name, index), ()))


def to_uint8(pictures: Tensor) -> NDArray[np.uint8]:
    """Pictures 0…1 ``(N, C, H, W)`` as uint8, reduced where they are larger than ``SIDE``."""
    height, width = pictures.shape[-2:]
    factor = SIDE / max(height, width)
    if factor < 1:
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
    pixels: NDArray[np.uint8] = (pictures.detach().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels


def image_tiles(pixels: NDArray[np.uint8], label: str, note: str = "") -> list[Tile]:
    """A picture ``(C, H, W)`` as tiles: one, or one a channel where it has neither 1 nor 3."""
    if len(pixels) in (1, 3):
        shown = np.ascontiguousarray(pixels.transpose(1, 2, 0)) if len(pixels) == 3 else pixels[0]
        return [picture_tile(shown, label, note)]
    names = [f"{label}, channel {k}" for k in range(len(pixels))]
    return map_tiles(pixels.astype(np.float32) / 255, range=(0.0, 1.0), labels=names)


def animation(images: Iterable[Image.Image]) -> bytes:
    """An endless animated WebP of at most 8 MB that holds its first image a little, its last long.

    Where it would be larger, it gets coarser, and then shorter.
    """
    frames = [image.convert("RGB") for image in images]
    quality = 82
    while True:
        content = _encoded(frames, quality)
        if len(content) <= _FILE or (len(frames) <= 2 and quality <= 40):
            return content
        if quality > 40:
            quality -= 21
        else:
            frames = [*frames[:-1:2], frames[-1]]


def _encoded(frames: Sequence[Image.Image], quality: int) -> bytes:
    seconds = [_EACH] * len(frames)
    seconds[0], seconds[-1] = _FIRST, _LAST
    file = io.BytesIO()
    frames[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        loop=0,
        quality=quality,
        method=2,
        duration=[round(1000 * one) for one in seconds],
    )
    return file.getvalue()


_MOST = 64  # pictures in one preview


class Preview:
    """Writes the pictures of the moment to ``file``: after the first step, then every few seconds.

    Give it as ``on_step``; ``about`` is a line that says whose pictures they are. The file is
    replaced in one go: a viewer that follows it never sees half a picture.
    """

    def __init__(self, file: str | Path, about: str = "", every: float = 2.0) -> None:
        self.file, self._about, self._every = Path(file), about, every
        self._last = -every

    def __call__(self, step: OptimizationStep) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        pictures = step.images()
        each = max(1, len(pictures) // len(step.units))
        tiles = [
            tile
            for k, pixels in enumerate(to_uint8(pictures[:_MOST]))
            for tile in image_tiles(pixels, step.units[k // each])
        ]
        more = len(pictures) - _MOST
        lines = [self._about, f"{step.done / step.of:.0%} of all steps"]
        lines += [f"{more} more pictures"] if more > 0 else []
        section = Section("", tuple(tiles))
        Sheet("on the way up", tuple(filter(None, lines)), (section,), cmap="gray", cell=128).save(
            self.file
        )
        self._last = time.monotonic()
