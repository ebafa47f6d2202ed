"""The page every report is: one file, no request, light and dark, for a screen and for paper."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from convscope._plot.output import write
from convscope._reports.markup import Html, join, rich, tag

# Remembers the choice where the browser lets a file do so; the page is complete without it.
_SCRIPT = """
(()=>{const root=document.documentElement,button=document.querySelector('button.theme');
const system=matchMedia('(prefers-color-scheme: dark)');
const dark=()=>root.dataset.theme?root.dataset.theme==='dark':system.matches;
const name=()=>{button.textContent=dark()?'Light':'Dark';
button.setAttribute('aria-label','Show in '+(dark()?'light':'dark')+' colors')};
try{const kept=localStorage.getItem('convscope-theme');if(kept)root.dataset.theme=kept}catch{}
button.hidden=false;name();
button.addEventListener('click',()=>{root.dataset.theme=dark()?'light':'dark';name();
try{localStorage.setItem('convscope-theme',root.dataset.theme)}catch{}});
const folded=[];addEventListener('beforeprint',()=>document.querySelectorAll('details:not([open])')
.forEach(d=>{d.open=true;folded.push(d)}));
addEventListener('afterprint',()=>folded.splice(0).forEach(d=>{d.open=false}));})()
"""


NOTHING = Html("")


@dataclass(frozen=True)
class Part:
    """A titled part of a page; ``name`` is its anchor, ``short`` its name in the contents."""

    name: str
    heading: str
    content: Html
    short: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    - ``title``; ``kicker``: what kind of report it is, above the title
    - ``lead``: what a reader in a hurry should know, sentences; `` `code` `` is set as code
    - ``facts``: what the report is about, ``[(name, value), …]``
    - ``summary``: markup between the facts and the parts
    - ``parts``; ``foot``: how it was made
    """

    title: str
    kicker: str
    lead: Sequence[str]
    facts: Sequence[tuple[str, str]]
    parts: Sequence[Part]
    foot: str = ""
    summary: Html = NOTHING

    def html(self) -> str:
        """The whole document."""
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width,'
            'initial-scale=1"><meta name="color-scheme" content="light dark">'
            # even a hostile name in the data could fetch nothing
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src '
            "data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
            f"<title>{html.escape(self.title)}</title><style>{_style()}</style>"
        )
        return (
            f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>'
            f"{self._body()}\n<script>{_SCRIPT}</script></body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the document; an interrupted write leaves the previous one."""
        return write(Path(path), lambda: self.html().encode())

    def _repr_html_(self) -> str:
        """In a notebook: the page in a frame, so that its style stays its own."""
        frame = "width:100%;height:36rem;border:1px solid #8888;border-radius:6px"
        return tag(
            "iframe", srcdoc=self.html(), title=self.title, sandbox="allow-scripts", style=frame
        )

    def _body(self) -> Html:
        top = tag(
            "div",
            tag("p", self.kicker, class_="kicker"),
            tag("button", "Dark", type="button", class_="theme", hidden=True),
            class_="top",
        )
        lead = tag("div", [tag("p", rich(sentence)) for sentence in self.lead], class_="lead")
        facts = tag(
            "dl",
            [[tag("dt", name), tag("dd", rich(value))] for name, value in self.facts],
            class_="facts",
        )
        header = tag("header", top, tag("h1", self.title), lead, facts)
        parts = [
            tag(
                "section",
                tag("h2", part.heading, id=f"{part.name}-h"),
                part.content,
                id=part.name,
                aria_labelledby=f"{part.name}-h",
            )
            for part in self.parts
        ]
        return tag(
            "div",
            tag("a", "Skip to the findings", href="#main", class_="skip"),
            header,
            tag("main", self.summary, self._contents(), parts, id="main"),
            tag("footer", tag("p", rich(self.foot))),
            class_="page",
        )

    def _contents(self) -> Html:
        if len(self.parts) < 2:
            return Html("")
        links = [
            tag("li", tag("a", part.short or part.heading, href=f"#{part.name}"))
            for part in self.parts
        ]
        return tag("nav", tag("ol", links), aria_label="Contents")


@cache
def _style() -> str:
    return files("convscope._reports").joinpath("page.css").read_text(encoding="utf-8")


def paragraphs(*sentences: str, class_: str | None = None) -> Html:
    """Sentences, each its own paragraph."""
    return join([tag("p", rich(text), class_=class_) for text in sentences if text])


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Any]],
    caption: str,
    *,
    numeric: Iterable[int] = (),
) -> Html:
    """A table with a caption and named columns; the first cell of a row names it.

    ``numeric`` are the columns set to the right. A cell that is a ``<td>`` already stays as it is.
    """
    right = set(numeric)
    head = tag(
        "tr",
        [
            tag("th", text, scope="col", class_="n" if k in right else None)
            for k, text in enumerate(heads)
        ],
    )
    body = [tag("tr", [_cell(k, cell, k in right) for k, cell in enumerate(row)]) for row in rows]
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", body),
        class_="figures" if right else None,
    )
    return scrolling(made, caption)


def _cell(column: int, cell: Any, right: bool) -> Html:
    if isinstance(cell, Html) and cell.startswith("<td"):
        return cell
    named = {"class_": "n" if right else None}
    return tag("td", cell, **named) if column else tag("th", cell, scope="row", **named)


def scrolling(content: Html, label: str) -> Html:
    """Content that may be wider than a telephone; reachable with the keyboard."""
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def figure(content: Any, caption: str) -> Html:
    """Something to look at, and what it shows."""
    return tag("figure", content, tag("figcaption", rich(caption)))


def folded(summary: str, *content: Any) -> Html:
    """What few readers want, behind a line; open on paper."""
    return tag("details", tag("summary", summary), *content)


def meter(share: float, text: str) -> Html:
    """A share of 0 to 1 as a short bar, and in words."""
    bar = tag("i", style=f"width:{100 * min(max(share, 0), 1):.1f}%")
    return join([tag("span", bar, class_="meter", aria_hidden="true"), text])
