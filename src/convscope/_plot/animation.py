"""Animated WebP of sheets that may differ in size."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from convscope._plot.colors import BACKGROUND


def animated_webp(images: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Encode an endless, lossless animation.

    Args:
        images: Palette images. Smaller ones stand at the lower left, so that the tiles stay in
            place where a legend has one line less.
        milliseconds: How long each is shown.
    """
    size = max(image.width for image in images), max(image.height for image in images)
    first, *others = (_on_canvas(image, size) for image in images)
    file = io.BytesIO()
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=list(milliseconds),
        loop=0,
        lossless=True,
        quality=30,
        method=0,
    )
    return file.getvalue()


def _on_canvas(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    canvas = Image.new("P", size, BACKGROUND)
    canvas.putpalette(image.getpalette() or [])
    canvas.paste(image, (0, size[1] - image.height))
    return canvas
