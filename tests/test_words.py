"""The field's own words everywhere: phrases of a private dialect, and British spellings, are found.

``python tests/test_words.py`` lists what is left, with the term to use; ``--counts`` sums it up.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope as cs

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "convscope"

# Phrases, not everyday words: a pattern, and the term to use. A space in a pattern also matches a
# line break, and the end of one string literal followed by the next.
PHRASES = {
    # inputs and preprocessing
    r"under the microscope": "the input image",
    r"a picture to look at|pictures? (in|of) a (step|row)": "image",
    r"the (input|given|whole|original|same) pictures?": "image",
    r"pictures? (of yours|of noise|so far|that were|that it was)": "image; noise image",
    r"what (the|a) (model|network|layer) (sees|saw)\b": "preprocessed input; input to the layer",
    r"seen by the (model|network)": "preprocessed",
    r"(training|test) part\b|part of the data(set)?\b": "split",
    r"what (it|he|they|a|one|each|the|this|that|every)( \w+){0,4} looks? at\b": "receptive field",
    r"(the|a|each|one|every|this) position (sees|looks)": "receptive field",
    r"where (it|the network|the model) looked": "attribution map",
    # activations
    r"answers? to\b|\bis on for\b": "responds to; activates on",
    r"what (\w+ ){1,4}(answer|answers) to": "responds to",
    r"(mean|highest|strongest|channel's|unit's) answers?\b": "response; activation",
    r"\b(zero|black|on) everywhere\b": "inactive (on this image); dead (on a dataset)",
    r"(is|are) (off|on) (for|on) (this|every|all|no)\b": "inactive; dead; always active",
    # activation maximization
    r"would (like|love) to see": "optimized image; activation maximization",
    r"pictures? that raises?\b|raises? (a|each|the|it)( \w+)? (most|even more)": "optimized image",
    r"\bclimb(s|ed|ing|er)?\b": "optimize; optimization",
    r"(before|at) each look\b|\ba look\b per step|looks per step": "augmentation per step",
    r"of it left after|left of it after|(is|was) kept of it": "robustness",
    r"the way up\b": "optimization",
    r"cared for\b": "gradient magnitude; used",
    r"place by place": "at every position",
    r"steps? of ascent": "optimization step",
    # ablation and attribution
    r"silenc(e|es|ed|ing)\b": "ablate, ablated",
    r"(do|doing|does) without\b|\bdearest\b": "ablate; largest accuracy drop",
    r"what (a|the|each|one)( \w+)? (is|are) worth\b": "accuracy drop when ablated",
    r"why this answer": "attribution (of a prediction)",
    r"shuffled (kernels?|weights?|filters?|copy|copies|network)": "randomized parameters",
    r"nothing is black|(what|that) (shows?|stands for) nothing\b": "baseline: zero",
    r"ask(s|ed)? copies": "parameter randomization test",
    # classification
    r"\btak(es?|en|ing) for\b": "predicted as",
    r"tak(es?|en) (it|them|each|every|this|the \w+) for (what|a|another|one)\b": "predicted as",
    r"recogni[sz]ed as\b|for what (they|it) (are|is)\b": "predicted as; correctly classified",
    r"\bmended\b": "fixed (or regressed)",
    r"divid(e|es|ed|ing) (the|its|all) (scores|logits) by": "temperature scaling (T = …)",
    r"class scores?\b|raw scores?\b|the network's scores": "logits",
    r"(the|its) (networks?|models?)('s)? answers?\b": "prediction; output",
    r"\b(the|a|each|your|its|this) (network|model) (asks?|says|answers|tells|knows)\b": (
        "computes; predicts; responds"
    ),
    # sensitivity
    r"what (\w+ ){1,4}follows?\b": "variance explained by",
    r"follows? and (what )?(it |they )?ignores?": "sensitive and invariant to",
    r"does not notice\b": "invariant to",
    # style transfer
    r"\bin the manner of|the manner of\b|whose style it takes": "style transfer",
    r"(painted?|painting|paints?) (over|into|like)\b": "style transfer; DeepDream",
    # results and files
    r"\b(model|its|the|network's) card\b": "metadata",
    r"check-?up\b": "channel health",
    r"\bso many \w+\b(?! (that|as|to)\b)": "number of …",
    r"looked at with\b|looked into\b": "analyzed; inspected",
    r"goes? on (from here|where|after)\b": "resume",
    r"told apart\b": "distinguish",
    r"(is|are|was|were) told\b": "given; specified",
    r"(twin|twins)\b": "copy that shares the parameters",
    r"\bworth (saying|having|telling|looking)\b": "(say it plainly)",
    r"has been asked\b|what is asked\b|that was asked for": "requested",
}

# Names that no text of a tool's user may hold in prose either: what convscope shows or draws.
PICTURE = {r"(?<![</\w\"'.-])pictures?\b(?![>\"'/.\w-])": "image (an input); figure (a drawing)"}

SPELLINGS = {
    "colour": "color",
    "grey(?!hound)": "gray",
    "behaviour": "behavior",
    "neighbour": "neighbor",
    "favour": "favor",
    "honour": "honor",
    r"centre(?!d?\w)|centred|centres": "center",
    r"\w*labell(ed(?!by)|ing)": "label(ed|ing)",
    r"modell(ed|ing)": "model(ed|ing)",
    r"cancell(ed|ing)": "cancel(ed|ing)",
    r"travell(ed|ing)": "travel(ed|ing)",
    r"artefact": "artifact",
    r"catalogue": "catalog",
    r"licence\b": "license",
    r"defence\b": "defense",
    r"judgement": "judgment",
    r"analys(e|ed|ing|er)\b": "analyze",
    r"(normal|optim|maxim|minim|visual|initial|organ|recogn|summar|general|regular|quant|"
    r"standard|special|serial|util|categor|harmon|real|random|memor|vector|token|penal|emphas|"
    r"factor|parametr|symmetr|local|character|critic|custom|equal|final|stabil|synchron)"
    r"is(e|es|ed|ing|er|ers|ation|ations|able)\b": "…ize",
}

# Names in the files that version 0.1.0 wrote: they are read, and cannot be changed.
ON_DISK = {
    ("src/convscope/_atlas/__init__.py", "labelled"),
    ("src/convscope/_atlas/reader.py", "labelled"),
    ("src/convscope/_scan/manifest.py", "labelled"),
    ("src/convscope/_train/training_files.py", "optimiser"),
    ("src/convscope/_train/training_files.py", "pictures"),
}

GAP = r"(?:\s|[\"'`]\s*\+?\s*f?[\"'`]|\s//\s|\s\*\s|#\s)+"


@dataclass(frozen=True)
class Hit:
    """A phrase that was found, where, and the term to use instead."""

    file: str
    line: int
    text: str
    say: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text!r}: say {self.say}"


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """All patterns with their terms, a space widened to what may part two words in a file."""
    table = PHRASES | PICTURE | {rf"\b{stem}": say for stem, say in SPELLINGS.items()}
    return tuple(
        (re.compile(pattern.replace(" ", GAP), re.IGNORECASE), say)
        for pattern, say in table.items()
    )


def find(text: str, file: str, first_line: int = 1) -> Iterator[Hit]:
    """Every phrase in a text."""
    for pattern, say in _patterns():
        for match in pattern.finditer(text):
            line = first_line + text.count("\n", 0, match.start())
            yield Hit(file, line, " ".join(match[0].split()), say)


def python_texts(path: Path) -> Iterator[tuple[int, str]]:
    """String literals, docstrings and runs of comments, each with its first line."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    pieces: set[int] = set()  # of f-strings, which are read as a whole
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces |= set(map(id, node.values))
            parts = (v.value if isinstance(v, ast.Constant) else "{…}" for v in node.values)
            yield node.lineno, "".join(map(str, parts))
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in pieces:
                yield node.lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def in_source() -> Iterator[Hit]:
    """The library's own files: Python, and the app's JavaScript, HTML and CSS."""
    for path in sorted(SOURCE.rglob("*")):
        name = str(path.relative_to(ROOT))
        if path.suffix in (".py", ".pyi"):
            for line, text in python_texts(path):
                yield from find(text, name, line)
        elif path.suffix in (".js", ".html", ".css"):
            yield from find(path.read_text(encoding="utf-8"), name)


