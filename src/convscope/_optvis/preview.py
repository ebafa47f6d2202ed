"""What a climb looks like while it goes on, in a file."""

from __future__ import annotations

import time
from pathlib import Path

from convscope._optvis.climb import Step
from convscope._optvis.moving import eight_bits, tiles_of
from convscope._plot import Section, Sheet

_MOST = 64  # pictures in one preview


class Preview:
    """Writes the pictures of the moment to ``file``: after the first step, then every few seconds.

    Give it as ``on_step``; ``about`` is a line that says whose pictures they are. The file is
    replaced in one go: a viewer that follows it never sees half a picture.
    """

    def __init__(self, file: str | Path, about: str = "", every: float = 2.0) -> None:
        self.file, self._about, self._every = Path(file), about, every
        self._last = -every

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        pictures = step.images()
        each = max(1, len(pictures) // len(step.units))
        tiles = [
            tile
            for k, pixels in enumerate(eight_bits(pictures[:_MOST]))
            for tile in tiles_of(pixels, step.units[k // each])
        ]
        more = len(pictures) - _MOST
        lines = [self._about, f"{step.done / step.of:.0%} of all steps"]
        lines += [f"{more} more pictures"] if more > 0 else []
        section = Section("", tuple(tiles))
        Sheet("on the way up", tuple(filter(None, lines)), (section,), cmap="gray", cell=128).save(
            self.file
        )
        self._last = time.monotonic()
