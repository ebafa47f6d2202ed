"""Markup: everything that is not markup is escaped, wherever it stands."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope._reports.markup import format_text, image_tag, join, tag


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
