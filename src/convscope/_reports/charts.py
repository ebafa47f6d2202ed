"""Small charts as inline SVG in the page's colors: histogram, scatter plot, curves, bars, heat map.

Each is an image to a screen reader, with a title; its values belong beside it, in words or tables.
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

_LETTER_WIDTH = 6.6  # pixels of a wide letter at 12 px
_TOP, _RIGHT, _BOTTOM = 10, 14, 40  # margins
_MAX_LETTERS = 30  # of a name


class Scale:
    """A linear scale from values to pixels, with round ticks."""

    def __init__(
        self, low: float, high: float, start: float, stop: float, max_ticks: int = 5
    ) -> None:
        if not high > low:
            low, high = low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)
        self.low, self.high, self.start, self.stop = low, high, start, stop
        self.ticks = ticks(low, high, max_ticks)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 2)


def ticks(low: float, high: float, limit: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``, in steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / limit
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
    """Return bars of counts between edges; ``marks`` are dashed lines with a name at a value."""
    ends, heights = np.asarray(edges, float), np.asarray(counts, float)
    extent = [*ends[[0, -1]].tolist(), *(value for value, _ in marks)]
    x_scale = Scale(min(extent), max(extent), 52, size[0] - _RIGHT, 4)
    y_scale = Scale(0, float(heights.max(initial=0)) or 1, size[1] - _BOTTOM, _TOP + 8, 3)
    rectangles = [
        tag(
            "rect",
            x=x_scale(left),
            y=y_scale(height),
            class_="bar",
            width=round(max(x_scale(right) - x_scale(left) - 0.5, 0.7), 2),
            height=round(y_scale(0) - y_scale(height), 2),
        )
        for left, right, height in zip(ends, ends[1:], heights, strict=False)
        if height
    ]
    mark_lines = [_mark(x_scale(value), name, size) for value, name in marks]
    return _svg(title, size, [_axes(x_scale, y_scale, size, x, y), rectangles, mark_lines])


def dots(
    xs: ArrayLike, ys: ArrayLike, title: str, *, x: str, y: str, size: tuple[int, int] = (300, 240)
) -> Html:
    """Return a scatter plot: one dot for each pair of values."""
    left, right = np.asarray(xs, float), np.asarray(ys, float)
    x_scale = Scale(float(left.min()), float(left.max()), 58, size[0] - _RIGHT, 4)
    y_scale = Scale(float(right.min()), float(right.max()), size[1] - _BOTTOM, _TOP, 4)
    points = dict.fromkeys((x_scale(a), y_scale(b)) for a, b in zip(left, right, strict=True))
    path = "".join(f"M{a} {b}h0" for a, b in points)  # one path: thousands of elements are slow
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
    return _svg(title, size, [_axes(x_scale, y_scale, size, x, y), drawn])


def lines(
    series: Sequence[tuple[str, ArrayLike, ArrayLike]],
    title: str,
    *,
    x: str,
    y: str,
    low: float | None = None,
    size: tuple[int, int] = (420, 240),
) -> Html:
    """Return at most four curves ``[(name, xs, ys), …]``, with a legend where there are several."""
    curves = [(name, np.asarray(a, float), np.asarray(b, float)) for name, a, b in series]
    every_x = np.concatenate([a for _, a, _ in curves])
    every_y = np.concatenate([b for _, _, b in curves])
    bottom = float(np.nanmin(every_y)) if low is None else low
    top = _TOP + (18 if len(curves) > 1 else 0)
    x_scale = Scale(float(every_x.min()), float(every_x.max()), 58, size[0] - _RIGHT)
    y_scale = Scale(bottom, float(np.nanmax(every_y)), size[1] - _BOTTOM, top, 4)
    drawn = [
        tag("polyline", points=_points(x_scale, y_scale, a, b), class_=f"s{k % 4}")
        for k, (_, a, b) in enumerate(curves)
    ]
    legend = _legend_of_curves([name for name, _, _ in curves]) if len(curves) > 1 else None
    return _svg(title, size, [_axes(x_scale, y_scale, size, x, y), drawn, legend])


def _points(x_scale: Scale, y_scale: Scale, xs: NDArray[Any], ys: NDArray[Any]) -> str:
    return " ".join(
        f"{x_scale(a)},{y_scale(b)}" for a, b in zip(xs, ys, strict=True) if math.isfinite(b)
    )


def _legend_of_curves(names: Sequence[str]) -> list[Html]:
    drawn, at = [], 58.0
    for k, name in enumerate(names):
        drawn += [
            tag("line", x1=at, x2=at + 20, y1=9, y2=9, class_=f"s{k % 4}"),
            tag("text", name, x=at + 25, y=13, class_="strong"),
        ]
        at += 25 + _LETTER_WIDTH * len(name) + 18
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
    """Return horizontal bars ``[(name, value, text at its end), …]``.

    Those whose index is not in ``strong`` are gray; without ``strong`` all are in color.
    """
    letters = min(max(len(name) for name, _, _ in rows), _MAX_LETTERS)
    start = 10 + _LETTER_WIDTH * letters
    stop = width - 10 - _LETTER_WIDTH * max(len(text) for _, _, text in rows)
    values = [value for _, value, _ in rows if math.isfinite(value)]
    x_scale = Scale(min(0.0, *values, 0.0), max(high or 0.0, *values, 0.0) or 1.0, start, stop, 3)
    drawn = [_bar(x_scale, k, row, not strong or k in strong) for k, row in enumerate(rows)]
    down = 22 * len(rows) + 6
    axis = [
        tag("line", x1=x_scale(0), x2=x_scale(0), y1=2, y2=down, class_="axis"),
        tag("text", x, x=start, y=down + 15),
    ]
    return _svg(title, (width, down + 22), [drawn, axis])


def _bar(x_scale: Scale, k: int, row: tuple[str, float, str], strong: bool) -> Html:
    name, value, text = row
    ends = sorted((x_scale(0), x_scale(value if math.isfinite(value) else 0)))
    y = 22 * k + 4
    return tag(
        "g",
        tag(
            "text",
            _shorten(name),
            x=x_scale.start - 8,
            y=y + 12,
            text_anchor="end",
            class_="strong",
        ),
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


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_LETTERS else "…" + name[1 - _MAX_LETTERS :]


def heat_map(
    values: ArrayLike,
    names: Sequence[str],
    title: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    cmap: str = "viridis",
) -> Html:
    """Return a square matrix ``(n, n)`` in colors, rows from the top; hatched cells have no value.

    The legend gives the values at the ends of the colors; each cell shows its value on hover.
    """
    cells = np.asarray(values, float)
    side = max(9, min(30, 620 // len(cells)))
    letters = min(max(map(len, names)), _MAX_LETTERS)
    left, bottom = 14 + round(_LETTER_WIDTH * letters), side * len(cells) + _TOP
    colors = color_table(cmap)
    drawn = [
        _heat_cell(
            colors,
            value,
            (left + side * j, _TOP + side * i),
            side,
            (low, high),
            f"{row} × {column}",
        )
        for i, (row, line) in enumerate(zip(names, cells, strict=True))
        for j, (column, value) in enumerate(zip(names, line, strict=True))
    ]
    down = bottom + round(_LETTER_WIDTH * letters * 0.9) + 24
    width = max(left + side * len(cells) + _RIGHT, 250)
    content = [
        _HATCH,
        drawn,
        _heat_names(names, left, bottom, side),
        _color_legend(cmap, low, high, left, down),
    ]
    return _svg(title, (width, down + 34), content, fixed=True)


_HATCH = Html(
    '<defs><pattern id="none" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<path d="M0 5L5 0" class="axis"/></pattern></defs>'
)


def _heat_names(names: Sequence[str], left: float, bottom: float, side: int) -> list[Html]:
    """The names of rows and columns; those that would overlap are left out."""
    drawn = []
    for k in range(0, len(names), math.ceil(13 / side)):
        name, middle = _shorten(names[k]), side * k + side / 2 + 4
        turned = f"translate({left + middle} {bottom + 8}) rotate(-60)"
        drawn += [
            tag("text", name, x=left - 6, y=_TOP + middle, text_anchor="end"),
            tag("text", name, text_anchor="end", transform=turned),
        ]
    return drawn


def _heat_cell(
    colors: NDArray[np.uint8],
    value: float,
    corner: tuple[float, float],
    side: int,
    ends: tuple[float, float],
    name: str,
) -> Html:
    text, fill = f"{name}: none", "url(#none)"
    if math.isfinite(value):
        share = min(max((value - ends[0]) / (ends[1] - ends[0]), 0), 1)
        text, fill = f"{name}: {value:.2f}", _hex(colors[round(255 * share)])
    x, y = corner
    return tag("rect", tag("title", text), x=x, y=y, width=side, height=side, fill=fill)


def _hex(color: NDArray[np.uint8]) -> str:
    return "#" + bytes(color.tolist()).hex()


def _color_legend(cmap: str, low: float, high: float, left: float, y: float) -> list[Html]:
    steps = map(_hex, color_table(cmap, 48))
    patches = [
        tag("rect", x=left + 3 * k, y=y, width=3.3, height=10, fill=fill)
        for k, fill in enumerate(steps)
    ]
    return [
        *patches,
        tag("text", number(low), x=left, y=y + 24),
        tag("text", number(high), x=left + 144, y=y + 24, text_anchor="end"),
    ]


def _axes(x_scale: Scale, y_scale: Scale, size: tuple[int, int], x: str, y: str) -> list[Html]:
    """Grid lines, ticks and titles of the axes."""
    bottom = size[1] - _BOTTOM
    drawn = []
    for tick in y_scale.ticks:
        drawn += [
            tag(
                "line",
                x1=x_scale.start,
                x2=x_scale.stop,
                y1=y_scale(tick),
                y2=y_scale(tick),
                class_="grid",
            ),
            tag(
                "text",
                _format_tick(tick),
                x=x_scale.start - 6,
                y=y_scale(tick) + 4,
                text_anchor="end",
            ),
        ]
    for tick in x_scale.ticks:
        drawn.append(
            tag("text", _format_tick(tick), x=x_scale(tick), y=bottom + 16, text_anchor="middle")
        )
    drawn.append(
        tag("line", x1=x_scale.start, x2=x_scale.stop, y1=bottom, y2=bottom, class_="axis")
    )
    middle = (x_scale.start + x_scale.stop) / 2
    drawn.append(tag("text", x, x=middle, y=size[1] - 6, text_anchor="middle"))
    high = (y_scale.start + y_scale.stop) / 2
    drawn.append(
        tag("text", y, text_anchor="middle", transform=f"translate(12 {high}) rotate(-90)")
    )
    return drawn


def _format_tick(value: float) -> str:
    """Format a tick in few letters: ``20k``, ``1.5M``."""
    for least, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{number(value / size)}{letter}"
    return number(value)


def _mark(x: float, name: str, size: tuple[int, int]) -> list[Html]:
    end = x > size[0] - 20 - _LETTER_WIDTH * len(name)
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
