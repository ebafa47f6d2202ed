"""Pages: one file, no request, readable in both themes, and what stands in them is escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from convscope._plot.colors import contrast
from convscope._reports import Page, PageSection
from convscope._reports.markup import Html, meter, table, tag

CSS = files("convscope._reports").joinpath("page.css").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What an assistive technology would go by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.names.append(name)
        if "id" in found:
            self.ids.append(str(found["id"]))
        self.links += [str(found["href"])] if "href" in found else []
        self.fetched += [str(found[key]) for key in ("src", "srcset", "data") if key in found]
        if name == "img":
            assert found.get("alt")
        if name == "th":
            assert found.get("scope") in ("row", "col")


def page(title: str = "A title") -> Page:
    made = table(["layer", "n"], [["conv1", 3], ["<b>", tag("td", 4)]], "Counts", numeric=[1])
    return Page(
        title,
        "convscope",
        ["A `unit` <i>."],
        [("Model", "`demo`")],
        [PageSection("one", "One", made), PageSection("two", "Two", meter(0.5, "half"))],
        "The end.",
    )


def test_it_has_landmarks_headings_and_anchors_that_lead_somewhere() -> None:
    outline = Outline(page().html())
    assert {"header", "main", "nav", "footer", "section"} <= set(outline.names)
    assert outline.names.count("h1") == 1
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links} <= set(outline.ids)


def test_it_fetches_nothing() -> None:
    text = page().html()
    outline = Outline(text)
    assert all(one.startswith("data:") for one in outline.fetched)
    assert "default-src 'none'" in text
    assert not re.search(r"https?://", text)
    assert not re.search(r"@import|url\(", CSS)


def test_hostile_names_stay_text() -> None:
    text = page('</title><script>alert("1")</script>').html()
    assert "<script>alert" not in text
    assert text.count("</script>") == 1
    assert "A <code>unit</code> &lt;i&gt;." in text
    assert '<th scope="row">&lt;b&gt;</th>' in text


def test_saving_is_the_same_text(tmp_path: Path) -> None:
    path = page().save(tmp_path / "deep" / "page.html")
    assert path.read_text(encoding="utf-8") == page().html()


def test_in_a_notebook_it_stands_in_a_frame_of_its_own() -> None:
    text = page()._repr_html_()
    assert text.startswith("<iframe srcdoc=")
    assert "<style>" not in text
    assert isinstance(text, Html)


def colors(name: str) -> list[tuple[int, int, int]]:
    """The light and the dark value of a color of the style sheet."""
    found = re.search(rf"--{name}:light-dark\((#\w+),(#\w+)\)", CSS)
    assert found
    return [_rgb(found[1]), _rgb(found[2])]


def _rgb(text: str) -> tuple[int, int, int]:
    digits = text[1:] if len(text) == 7 else "".join(2 * c for c in text[1:])
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


@pytest.mark.parametrize("ink", ["ink", "soft", "mark", "warn", "good"])
@pytest.mark.parametrize("ground", ["paper", "card"])
def test_text_can_be_read_in_both_themes(ink: str, ground: str) -> None:
    for one, other in zip(colors(ink), colors(ground), strict=True):
        assert contrast(one, other) >= 4.5


@pytest.mark.parametrize("ground", ["paper", "card", "rest"])
def test_bars_stand_out_from_what_is_behind_them(ground: str) -> None:
    for one, other in zip(colors("bar"), colors(ground), strict=True):
        assert contrast(one, other) >= (2.5 if ground == "rest" else 3)
