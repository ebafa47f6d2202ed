"""The files of the app: served one by one, or inlined into one page with its data.

``static/index.html`` names the style sheet, an import map with bare names for all modules, and one
inline script that imports the first. In an exported page the map leads to ``data:`` URLs, the
styles are inline, and the payloads of the server stand in ``<script>`` elements that do not run.
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
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from convscope._app.wire import Payload
from convscope._errors import ConvscopeError
from convscope._io import write_text
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
def static_files() -> Mapping[str, Payload]:
    """The files of the app by name, read once; scripts without JSDoc, a seventh of their size."""
    loaded = {}
    for file in files("convscope._app").joinpath("static").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if file.is_file() and suffix in _TYPES:
            body = file.read_bytes()
            if suffix == ".js":  # lines keep their numbers
                body = _JSDOC.sub(lambda m: b"\n" * m[0].count(b"\n"), body)
            loaded[file.name] = Payload(body, _TYPES[suffix])
    return loaded


@cache
def compressed(name: str) -> bytes:
    """A file of the app, gzipped once."""
    return gzip.compress(static_files()[name].body, 9, mtime=0)


@cache
def index() -> bytes:
    """The page as it is served; the colors of figures stand in it."""
    if "index.html" not in static_files():
        raise ConvscopeError("The files of the app are missing from this installation: reinstall")
    return static_files()["index.html"].body.replace(_COLORS.encode(), COLORS_JSON.encode())


@cache
def policy() -> str:
    """The Content-Security-Policy: the page loads its own files and runs its own inline scripts."""
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


def inline_page(blocks: Mapping[str, Block], title: str) -> str:
    """The page as one file that needs no server: its blocks by the address they stand for."""
    text = index().decode()
    text = _STYLE.sub(lambda m: f"<style>{_file(m[1]).body.decode()}</style>", text)
    text = _MAP.sub(lambda m: m[1] + _inline_modules(m[2]) + m[3], text)
    text = _LINKED.sub(lambda m: m[1] + _data_url(_file(m[2])) + m[3], text)
    text = re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", text)
    if _DATA not in text:
        raise ConvscopeError(f"index.html has no {_DATA}")
    return text.replace(_DATA, _data_elements(blocks), 1)


def _inline_modules(imports: str) -> str:
    """The import map with the modules themselves in place of their addresses."""
    names = json.loads(imports)["imports"]
    urls = {
        name: _data_url(_file(target.removeprefix("./static/"))) for name, target in names.items()
    }
    return json.dumps({"imports": urls})


def _file(name: str) -> Payload:
    return static_files()[name]


def _data_url(file: Payload) -> str:
    return f"data:{file.media_type};base64,{base64.b64encode(file.body).decode()}"


@dataclass(frozen=True, eq=False)
class Block:
    """A payload as it stands in a page: gzipped unless it is an image, then base64."""

    media_type: str
    gzipped: bool
    text: str


def make_block(payload: Payload) -> Block:
    """Encode a payload for a page."""
    gzipped = not payload.media_type.startswith("image/")
    body = gzip.compress(payload.body, 6, mtime=0) if gzipped else payload.body
    return Block(payload.media_type, gzipped, base64.b64encode(body).decode())


def _data_elements(blocks: Mapping[str, Block]) -> str:
    """The blocks as elements, each once, and an index of their addresses."""
    numbers = {one: k for k, one in enumerate(dict.fromkeys(blocks.values()))}
    entries = {
        path: {"block": numbers[one], "type": one.media_type, "gzip": one.gzipped}
        for path, one in blocks.items()
    }
    index_text = _escape(json.dumps({"version": 1, "entries": entries}))
    head = f'<script type="application/json" id="convscope-index">{index_text}</script>'
    elements = (
        f'<script type="text/plain" id="convscope-{k}">{one.text}</script>'
        for one, k in numbers.items()
    )
    return "\n".join([head, *elements])


def _escape(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c")


FRAME_STYLE = "width:100%;height:720px;border:1px solid #8884;border-radius:6px"
"""CSS of the frame that holds the app in a notebook."""


@dataclass(frozen=True, eq=False)
class ExportedPage:
    """The app with its data as one HTML page; the last line of a notebook cell shows it.

    Attributes:
        title: Title of the page.
        html: The page itself.
        left_out: What did not fit into the size limit, in words.
    """

    title: str
    html: str
    left_out: tuple[str, ...] = ()

    @cached_property
    def size(self) -> int:
        """Size of the page in bytes."""
        return len(self.html.encode())

    def sentence(self) -> str:
        """Its size, and what was left out to stay below the limit.

        Returns:
            One line of text.
        """
        text = f"{self.size / 1e6:.1f} MB, opens from disk, needs no server"
        omitted = f"; left out to stay small: {', '.join(self.left_out)}" if self.left_out else ""
        return text + omitted

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all.

        Args:
            path: The file to write; missing folders are made.

        Returns:
            The path.
        """
        return write_text(Path(path), self.html)

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html, quote=True)}" '
            f'title="{html.escape(self.title, quote=True)}" style="{FRAME_STYLE}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"ExportedPage({self.title}: {self.sentence()})"
