"""The page of every report: one file without requests, light and dark, for screen and paper."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from convscope._io import write_text
from convscope._reports.markup import EMPTY, Html, format_text, tag

# Remembers the choice where the browser lets a file do so; the page is complete without it.
_SCRIPT = """
(()=>{const root=document.documentElement,button=document.querySelector('button.theme');
const system=matchMedia('(prefers-color-scheme: dark)');
const dark=()=>root.dataset.theme?root.dataset.theme==='dark':system.matches;
const name=()=>{button.textContent=dark()?'Light':'Dark';
button.setAttribute('aria-label','Use '+(dark()?'light':'dark')+' colors')};
try{const saved=localStorage.getItem('convscope-theme');if(saved)root.dataset.theme=saved}catch{}
button.hidden=false;name();
button.addEventListener('click',()=>{root.dataset.theme=dark()?'light':'dark';name();
try{localStorage.setItem('convscope-theme',root.dataset.theme)}catch{}});
const folded=[];addEventListener('beforeprint',()=>document.querySelectorAll('details:not([open])')
.forEach(d=>{d.open=true;folded.push(d)}));
addEventListener('afterprint',()=>folded.splice(0).forEach(d=>{d.open=false}));})()
"""


@dataclass(frozen=True)
class PageSection:
    """A titled section of a page.

    Attributes:
        anchor: Its ``id``, for links.
        title: Its heading.
        content: What stands under the heading.
        short_title: Its name in the table of contents; ``title`` where empty.
    """

    anchor: str
    title: str
    content: Html
    short_title: str = ""


@dataclass(frozen=True)
class Page:
    """A report as one HTML page.

    Attributes:
        title: The heading and the document's title.
        kicker: The kind of report, above the heading.
        lead: The main results as sentences; `` `code` `` is set as code.
        facts: What the report is about, ``[(name, value), …]``.
        sections: The sections; two or more get a table of contents.
        footer: How the page was made.
        summary: Markup between the facts and the sections.
        linked_images: Whether it shows image files beside it, too.
    """

    title: str
    kicker: str
    lead: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[PageSection]
    footer: str = ""
    summary: Html = EMPTY
    linked_images: bool = False

    def html(self) -> str:
        """Return the whole document."""
        images = "data: file: 'self'" if self.linked_images else "data:"
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width,'
            'initial-scale=1"><meta name="color-scheme" content="light dark">'
            # even a hostile name in the data could fetch nothing
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src '
            f"{images}; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
            f"<title>{html.escape(self.title)}</title><style>{_style()}</style>"
        )
        return (
            f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>'
            f"{self._body()}\n<script>{_SCRIPT}</script></body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the document; an interrupted write leaves the previous one.

        Args:
            path: The file to write.

        Returns:
            The path.
        """
        return write_text(Path(path), self.html())

    def _repr_html_(self) -> str:
        """Return the page in a frame for a notebook, so that its style does not leak."""
        style = "width:100%;height:36rem;border:1px solid #8888;border-radius:6px"
        return tag(
            "iframe", srcdoc=self.html(), title=self.title, sandbox="allow-scripts", style=style
        )

    def _body(self) -> Html:
        top = tag(
            "div",
            tag("p", self.kicker, class_="kicker"),
            tag("button", "Dark", type="button", class_="theme", hidden=True),
            class_="top",
        )
        lead = tag("div", [tag("p", format_text(text)) for text in self.lead], class_="lead")
        facts = tag(
            "dl",
            [[tag("dt", name), tag("dd", format_text(value))] for name, value in self.facts],
            class_="facts",
        )
        sections = [_section(section) for section in self.sections]
        return tag(
            "div",
            tag("a", "Skip to the results", href="#main", class_="skip"),
            tag("header", top, tag("h1", self.title), lead, facts),
            tag("main", self.summary, self._contents(), sections, id="main"),
            tag("footer", tag("p", format_text(self.footer))),
            class_="page",
        )

    def _contents(self) -> Html:
        if len(self.sections) < 2:
            return EMPTY
        links = [
            tag("li", tag("a", section.short_title or section.title, href=f"#{section.anchor}"))
            for section in self.sections
        ]
        return tag("nav", tag("ol", links), aria_label="Contents")


def _section(section: PageSection) -> Html:
    heading = f"{section.anchor}-h"
    return tag(
        "section",
        tag("h2", section.title, id=heading),
        section.content,
        id=section.anchor,
        aria_labelledby=heading,
    )


@cache
def _style() -> str:
    return files("convscope._reports").joinpath("page.css").read_text(encoding="utf-8")
