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
    svg = charts.heat_map(values, ["first", "second"], "Similarity")
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


@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30, unique=True
    )
)
def test_dots_keep_the_order_of_their_values(pairs: list[tuple[float, float]]) -> None:
    svg = charts.dots(*zip(*pairs, strict=True), "Dots", x="x", y="y")
    (path,) = elements(svg, "path", class_="dots")
    drawn = [
        tuple(map(float, one.removesuffix("h0").split()))
        for one in str(path.get("d")).split("M")
        if one
    ]
    assert 1 <= len(drawn) <= len(pairs)  # dots at one place are drawn once
    root = ElementTree.fromstring(svg)
    width, height = (float(str(root.get(name))) for name in ("width", "height"))
    assert all(0 <= a <= width and 0 <= b <= height for a, b in drawn)
    left = min(pairs)[0], min(drawn)[0]
    right = max(pairs)[0], max(drawn)[0]
    if right[0] > left[0]:
        for x, _ in pairs:
            at = left[1] + (x - left[0]) / (right[0] - left[0]) * (right[1] - left[1])
            assert min(abs(at - a) for a, _ in drawn) < 0.02


def test_the_highest_dot_is_drawn_highest() -> None:
    svg = charts.dots([0, 1], [5, 9], "Dots", x="x", y="y")
    (path,) = elements(svg, "path", class_="dots")
    low, high = (
        float(one.split()[1].removesuffix("h0")) for one in str(path.get("d")).split("M")[1:]
    )
    assert high < low  # y grows downward in SVG


def test_a_curve_skips_what_is_not_finite() -> None:
    svg = charts.lines([("a", [0, 1, 2], [1, math.nan, 3])], "T", x="x", y="y")
    (line,) = elements(svg, "polyline")
    assert len(str(line.get("points")).split()) == 2
    assert "nan" not in svg


def test_a_single_curve_has_no_legend() -> None:
    svg = charts.lines([("only", [0, 1], [0, 1])], "T", x="x", y="y")
    assert "only" not in [text.text for text in elements(svg, "text")]


def test_bars_without_emphasis_are_all_in_color_and_show_their_texts() -> None:
    svg = charts.bars([("a", 1.0, "one"), ("b", 2.0, "two")], "Two", x="mean")
    assert len(elements(svg, "rect", class_="bar")) == 2
    assert not elements(svg, "rect", class_="rest")
    assert {"a", "b", "one", "two", "mean"} <= {text.text for text in elements(svg, "text")}


def test_a_value_that_is_not_finite_has_an_empty_bar() -> None:
    svg = charts.bars([("a", math.nan, "none"), ("b", 2.0, "2")], "Two", x="mean")
    empty, full = (float(str(one.get("width"))) for one in elements(svg, "rect", class_="bar"))
    assert empty == 0 < full


def test_a_long_name_keeps_its_end_which_tells_layers_apart() -> None:
    name = "features.denseblock4.denselayer16.conv2"
    svg = charts.bars([(name, 1.0, "")], "One", x="mean")
    (shown,) = [t.text for t in elements(svg, "text", class_="strong") if t.text]
    assert shown.startswith("…")
    assert name.endswith(shown[1:])
    assert len(shown) == 30


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (9000, "9000"), (20000, "20k"), (1.5e6, "1.5M")]
)
def test_ticks_are_written_in_few_letters(value: float, text: str) -> None:
    assert charts._format_tick(value) == text


def test_names_of_a_large_heat_map_do_not_overlap() -> None:
    names = [f"layer{k}" for k in range(60)]
    svg = charts.heat_map(np.eye(60), names, "Many")
    assert len(elements(svg, "pattern")) == 1
    cells = [one for one in elements(svg, "rect") if len(one)]
    assert len(cells) == 3600
    side = float(str(cells[0].get("width")))
    rows = [float(str(t.get("y"))) for t in elements(svg, "text") if t.text in names and t.get("y")]
    assert min(np.diff(rows)) >= 13 > side


def test_values_outside_the_ends_of_a_heat_map_get_the_colors_of_the_ends() -> None:
    svg = charts.heat_map([[5.0, -5.0], [0.0, 1.0]], ["a", "b"], "Clipped")
    found = {str(one[0].text): one.get("fill") for one in elements(svg, "rect") if len(one)}
    assert found["a × a: 5.00"] == found["b × b: 1.00"]
    assert found["a × b: -5.00"] == found["b × a: 0.00"]


def test_a_mark_at_the_right_end_is_named_to_its_left() -> None:
    svg = charts.histogram(
        [0, 1, 2], [1, 1], "Values", x="v", marks=[(0.1, "near the start"), (1.9, "near the end")]
    )
    first, last = elements(svg, "text", class_="mark")
    assert (first.get("text-anchor"), last.get("text-anchor")) == ("start", "end")


@pytest.mark.parametrize("name", ['<script>alert("x")</script>', "a & b", "λ → ∞"])
def test_names_are_escaped_in_every_chart(name: str) -> None:
    for svg in (
        charts.bars([(name, 1.0, name)], name, x=name),
        charts.dots([0, 1], [0, 1], name, x=name, y=name),
        charts.lines([(name, [0, 1], [0, 1]), ("b", [0, 1], [0, 1])], name, x=name, y=name),
        charts.histogram([0, 1], [2], name, x=name, marks=[(0.5, name)]),
        charts.heat_map([[1.0]], [name], name),
    ):
        root = ElementTree.fromstring(svg)
        assert root[0].text == name
        assert not list(root.iter("script"))
