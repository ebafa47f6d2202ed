"""Markup: everything that is not markup is escaped, wherever it stands."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope._reports.markup import (
    details,
    figure,
    format_text,
    image_tag,
    join,
    meter,
    paragraphs,
    table,
    tag,
    themed_image,
    thumbnail_tag,
)


class Read(HTMLParser):
    """The elements, attributes and text of some markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.attributes |= dict(attributes)

    def handle_data(self, data: str) -> None:
        self.text += data


hostile = st.text(st.sampled_from("<>&\"'` ab/=!-"), max_size=20)


@given(hostile, hostile)
def test_text_and_attributes_come_back_as_they_were(text: str, value: str) -> None:
    found = Read(tag("p", text, title=value))
    assert (found.tags, found.text, found.attributes) == (["p"], text, {"title": value})


@given(hostile)
def test_sentences_keep_their_words(text: str) -> None:
    found = Read(format_text(text))
    assert set(found.tags) <= {"code"}
    assert found.text == text.replace("`", "")


def test_markup_is_not_escaped_twice_and_nothing_is_left_out() -> None:
    assert join([tag("b", "a<b"), [None, "c&d", 3]]) == "<b>a&lt;b</b>c&amp;d3"
    assert tag("img", src="x", hidden=False, alt="") == '<img src="x" alt="">'


def test_pictures_are_inside_the_page_and_have_a_text() -> None:
    found = Read(image_tag(Image.new("RGB", (3, 2), (9, 9, 9)), 'a "cat"'))
    assert str(found.attributes["src"]).startswith("data:image/webp;base64,")
    assert found.attributes["alt"] == 'a "cat"'
    assert (found.attributes["width"], found.attributes["height"]) == ("3", "2")


def decoded(element: str) -> Image.Image:
    source = str(Read(element).attributes["src"])
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("RGB", "WEBP")])
def test_an_image_comes_back_from_its_element(mode: str, kind: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 30), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    found = decoded(image_tag(image, "noise"))
    assert (found.format, found.size) == (kind, (30, 40))
    if kind == "PNG":  # figures are kept exactly; photographs need not be
        np.testing.assert_array_equal(
            np.asarray(found.convert("L")), np.asarray(image.convert("L"))
        )


def test_transparency_is_dropped_not_misread() -> None:
    found = decoded(image_tag(Image.new("RGBA", (8, 8), (200, 10, 10, 255)), "red"))
    assert np.abs(np.asarray(found.convert("RGB"))[4, 4].astype(int) - [200, 10, 10]).max() < 12


def test_thumbnails_shrink_large_images_and_enlarge_small_ones_without_smoothing() -> None:
    large, small = Image.new("RGB", (640, 320)), Image.new("RGB", (12, 9))
    shrunk, kept = thumbnail_tag(large, "large"), thumbnail_tag(small, "small")
    assert decoded(shrunk).size == (128, 64)
    assert large.size == (640, 320)  # the caller's image stays
    assert "class" not in Read(shrunk).attributes
    assert decoded(kept).size == (12, 9)
    assert Read(kept).attributes["class"] == "pixels"
    assert Read(kept).attributes["title"] == Read(kept).attributes["alt"] == "small"


def test_one_image_for_each_theme() -> None:
    root = ElementTree.fromstring(
        f"<p>{themed_image('a.png', 'b.png', 'a map', (4, 3))}</p>".replace('lazy">', 'lazy"/>')
    )
    shown = [(one.get("class"), one.get("src"), one.get("alt"), one.get("width")) for one in root]
    assert shown == [("light", "a.png", "a map", "4"), ("dark", "b.png", "a map", "4")]


def test_a_table_has_a_caption_and_headers_of_rows_and_columns() -> None:
    rows = [("conv1", 3, "x < y"), ("conv2", 4, tag("td", "own", class_="own"))]
    root = ElementTree.fromstring(table(("layer", "channels", "note"), rows, "Layers", numeric=[1]))
    assert (root.get("role"), root.get("aria-label"), root.get("tabindex")) == (
        "region",
        "Layers",
        "0",
    )
    assert [one.text for one in root.iter("caption")] == ["Layers"]
    assert [(one.get("scope"), one.text) for one in root.iter("th")] == [
        ("col", "layer"),
        ("col", "channels"),
        ("col", "note"),
        ("row", "conv1"),
        ("row", "conv2"),
    ]
    cells = [(one.get("class"), one.text) for one in root.iter("td")]
    assert cells == [("n", "3"), (None, "x < y"), ("n", "4"), ("own", "own")]


@given(st.lists(st.tuples(hostile, hostile), max_size=4), hostile)
def test_a_table_is_well_formed_whatever_stands_in_it(
    rows: list[tuple[str, str]], caption: str
) -> None:
    root = ElementTree.fromstring(table(("a", "b"), rows, caption))
    assert [(one.text or "") for one in root.iter("td")] == [b for _, b in rows]
    assert ["".join(one.itertext()) for one in root.iter("caption")] == [caption]


def test_empty_paragraphs_are_left_out() -> None:
    found = paragraphs("`conv1:3` is dead.", "", "Prune it.", class_="note")
    assert found == (
        '<p class="note"><code>conv1:3</code> is dead.</p><p class="note">Prune it.</p>'
    )
    assert paragraphs("") == ""


def test_figures_and_details_hold_their_content() -> None:
    assert figure(tag("svg"), "of `conv1`") == (
        "<figure><svg></svg><figcaption>of <code>conv1</code></figcaption></figure>"
    )
    assert details("More <", tag("p", "x"), "y") == (
        "<details><summary>More &lt;</summary><p>x</p>y</details>"
    )


@pytest.mark.parametrize(
    ("share", "width"), [(0.25, "25.0%"), (-1.0, "0.0%"), (7.0, "100.0%"), (0.0, "0.0%")]
)
def test_a_meter_is_as_wide_as_its_share_and_says_it_in_words(share: float, width: str) -> None:
    found = meter(share, "a quarter")
    assert f"width:{width}" in found
    assert 'aria-hidden="true"' in found
    assert Read(found).text == "a quarter"
