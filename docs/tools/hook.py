"""mkdocs hook: the figures and the output on a page come from the code that the page shows."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import commands
import pages

ROOT = pages.DOCS.parent
WORK = ROOT / "build" / "docs"
IMAGE = re.compile(r"!\[([^\]]*)\]\(([\w./-]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([\w./-]+\.html)\)")
FRAME = re.compile(r"<!-- frame: ([\w./-]+) -->")
MARKERS = {
    "commands": lambda found: commands.reference(),
    "gallery": lambda found: _gallery(),
    "strip: (.+?)": lambda found: _strip(found[1]),
    "bench": lambda found: _bench(),
}
BENCH = ROOT / "benchmarks" / "results" / "side-by-side.md"  # what `make bench` has measured
THUMBNAIL = 480  # longest side in the gallery, in pixels


@dataclass(frozen=True)
class PageOutput:
    """What a page's code printed, block by block, where it wrote, and a checksum of that code."""

    printed: list[str]
    folder: Path
    checksum: str


_outputs: dict[str, PageOutput] = {}


def on_files(files: Any, config: Any) -> Any:
    """Run the code of every page, and publish the files that the page shows."""
    for name in pages.all_pages():
        page = pages.read(name)
        if not pages.blocks(page) or "backend" in pages.front(page):
            continue
        output = _outputs[name] = _run(name)
        shown = {path for _, path in IMAGE.findall(page) + LINK.findall(page)}
        for product in sorted(shown | set(FRAME.findall(page))):
            if (output.folder / product).exists():
                _publish(files, config, name, product)
            elif product in FRAME.findall(page):  # mkdocs checks images and links
                raise PluginError(f"{name} shows {product}, which its code has not written")
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Insert what was printed, and link the figures in both themes."""
    name = page.file.src_uri
    for marker, fill in MARKERS.items():
        markdown = re.sub(f"<!-- {marker} -->", fill, markdown)
    markdown = re.sub(r"^::: convscope\.(\w+)$", _defined, markdown, flags=re.MULTILINE)
    if name not in _outputs:
        return markdown
    home = Path(name).stem
    markdown = _with_printed(markdown, _outputs[name].printed)
    markdown = IMAGE.sub(lambda found: _both(found, name, home), markdown)
    markdown = FRAME.sub(
        r'<iframe class="frame" loading="lazy" src="\1" title="\1"></iframe>', markdown
    )
    return LINK.sub(
        lambda found: f"[{found[1]}]({home}/{found[2]})" if _exists(name, found[2]) else found[0],
        markdown,
    )


def _defined(found: re.Match[str]) -> str:
    """A public name where it is defined: a module may have the name of its function."""
    value = getattr(importlib.import_module("convscope"), found[1])
    return f"::: {value.__module__}.{value.__qualname__}"


def _run(name: str) -> PageOutput:
    """Run a page's code, or take the output of the last build where nothing has changed."""
    page = pages.read(name)
    start = pages.front(page).get("start")
    checksum = hashlib.sha256()
    for text in (_source(), *(block.text for block in pages.blocks(page))):
        checksum.update(text.encode())
    if start:
        checksum.update(_run(start).checksum.encode())
    folder = WORK / Path(name).with_suffix("")
    record = folder.with_suffix(".json")
    if record.exists():
        known = json.loads(record.read_text())
        if known["checksum"] == checksum.hexdigest():
            return PageOutput(known["printed"], folder, known["checksum"])
    shutil.rmtree(folder, ignore_errors=True)
    if start:
        shutil.copytree(_run(start).folder, folder)
    else:
        pages.stock(folder, page)
    print(f"running {name}", file=sys.stderr, flush=True)
    with _in_both_themes():
        printed = pages.run(page, folder, chosen=_offline)
    record.write_text(json.dumps({"checksum": checksum.hexdigest(), "printed": printed}))
    return PageOutput(printed, folder, checksum.hexdigest())


def _offline(code: str) -> bool:
    return pages.runnable(code) and not pages.FETCHED.search(code)


@functools.cache
def _source() -> str:
    """A checksum of the library and of these tools, which the output depends on."""
    found = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), Path(pages.__file__)]):
        found.update(path.read_bytes())
    return found.hexdigest()


