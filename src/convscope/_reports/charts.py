"""Small charts as inline SVG, in the page's colors: bars, a histogram, lines, dots, a heat map.

Each is an image to a screen reader, with a title; its numbers belong beside it, in words or tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._plot import table as color_table
from convscope._plot.text import number
from convscope._reports.markup import Html, tag

_LETTER = 6.6  # pixels a letter takes at 12 px, on the wide side
_TOP, _RIGHT, _BOTTOM = 10, 14, 40
_LONGEST = 30  # letters of a name


class Scale:
    """Numbers → pixels, with round ticks."""

    def __init__(self, low: float, high: float, start: float, stop: float, most: int = 5) -> None:
        if not high > low:
            low, high = low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)
        self.low, self.high, self.start, self.stop = low, high, start, stop
        self.ticks = ticks(low, high, most)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 2)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def histogram(
    edges: ArrayLike,
    counts: ArrayLike,
    title: str,
    *,
    x: str,
    y: str = "positions",
    marks: Sequence[tuple[float, str]] = (),
    size: tuple[int, int] = (340, 190),
) -> Html:
    """Counts between edges; ``marks`` are dashed lines with a name at a value of x."""
    ends, heights = np.asarray(edges, float), np.asarray(counts, float)
    reach = [*ends[[0, -1]].tolist(), *(at for at, _ in marks)]
    across = Scale(min(reach), max(reach), 52, size[0] - _RIGHT, 4)
    up = Scale(0, float(heights.max(initial=0)) or 1, size[1] - _BOTTOM, _TOP + 8, 3)
    bars = [
        tag(
            "rect",
            x=across(left),
            y=up(height),
            class_="bar",
            width=round(max(across(right) - across(left) - 0.5, 0.7), 2),
            height=round(up(0) - up(height), 2),
        )
        for left, right, height in zip(ends, ends[1:], heights, strict=False)
        if height
    ]
    drawn = [_marked(across(at), name, size) for at, name in marks]
    return _svg(title, size, [_frame(across, up, size, x, y), bars, drawn])


def dots(
    xs: ArrayLike, ys: ArrayLike, title: str, *, x: str, y: str, size: tuple[int, int] = (300, 240)
) -> Html:
    """One dot for each pair of values."""
    left, right = np.asarray(xs, float), np.asarray(ys, float)
    across = Scale(float(left.min()), float(left.max()), 58, size[0] - _RIGHT, 4)
    up = Scale(float(right.min()), float(right.max()), size[1] - _BOTTOM, _TOP, 4)
    places = dict.fromkeys((across(a), up(b)) for a, b in zip(left, right, strict=True))
    path = "".join(f"M{a} {b}h0" for a, b in places)  # one path: thousands of elements are slow
    drawn = tag(
        "path",
        d=path,
        class_="dots",
        stroke="var(--bar)",
        stroke_width="3.4",
        stroke_linecap="round",
        stroke_opacity=".7",
        fill="none",
    )
    return _svg(title, size, [_frame(across, up, size, x, y), drawn])


def lines(
    series: Sequence[tuple[str, ArrayLike, ArrayLike]],
    title: str,
    *,
    x: str,
    y: str,
    low: float | None = None,
    size: tuple[int, int] = (420, 240),
) -> Html:
    """Curves ``[(name, xs, ys), …]``, at most four; a legend where there are several."""
    curves = [(name, np.asarray(a, float), np.asarray(b, float)) for name, a, b in series]
    every_x = np.concatenate([a for _, a, _ in curves])
    every_y = np.concatenate([b for _, _, b in curves])
    bottom = float(np.nanmin(every_y)) if low is None else low
    top = _TOP + (18 if len(curves) > 1 else 0)
    across = Scale(float(every_x.min()), float(every_x.max()), 58, size[0] - _RIGHT)
    up = Scale(bottom, float(np.nanmax(every_y)), size[1] - _BOTTOM, top, 4)
    drawn = [
        tag("polyline", points=_points(across, up, a, b), class_=f"s{k % 4}")
        for k, (_, a, b) in enumerate(curves)
    ]
    names = _names([name for name, _, _ in curves]) if len(curves) > 1 else None
    return _svg(title, size, [_frame(across, up, size, x, y), drawn, names])


def _points(across: Scale, up: Scale, xs: NDArray[Any], ys: NDArray[Any]) -> str:
    return " ".join(f"{across(a)},{up(b)}" for a, b in zip(xs, ys, strict=True) if math.isfinite(b))


def _names(names: Sequence[str]) -> list[Html]:
    drawn, at = [], 58.0
    for k, name in enumerate(names):
        drawn += [
            tag("line", x1=at, x2=at + 20, y1=9, y2=9, class_=f"s{k % 4}"),
            tag("text", name, x=at + 25, y=13, class_="strong"),
        ]
        at += 25 + _LETTER * len(name) + 18
    return drawn


def bars(
    rows: Sequence[tuple[str, float, str]],
    title: str,
    *,
    x: str,
    high: float | None = None,
    strong: Sequence[int] = (),
    width: int = 420,
) -> Html:
    """Horizontal bars ``[(name, value, text at its end), …]``; all but ``strong`` are gray.

    Without ``strong`` all are in color.
    """
    letters = min(max(len(name) for name, _, _ in rows), _LONGEST)
    start = 10 + _LETTER * letters
    stop = width - 10 - _LETTER * max(len(text) for _, _, text in rows)
    values = [value for _, value, _ in rows if math.isfinite(value)]
    across = Scale(min(0.0, *values, 0.0), max(high or 0.0, *values, 0.0) or 1.0, start, stop, 3)
    drawn = [_bar(across, k, row, not strong or k in strong) for k, row in enumerate(rows)]
    down = 22 * len(rows) + 6
    axis = [
        tag("line", x1=across(0), x2=across(0), y1=2, y2=down, class_="axis"),
        tag("text", x, x=start, y=down + 15),
    ]
    return _svg(title, (width, down + 22), [drawn, axis])


def _bar(across: Scale, k: int, row: tuple[str, float, str], strong: bool) -> Html:
    name, value, text = row
    ends = sorted((across(0), across(value if math.isfinite(value) else 0)))
    y = 22 * k + 4
    return tag(
        "g",
        tag("text", _short(name), x=across.start - 8, y=y + 12, text_anchor="end", class_="strong"),
        tag(
            "rect",
            x=ends[0],
            y=y,
            width=round(ends[1] - ends[0], 2),
            height=15,
            class_="bar" if strong else "rest",
        ),
        tag("text", text, x=ends[1] + 6, y=y + 12),
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]


def heat_map(
    values: ArrayLike,
    names: Sequence[str],
    title: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    cmap: str = "viridis",
) -> Html:
    """A square table ``(n, n)`` in colors, rows from the top; hatching stands for no value.

    The legend says what the ends of the colors are; each cell says its value on hover.
    """
    cells = np.asarray(values, float)
    n = len(cells)
    side = max(9, min(30, 620 // n))
    letters = min(max(map(len, names)), _LONGEST)
    left = 14 + round(_LETTER * letters)
    below = side * n + _TOP
    colors = color_table(cmap)
    drawn = [
        _heat(
            colors,
            cells[i, j],
            left + side * j,
            _TOP + side * i,
            side,
            (low, high),
            f"{names[i]} × {names[j]}",
        )
        for i in range(n)
        for j in range(n)
    ]
    every = math.ceil(13 / side)  # names that would run into each other are left out
    rows = [
        tag(
            "text",
            _short(names[i]),
            x=left - 6,
            y=_TOP + side * i + side / 2 + 4,
            text_anchor="end",
        )
        for i in range(0, n, every)
    ]
    heads = [
        tag(
            "text",
            _short(names[j]),
            text_anchor="end",
            transform=f"translate({left + side * j + side / 2 + 4} {below + 8}) rotate(-60)",
        )
        for j in range(0, n, every)
    ]
    down = below + round(_LETTER * letters * 0.9) + 24
    width = max(left + side * n + _RIGHT, 250)
    legend = _legend(cmap, low, high, left, down)
    return _svg(title, (width, down + 34), [_HATCH, drawn, rows, heads, legend], fixed=True)


_HATCH = Html(
    '<defs><pattern id="none" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<path d="M0 5L5 0" class="axis"/></pattern></defs>'
)


def _heat(
    colors: NDArray[np.uint8],
    value: float,
    x: float,
    y: float,
    side: int,
    ends: tuple[float, float],
    name: str,
) -> Html:
    if not math.isfinite(value):
        return tag(
            "rect",
            tag("title", f"{name}: none"),
            x=x,
            y=y,
            width=side,
            height=side,
            fill="url(#none)",
        )
    share = min(max((value - ends[0]) / (ends[1] - ends[0]), 0), 1)
    fill = "#" + bytes(colors[round(255 * share)].tolist()).hex()
    return tag(
        "rect", tag("title", f"{name}: {value:.2f}"), x=x, y=y, width=side, height=side, fill=fill
    )


def _legend(cmap: str, low: float, high: float, left: float, y: float) -> list[Html]:
    steps = ["#" + bytes(rgb.tolist()).hex() for rgb in color_table(cmap, 48)]
    patches = [
        tag("rect", x=left + 3 * k, y=y, width=3.3, height=10, fill=fill)
        for k, fill in enumerate(steps)
    ]
    return [
        *patches,
        tag("text", number(low), x=left, y=y + 24),
        tag("text", number(high), x=left + 144, y=y + 24, text_anchor="end"),
    ]


def _frame(across: Scale, up: Scale, size: tuple[int, int], x: str, y: str) -> list[Html]:
    """Grid, ticks and names of the axes."""
    bottom = size[1] - _BOTTOM
    drawn = []
    for tick in up.ticks:
        drawn += [
            tag("line", x1=across.start, x2=across.stop, y1=up(tick), y2=up(tick), class_="grid"),
            tag("text", _brief(tick), x=across.start - 6, y=up(tick) + 4, text_anchor="end"),
        ]
    for tick in across.ticks:
        drawn.append(tag("text", _brief(tick), x=across(tick), y=bottom + 16, text_anchor="middle"))
    drawn.append(tag("line", x1=across.start, x2=across.stop, y1=bottom, y2=bottom, class_="axis"))
    middle = (across.start + across.stop) / 2
    drawn.append(tag("text", x, x=middle, y=size[1] - 6, text_anchor="middle"))
    high = (up.start + up.stop) / 2
    drawn.append(
        tag("text", y, text_anchor="middle", transform=f"translate(12 {high}) rotate(-90)")
    )
    return drawn


def _brief(value: float) -> str:
    """A tick in few letters: ``20k``, ``1.5M``."""
    for least, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{number(value / size)}{letter}"
    return number(value)


def _marked(x: float, name: str, size: tuple[int, int]) -> list[Html]:
    end = x > size[0] - 20 - _LETTER * len(name)
    return [
        tag("line", x1=x, x2=x, y1=_TOP, y2=size[1] - _BOTTOM, class_="mark"),
        tag(
            "text",
            name,
            x=x - 4 if end else x + 4,
            y=_TOP + 8,
            class_="mark",
            text_anchor="end" if end else "start",
        ),
    ]


def _svg(title: str, size: tuple[float, float], content: Any, *, fixed: bool = False) -> Html:
    width, height = round(size[0]), round(size[1])
    return tag(
        "svg",
        tag("title", title),
        content,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        class_="fixed" if fixed else None,
    )
