"""Text: the font, its measures, anti-aliased masks, and how a long text is made to fit."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ELLIPSIS = "…"
SEPARATOR = "·"
# What Pillow's built-in font lacks, for the day matplotlib's DejaVu Sans is not there.
_PLAIN = str.maketrans({"×": "x", "–": "-", "−": "-", "→": ">", "±": "+", "’": "'", "≤": "<"})


class Style(NamedTuple):
    """How a kind of text looks: size in pixels, weight, and strength of its ink (0 … 1)."""

    size: int
    bold: bool = False
    ink: float = 1.0


STYLES = {
    "title": Style(17, bold=True),
    "line": Style(12, ink=0.74),
    "heading": Style(13, bold=True),
    "detail": Style(11, ink=0.74),
    "legend": Style(11, ink=0.9),
    "label": Style(10),
    "note": Style(9, ink=0.74),
}


@lru_cache(maxsize=32)
def _font(size: int, bold: bool) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """The font, and whether it holds all our signs."""
    # find_spec does not import matplotlib; its data folder holds DejaVu Sans, which has × – … − ·.
    found = importlib.util.find_spec("matplotlib")
    if found and found.origin:
        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
        if path.exists():
            return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC), True
    return ImageFont.load_default(size), False


def _spelled(text: str, style: str) -> str:
    text = " ".join(text.split())
    return text if _font(*STYLES[style][:2])[1] else text.translate(_PLAIN)


@lru_cache(maxsize=16384)
def width(text: str, style: str) -> int:
    """Pixels across."""
    font = _font(*STYLES[style][:2])[0]
    return math.ceil(font.getlength(_spelled(text, style)))


@lru_cache(maxsize=32)
def heights(style: str) -> tuple[int, int]:
    """Pixels above and below the baseline."""
    font = _font(*STYLES[style][:2])[0]
    if isinstance(font, ImageFont.FreeTypeFont):
        above, below = font.getmetrics()
        return int(above), int(below)
    return STYLES[style].size, 3


def height(style: str) -> int:
    """Pixels from the top of one line to the top of the next."""
    return sum(heights(style))


@lru_cache(maxsize=16384)
def mask(text: str, style: str) -> NDArray[np.uint8]:
    """Ink of ``text``: ``(height, width)``, 0 … 10 steps from background to text color."""
    above, below = heights(style)
    sheet = Image.new("L", (max(1, width(text, style)), above + below))
    font = _font(*STYLES[style][:2])[0]
    anchor = "ls" if isinstance(font, ImageFont.FreeTypeFont) else None
    at = (0, above) if anchor else (0, 0)
    ImageDraw.Draw(sheet).text(at, _spelled(text, style), 255, font=font, anchor=anchor)
    steps = np.asarray(sheet, np.float32) * (STYLES[style].ink * 10 / 255)
    ink: NDArray[np.uint8] = np.rint(steps).astype(np.uint8)
    ink.flags.writeable = False
    return ink


def fit(text: str, style: str, room: int) -> str:
    """``text`` itself where it fits into ``room`` pixels, else with its middle left out."""
    if width(text, style) <= room:
        return text
    low, high = 0, len(text)
    while low < high:  # the largest number of characters that fit
        count = (low + high + 1) // 2
        low, high = (count, high) if _width_cut(text, count, style) <= room else (low, count - 1)
    return _cut(text, low) if low else (ELLIPSIS if width(ELLIPSIS, style) <= room else "")


def _cut(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    tail = kept - head
    return text[:head].rstrip() + ELLIPSIS + (text[len(text) - tail :].lstrip() if tail else "")


def _width_cut(text: str, kept: int, style: str) -> int:
    return width(_cut(text, kept), style)


def wrap(text: str, style: str, room: int, max_lines: int = 4) -> list[str]:
    """``text`` in at most ``max_lines`` lines of ``room`` pixels; what is too long is fitted."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < max_lines - 1:
        count = _words_that_fit(words, style, room)
        lines.append(fit(" ".join(words[:count]), style, room))
        words = words[count:]
        if words and words[0] == SEPARATOR:  # the line's end does its work
            words = words[1:]
    return [*lines, fit(" ".join(words), style, room)] if words else lines


def _words_that_fit(words: Sequence[str], style: str, room: int) -> int:
    count = 1
    while count < len(words) and width(" ".join(words[: count + 1]), style) <= room:
        count += 1
    if count == len(words) or SEPARATOR not in words[1:count]:
        return count
    # "input cat.jpg" stays together, unless that would leave more than half of the line empty
    clause = count - words[count - 1 :: -1].index(SEPARATOR) - 1
    whole = width(" ".join(words[:clause]), style) >= room / 2
    return clause if whole and words[count] != SEPARATOR else count


def number(value: float) -> str:
    """Three digits, a true minus sign, no needless zeros: ``0.31``, ``−1.2``, ``4.1e−5``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    text = f"{value + 0.0:.3g}"  # no "−0"
    if "e+0" in text and abs(value) < 1e6:
        text = f"{value:.0f}"
    mantissa, _, exponent = text.partition("e")
    if exponent:
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


def span(low: float, high: float) -> str:
    """``low…high``."""
    return f"{number(low)}{ELLIPSIS}{number(high)}"
