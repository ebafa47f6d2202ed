"""Charts: what is drawn stands where the numbers say, read back from the SVG."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope._plot import table
from convscope._reports import charts


def elements(svg: str, name: str, **attributes: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    wanted = {key.rstrip("_"): value for key, value in attributes.items()}
    return [one for one in root.iter(name) if wanted.items() <= one.attrib.items()]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_round_inside_and_not_too_many(low: float, span: float, limit: int) -> None:
    found = charts.ticks(low, low + span, limit)
    assert len(found) <= limit + 1
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in found)
    steps = np.diff(found)
    if len(steps):
        leading = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(leading - k) for k in (1, 2, 5, 10)) < 1e-3
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_bars_of_a_histogram_are_as_high_as_their_counts() -> None:
    svg = charts.histogram([0, 1, 2, 4], [1, 0, 4], "Values", x="value", marks=[(3.0, "here")])
    drawn = elements(svg, "rect", class_="bar")
    heights = [float(str(one.get("height"))) for one in drawn]
    assert len(drawn) == 2
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.1)
    ends = [float(str(one.get("x"))) for one in drawn]
    width = float(str(drawn[0].get("width"))) + 0.5
    assert ends[1] - ends[0] == pytest.approx(2 * width, abs=0.1)
    (line,) = elements(svg, "line", class_="mark")
    assert float(str(line.get("x1"))) == pytest.approx(ends[0] + 3 * width, abs=0.1)


def test_bars_start_at_zero_on_both_sides() -> None:
    svg = charts.bars([("a", 2.0, "2"), ("b", -1.0, "−1")], "Two", x="mean", strong=[1])
    (right,) = elements(svg, "rect", class_="rest")
    (left,) = elements(svg, "rect", class_="bar")
    zero = float(str(right.get("x")))
    assert float(str(left.get("x"))) + float(str(left.get("width"))) == pytest.approx(zero, abs=0.1)
    assert float(str(right.get("width"))) == pytest.approx(
        2 * float(str(left.get("width"))), abs=0.1
    )


def test_a_curve_goes_through_its_points() -> None:
    svg = charts.lines(
        [("one", [0, 1, 2], [0, 5, 10]), ("two", [0, 2], [10, 10])], "T", x="x", y="y"
    )
    one, two = elements(svg, "polyline")
    points = [tuple(map(float, p.split(","))) for p in str(one.get("points")).split()]
    assert points[1][0] == pytest.approx((points[0][0] + points[2][0]) / 2, abs=0.1)
    assert points[1][1] == pytest.approx((points[0][1] + points[2][1]) / 2, abs=0.1)
    assert str(two.get("points")).split()[-1] == str(one.get("points")).split()[-1]
    words = [text.text for text in elements(svg, "text")]
    assert {"one", "two", "x", "y"} <= set(words)


def test_a_heat_map_has_the_colors_of_its_values_and_marks_what_is_none() -> None:
    values = [[1.0, 0.5], [math.nan, 0.0]]
    svg = charts.heat_map(values, ["first", "second"], "Likeness")
    titles = {str(one[0].text): one.get("fill") for one in elements(svg, "rect") if len(one)}
    colors = table("viridis")
    assert titles["first × first: 1.00"] == "#" + bytes(colors[255]).hex()
    assert titles["first × second: 0.50"] == "#" + bytes(colors[128]).hex()
    assert titles["second × second: 0.00"] == "#" + bytes(colors[0]).hex()
    assert titles["second × first: none"] == "url(#none)"


@pytest.mark.parametrize("constant", [0.0, 3.0, -2.5])
def test_constant_values_can_be_drawn(constant: float) -> None:
    for svg in (
        charts.dots([constant] * 3, [constant] * 3, "Dots", x="x", y="y"),
        charts.lines([("a", [0, 1], [constant] * 2)], "Lines", x="x", y="y"),
        charts.bars([("a", constant, "")], "Bars", x="x"),
        charts.histogram([constant, constant], [3], "Histogram", x="x"),
    ):
        assert "nan" not in svg
        assert elements(svg, "title")
