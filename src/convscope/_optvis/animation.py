"""Frames of an optimization, and their animation."""

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
from convscope._plot import Section, Sheet, Tile, image_tile, map_tiles

MAX_FRAMES, MAX_SIDE = 40, 512  # of one image; the longest side they are kept at
_MEMORY = 256 << 20  # bytes for the frames of all images together
_FILE_SIZE = 8 << 20  # bytes of an animation
_FIRST, _EACH, _LAST = 0.6, 0.12, 2.5  # seconds


@dataclass(frozen=True, eq=False)
class AnimationFrame:
    """The image after ``step`` steps: ``pixels`` uint8 ``(C, H, W)``, reduced where it is large."""

    step: int
    pixels: NDArray[np.uint8]

    @property
    def label(self) -> str:
        return f"step {self.step}" if self.step else "start"


class FrameRecorder:
    """Keeps frames of an optimization, to be called after every step.

    Args:
        steps: Number of steps of one image.
        images: Number of images, which share the memory.
        easing: 1 for frames at equal steps, 2 for denser ones at the beginning.
    """

    def __init__(self, steps: int, images: int = 1, *, easing: float = 1.0) -> None:
        self._frames: dict[tuple[str, int], list[AnimationFrame]] = {}
        self._done = 0
        count = max(2, min(MAX_FRAMES, steps + 1, _MEMORY // (images * 3 * MAX_SIDE**2)))
        positions = np.linspace(0, 1, count) ** easing * steps
        self._recorded_steps = {int(position) for position in np.ceil(positions)}

    def start(self, names: Sequence[str], images: Tensor) -> None:
        """Record images before their first step; ``names`` as in ``OptimizationStep.names``."""
        self._done = 0
        for name in names:
            for key in [key for key in self._frames if key[0] == name]:
                del self._frames[key]
        self._record(names, images)

    def __call__(self, step: OptimizationStep) -> None:
        """Count a step of the images that were started last."""
        self._done += 1
        if self._done in self._recorded_steps:
            self._record(step.names, step.images())

    def _record(self, names: Sequence[str], images: Tensor) -> None:
        each = len(images) // len(names)
        for k, pixels in enumerate(to_uint8(images)):
            key = (names[k // each], k % each)
            self._frames.setdefault(key, []).append(AnimationFrame(self._done, pixels))

    def frames(self, name: str, index: int = 0) -> tuple[AnimationFrame, ...]:
        """The frames of one image."""
        return tuple(self._frames.get((name, index), ()))


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Convert images 0…1 ``(N, C, H, W)`` to uint8, reduced to ``MAX_SIDE``."""
    height, width = images.shape[-2:]
    factor = MAX_SIDE / max(height, width)
    if factor < 1:
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    pixels: NDArray[np.uint8] = (images.detach().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels


def image_tiles(pixels: NDArray[np.uint8], label: str, note: str = "") -> list[Tile]:
    """Tiles of an image ``(C, H, W)``: one, or one per channel where it has neither 1 nor 3."""
    if len(pixels) in (1, 3):
        drawn = np.ascontiguousarray(pixels.transpose(1, 2, 0)) if len(pixels) == 3 else pixels[0]
        return [image_tile(drawn, label, note)]
    names = [f"{label}, channel {k}" for k in range(len(pixels))]
    return map_tiles(pixels.astype(np.float32) / 255, range=(0.0, 1.0), labels=names)


def animation(images: Iterable[Image.Image]) -> bytes:
    """Encode an endless animated WebP of at most 8 MB; its first and last frames stay longer.

    Where it would be larger, quality is reduced, then the number of frames.
    """
    frames = [image.convert("RGB") for image in images]
    quality = 82
    while True:
        content = _encoded(frames, quality)
        if len(content) <= _FILE_SIZE or (len(frames) <= 2 and quality <= 40):
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


_MAX_PREVIEWS = 64  # images in one preview


class Preview:
    """Writes the current images to a file after the first step, then every few seconds.

    The file is replaced as a whole, so that a viewer never shows half of it.

    Args:
        file: The figure to write.
        title_line: A line for the figure, such as the model's name.
        interval: Seconds between two writes.
    """

    def __init__(self, file: str | Path, title_line: str = "", interval: float = 2.0) -> None:
        self.file, self._title_line, self._interval = Path(file), title_line, interval
        self._last = -interval

    def __call__(self, step: OptimizationStep) -> None:
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        images = step.images()
        each = max(1, len(images) // len(step.names))
        tiles = [
            tile
            for k, pixels in enumerate(to_uint8(images[:_MAX_PREVIEWS]))
            for tile in image_tiles(pixels, step.names[k // each])
        ]
        more = len(images) - _MAX_PREVIEWS
        lines = [self._title_line, f"{step.done / step.total:.0%} of all steps"]
        lines += [f"{more} more images"] if more > 0 else []
        section = Section("", tuple(tiles))
        Sheet(
            "optimization in progress",
            tuple(filter(None, lines)),
            (section,),
            cmap="gray",
            cell=128,
        ).save(self.file)
        self._last = time.monotonic()
