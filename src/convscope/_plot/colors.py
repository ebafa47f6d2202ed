"""Color tables, themes, and the 256 palette entries every figure is made of.

A figure is an array of palette indices until the very end, so that a 128-map grid is written as an
8-bit palette PNG and never expanded to RGB. The 256 entries are shared out once, here:

    0 … 240     the color map; an odd number, so that 120 is exactly its middle (zero, if signed)
    241 … 251   background → text in ten steps: anti-aliased text, frames, hatching
    252 … 255   NaN, +inf, −inf, spare
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError, closest

Theme = Literal["light", "dark"]
RGB = tuple[int, int, int]

LEVELS = 241
MIDDLE = 120
BACKGROUND = 241
INK_STEPS = 10
TEXT = BACKGROUND + INK_STEPS
FLAT = BACKGROUND + 2
NAN, POS_INF, NEG_INF = 252, 253, 254

# ``colors.json`` is the one place of the colors; the app reads it too. Its color maps are 256 RGB
# triples each, base64. viridis and magma: Smith, van der Walt and Firing (CC0), as in matplotlib.
# signed: ours; blue – near-white – red along straight lines of CIE lightness (96 in the middle, 28
# at both ends), so equal magnitudes look equally strong, in gray print and with red-green blindness
# too. Its marks are far from every color of every map (a test measures it), and from one another.
COLORS_JSON = files("convscope._plot").joinpath("colors.json").read_text("utf-8")
_COLORS: dict[str, Any] = json.loads(COLORS_JSON)


def _rgb(values: list[int]) -> RGB:
    red, green, blue = values
    return red, green, blue


RESERVED: Mapping[int, RGB] = MappingProxyType(
    {
        index: _rgb(_COLORS["marks"][name])
        for index, name in ((NAN, "nan"), (POS_INF, "+inf"), (NEG_INF, "-inf"))
    }
)
THEMES: Mapping[str, tuple[RGB, RGB]] = MappingProxyType(
    {
        name: (_rgb(theme["background"]), _rgb(theme["text"]))
        for name, theme in _COLORS["themes"].items()
    }
)


def _unpack(lines: list[str]) -> NDArray[np.uint8]:
    """A color map; what ``frombuffer`` returns cannot be written to."""
    return np.frombuffer(base64.b64decode("".join(lines)), np.uint8).reshape(256, 3)


TABLES: Mapping[str, NDArray[np.uint8]] = MappingProxyType(
    {name: _unpack(lines) for name, lines in _COLORS["maps"].items()}
)


def known(kind: str, name: str, names: Mapping[str, object]) -> str:
    """``name`` itself where it is one of ``names``; else the error that lists them."""
    if name in names:
        return name
    raise UsageError(f"No {kind} {name!r}.{closest(name, names)} Known: {', '.join(names)}")


def table(cmap: str, levels: int = 256) -> NDArray[np.uint8]:
    """Look up a color map.

    Args:
        cmap: ``viridis``, ``magma``, ``gray`` or ``signed``.
        levels: Number of colors; resampled where it is not 256.

    Returns:
        uint8 ``(levels, 3)``, RGB.

    Raises:
        UsageError: Where there is no such color map.
    """
    colors = TABLES[known("color map", cmap, TABLES)]
    if levels == 256:
        return colors
    at = np.linspace(0, 255, levels)
    columns = [np.interp(at, np.arange(256), colors[:, c]) for c in range(3)]
    return np.rint(np.stack(columns, axis=1)).astype(np.uint8)


def palette(cmap: str, theme: str) -> NDArray[np.uint8]:
    """Build the palette of a figure; the module's docstring says which entry is which.

    Args:
        cmap: Name of the color map.
        theme: ``"light"`` or ``"dark"``.

    Returns:
        All 256 entries, uint8 ``(256, 3)``, RGB.

    Raises:
        UsageError: Where there is no such color map or theme.
    """
    paper, ink = THEMES[known("theme", theme, THEMES)]
    entries = np.zeros((256, 3), np.uint8)
    entries[:LEVELS] = table(cmap, LEVELS)
    steps = np.linspace(np.array(paper), np.array(ink), INK_STEPS + 1)
    entries[BACKGROUND : TEXT + 1] = np.rint(steps)
    for index, color in RESERVED.items():
        entries[index] = color
    return entries


def contrast(one: RGB, other: RGB) -> float:
    """The WCAG contrast ratio of two colors, 1 … 21."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(color: RGB) -> float:
    parts = [c / 255 for c in color]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