@contextlib.contextmanager
def _in_both_themes() -> Iterator[None]:
    """Save every figure again for the dark theme, in ``dark/`` beside it."""
    from convscope._plot import Sheet

    save = Sheet.save

    def twice(self: Sheet, path: Any) -> Path:
        written = save(self, path)
        if self.theme == "light":
            save(replace(self, theme="dark"), written.parent / "dark" / written.name)
        return written

    Sheet.save = twice  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sheet.save = save  # type: ignore[method-assign]


def _publish(files: Any, config: Any, name: str, product: str) -> None:
    """Publish a file, in both themes, and a thumbnail for the gallery."""
    home, folder = Path(name).with_suffix(""), _outputs[name].folder
    for path in (Path(product), Path(_dark(product))):
        if not (folder / path).exists():
            continue
        shown = [path]
        if path.suffix in (".png", ".webp"):
            shown.append(_small(path))
            _reduce(folder / path, folder / _small(path))
        for one in shown:
            files.append(File.generated(config, f"{home}/{one}", abs_src_path=str(folder / one)))


def _small(path: Path) -> Path:
    return path.parent / "small" / f"{path.stem}.webp"


def _dark(product: str) -> str:
    path = Path(product)
    return str(path.parent / "dark" / path.name)


def _reduce(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with Image.open(source) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL, 4 * THUMBNAIL), Image.Resampling.LANCZOS)
        small.save(target, "WEBP", quality=80)


def _exists(name: str, product: str) -> bool:
    return (_outputs[name].folder / product).exists()


def _with_printed(markdown: str, printed: list[str]) -> str:
    """Insert what each block printed below it."""
    for block, text in reversed(list(zip(pages.blocks(markdown), printed, strict=True))):
        if text:
            shown = f'<div class="result" markdown>\n\n```text\n{text}\n```\n\n</div>\n'
            markdown = markdown[: block.end] + shown + markdown[block.end :]
    return markdown


def _both(found: re.Match[str], name: str, home: str) -> str:
    """A figure that links to its file, for each theme where there are two."""
    words, product = found[1], found[2]
    if not _exists(name, product):
        return found[0]
    light, dark = f"{home}/{product}", f"{home}/{_dark(product)}"
    if not _exists(name, _dark(product)):
        return f"[![{words}]({light})]({light})"
    return (
        f"[![{words}]({light}#only-light)]({light}){{ .light }}"
        f"[![{words}]({dark}#only-dark)]({dark}){{ .dark }}"
    )


def _gallery() -> str:
    """Every figure of every page, linked to the code that draws it."""
    figures = []
    for name in sorted(_outputs, key=_rank):
        page = pages.read(name)
        for found in IMAGE.finditer(page):
            if _exists(name, found[2]):
                where = f"{name}#{_section(page, found.start())}"
                figures.append(
                    f'<figure markdown="span">{_thumbnail(name, found[2], found[1], where)}\n'
                    f'<figcaption markdown="span">{found[1]}</figcaption></figure>'
                )
    return "\n".join(figures)


def _rank(name: str) -> int:
    """Tutorials first, then capabilities; the first page repeats figures of others."""
    return ["tutorials", "see", "how", "reference", "index.md"].index(name.split("/")[0])


def _strip(chosen: str) -> str:
    """Some figures side by side: ``see/maps.md stage1.png, …``."""
    figures = []
    for name, product in (one.split() for one in chosen.split(",")):
        words = dict(reversed(pair) for pair in IMAGE.findall(pages.read(name)))[product]
        figures.append(_thumbnail(name, product, words, name))
    return "\n".join(figures)


def _thumbnail(name: str, product: str, words: str, where: str) -> str:
    """A thumbnail that links to ``where``, in both themes."""
    home, path = Path(name).with_suffix(""), Path(product)
    light = f"{home}/{_small(path)}"
    dark = f"{home}/{_small(Path(_dark(product)))}"
    if not _exists(name, _dark(product)):
        return f"[![{words}]({light})]({where})"
    return f"[![{words}]({light}#only-light)![{words}]({dark}#only-dark)]({where})"


def _bench() -> str:
    """The results of the benchmarks, where they have been run."""
    table = BENCH.read_text(encoding="utf-8") if BENCH.exists() else ""
    return re.sub(r"^#", "##", table, flags=re.MULTILINE)


def _section(page: str, position: int) -> str:
    """The anchor of the heading above a position."""
    from markdown.extensions.toc import slugify

    headings = re.findall(r"^#{1,3} (.+)$", page[:position], re.MULTILINE)
    return slugify(headings[-1].replace("`", ""), "-") if headings else ""
