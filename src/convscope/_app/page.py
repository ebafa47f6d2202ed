"""The page: the files of the app, served as they are or made into one.

``static/index.html`` names style sheets, an import map with bare names for all modules, and one
inline script that imports the first. In an exported page the map leads to ``data:`` URLs, the
styles are inline, and the answers of the server stand in ``<script>`` elements that do not run.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from convscope._app.answers import Answer
from convscope._errors import ConvscopeError
from convscope._plot.colors import COLORS_JSON

_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
}
_JSDOC = re.compile(rb"/\*\*.*?\*/", re.DOTALL)
_DATA, _COLORS = "<!-- convscope:data -->", "<!-- convscope:colors -->"
_MAP = re.compile(r'(<script type="importmap">)(.*?)(</script>)', re.DOTALL)
_STYLE = re.compile(r'<link rel="stylesheet" href="static/([\w.-]+)"\s*/?>')
_INLINE = re.compile(r"<script(?:\s[^>]*)?>(.*?)</script>", re.DOTALL)
_LINKED = re.compile(r'(<link[^>]*href=")static/([\w.-]+)(")')


@cache
def static() -> Mapping[str, Answer]:
    """The files of the app by name, read once; scripts without their JSDoc.

    That is for who writes them and for the type checker, and a seventh of what would travel.
    """
    found = {}
    for file in files("convscope._app").joinpath("static").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if file.is_file() and suffix in _TYPES:
            body = file.read_bytes()
            if suffix == ".js":  # lines keep their numbers
                body = _JSDOC.sub(lambda m: b"\n" * m[0].count(b"\n"), body)
            found[file.name] = Answer(body, _TYPES[suffix])
    return found


@cache
def packed(name: str) -> bytes:
    """A file of the app, gzipped as well as can be: it is done once."""
    return gzip.compress(static()[name].body, 9, mtime=0)


@cache
def index() -> bytes:
    """The page as it is served; the colors of figures stand in it."""
    if "index.html" not in static():
        raise ConvscopeError("The files of the app are missing from this installation: reinstall")
    return static()["index.html"].body.replace(_COLORS.encode(), COLORS_JSON.encode())


@cache
def policy() -> str:
    """What the served page may load: its own files, and the inline scripts that it came with."""
    scripts = [text for text in _INLINE.findall(index().decode()) if text.strip()]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
    )


def inlined(answers: Mapping[str, Block], title: str) -> str:
    """The page as one file that asks nobody: answers by the path that they answer."""
    text = index().decode()
    text = _STYLE.sub(lambda m: f"<style>{_file(m[1]).body.decode()}</style>", text)
    text = _MAP.sub(lambda m: m[1] + _mapped(m[2]) + m[3], text)
    text = _LINKED.sub(lambda m: m[1] + _data_url(_file(m[2])) + m[3], text)
    text = re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", text)
    if _DATA not in text:
        raise ConvscopeError(f"index.html has no {_DATA}")
    return text.replace(_DATA, _bundled(answers), 1)


def _mapped(imports: str) -> str:
    """The import map with the modules themselves in place of their addresses."""
    names = json.loads(imports)["imports"]
    found = {
        name: _data_url(_file(target.removeprefix("./static/"))) for name, target in names.items()
    }
    return json.dumps({"imports": found})


def _file(name: str) -> Answer:
    return static()[name]


def _data_url(file: Answer) -> str:
    return f"data:{file.type};base64,{base64.b64encode(file.body).decode()}"


@dataclass(frozen=True, eq=False)
class Block:
    """An answer as it stands in a page: base64, numbers and words squeezed first."""

    type: str
    squeezed: bool
    text: str


def block(answer: Answer) -> Block:
    """An answer made ready for a page."""
    squeezed = not answer.type.startswith("image/")
    body = gzip.compress(answer.body, 6, mtime=0) if squeezed else answer.body
    return Block(answer.type, squeezed, base64.b64encode(body).decode())


def _bundled(blocks: Mapping[str, Block]) -> str:
    """Answers as elements, one that stands at several addresses once."""
    numbers = {one: k for k, one in enumerate(dict.fromkeys(blocks.values()))}
    entries = {
        path: {"n": numbers[one], "type": one.type, "gzip": one.squeezed}
        for path, one in blocks.items()
    }
    listed = _unclosed(json.dumps({"version": 1, "entries": entries}))
    head = f'<script type="application/json" id="convscope-index">{listed}</script>'
    elements = (
        f'<script type="text/plain" id="convscope-{k}">{one.text}</script>'
        for one, k in numbers.items()
    )
    return "\n".join([head, *elements])


def _unclosed(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c")