def in_documents() -> Iterator[Hit]:
    """README, CHANGELOG, CONTRIBUTING and every page of the documentation."""
    for path in [
        *sorted(ROOT.glob("*.md")),
        ROOT / "mkdocs.yml",
        *sorted(ROOT.glob("docs/**/*.md")),
    ]:
        yield from find(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


def in_help() -> Iterator[Hit]:
    """What ``--help`` of every verb prints."""
    from typer.main import get_command

    from convscope._cli import app

    for verb, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for text in [command.help, *(getattr(p, "help", "") for p in command.params)]:
            yield from find(text or "", f"convscope {verb} --help")


class _Text(HTMLParser):
    """The text of a page, and what its attributes say of images and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        shown = ("alt", "title", "aria-label", "placeholder")
        self.words += [value or "" for name, value in attributes if name in shown]

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def _make_outputs(folder: Path) -> None:
    """A figure or a page of every kind that is quick to make, on noise."""
    pixels = np.random.default_rng(0)
    for name in ("cat", "dog", "frog"):
        (folder / "images" / name).mkdir(parents=True)
        for k in range(4):
            noise = pixels.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(noise).save(folder / "images" / name / f"{k}.png")
    images, layers = str(folder / "images"), ["stem.relu", "stage1/add"]
    image = folder / "images" / "cat" / "0.png"
    maps = cs.feature_maps("demo", str(image), layers)
    for name, sheet in {
        "grid": maps["stem.relu"].grid(),
        "signed": maps["stem.relu"].grid(cmap="signed", range="layer"),
        "overlay": maps["stem.relu"].overlay(first=4),
        "overview": maps.overview(),
        "preprocessed": maps.preprocessed(),
        "filters": cs.filters("demo", "stem.conv").grid(),
    }.items():
        sheet.save(folder / f"{name}.png")
    atlas = cs.scan("demo", images, folder / "atlas", layers)
    atlas["stage1/add:0"].sheet().save(folder / "unit.png")
    cs.report(atlas).save(folder / "report.html")
    cs.maximize("demo", "stage1/add:3", size=32, steps=2).save(folder / "optimized.png")
    cs.dream("demo", str(image), steps=1, octaves=1).sheet().save(folder / "dream.png")
    attribution = cs.attribute("demo", str(image), method="gradcam", channels=3)
    attribution.save(folder / "attribution.png")
    cs.ablate("demo", images, "stem.relu:0").save(folder / "ablation.png")
    cs.sensitivity("demo", images, layers, perturbations="hue", first=4).save(
        folder / "sensitivity.png"
    )
    cs.diagnose("demo", images, layers, explain=1).save(folder / "diagnosis.html")


def in_outputs(folder: Path) -> Iterator[Hit]:
    """The text of figures (their metadata repeat it) and of pages."""
    _make_outputs(folder)
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            yield from find("\n".join(map(str, image.info.values())), path.name)
    for path in sorted(folder.glob("*.html")):
        yield from find("\n".join(_Text(path.read_text(encoding="utf-8")).words), path.name)


def all_hits() -> list[Hit]:
    hits = {*in_source(), *in_documents(), *in_help()}
    mine = [hit for hit in hits if (hit.file, hit.text) not in ON_DISK]
    return sorted(mine, key=lambda hit: (hit.file, hit.line, hit.text))


def test_no_dialect_is_left() -> None:
    hits = all_hits()
    assert not hits, "\n" + "\n".join(map(str, hits))


@pytest.mark.filterwarnings("ignore")
def test_figures_and_pages_hold_none_either(tmp_path: Path) -> None:
    hits = list(in_outputs(tmp_path))
    assert not hits, "\n" + "\n".join(map(str, hits))


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("what one position of\nit looks at", "receptive field"),
        ('"which class is taken " + "for"', "predicted as"),
        ("Colour", "color"),
        ("normalised", "…ize"),
        ("So many classes.", "number of …"),
        ("The picture to write", "image (an input); figure (a drawing)"),
    ],
)
def test_a_phrase_is_found_across_line_breaks_and_literals(text: str, say: str) -> None:
    assert [hit.say for hit in find(text, "a.md")] == [say]


@pytest.mark.parametrize(
    "text",
    [
        "<picture><source></picture>",
        "greyhound",
        "so many images that memory runs out",
        "optimistic, specialist, analyses, emphasis",
        "a centered crop",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert not list(find(text, "a.md"))


def _main() -> None:
    hits = [hit for hit in all_hits() if not sys.argv[2:] or hit.file.startswith(sys.argv[2])]
    if "--counts" in sys.argv:
        rooms = Counter("/".join(hit.file.split("/")[:3]) for hit in hits)
        for room, count in rooms.most_common():
            print(f"{count:5} {room}")
        for (_, say), count in Counter(
            (hit.text.lower(), f"{hit.text.lower()} → {hit.say}") for hit in hits
        ).most_common(60):
            print(f"{count:5} {say}")
    else:
        print(*hits, sep="\n")
    print(f"{len(hits)} phrases left")
    if "--outputs" in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            print(*in_outputs(Path(folder)), sep="\n")


if __name__ == "__main__":
    _main()
