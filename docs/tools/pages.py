"""The code on a page of the documentation, run as a reader would: top to bottom, in one folder.

The site's figures and printed lines come from here (``hook.py``), and so do the tests
(``tests/test_docs.py``), which run the same code with fewer steps. A page is Markdown. ``python``
blocks share their names, and one with a title is the file of that name; of ``sh`` blocks the lines
that begin with ``convscope`` are run. Front matter states what a page needs:

    ---
    start: tutorials/shapes.md     files that another page made
    backend: tensorflow            runs in a process of its own, and only in the tests
    ---
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shlex
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[1]
FENCE = re.compile(r"^```(python|sh)(?: title=\"(.+?)\")?\n(.*?)^```$\n?", re.DOTALL | re.MULTILINE)
# Pretrained weights would be downloaded: such code is shown, and tested with random weights.
FETCHED = re.compile(r"\b(?:torchvision|timm|keras):\w+(?![\w]*,weights=none)")
# What neither a build nor a test can run: a server, a cluster, a dataset of a million images.
ELSEWHERE = re.compile(r"^convscope serve|--address|/data/")
OTHERS = (".", "pip", "make", "ssh", "export", "ray")  # shown only
SPLITS = {"train": 1500, "t10k": 297}  # digits to train on, and to test


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title (a file to write), its text, and where it ends."""

    language: str
    title: str
    text: str
    end: int

    @property
    def commands(self) -> list[str]:
        """The commands of a ``sh`` block, comments and continued lines taken care of."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [re.split(r"\s+#", line)[0].strip() for line in lines if line.strip()]


def blocks(page: str) -> list[Block]:
    return [Block(m[1], m[2] or "", m[3], m.end()) for m in FENCE.finditer(page)]


def front(page: str) -> dict[str, str]:
    """The first lines of a page, where they stand between dashes."""
    found = re.match(r"---\n(.*?)\n---\n", page, re.DOTALL)
    return dict(line.split(": ", 1) for line in found[1].splitlines()) if found else {}


def all_pages() -> list[str]:
    """Paths of the pages in ``docs/``, in order."""
    return sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def run(
    page: str,
    folder: Path,
    *,
    chosen: Callable[[str], bool] = lambda code: True,
    changed: Callable[[str], str] = lambda code: code,
) -> list[str]:
    """Run a page's code in ``folder``; returns what each block printed.

    ``chosen`` tells whether a Python block or a command is run; ``changed`` rewrites it.
    """
    names: dict[str, object] = {"__name__": "__page__"}
    printed = []
    with _inside(folder):
        for block in blocks(page):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                if block.title:
                    Path(block.title).write_text(block.text, encoding="utf-8")
                elif block.language == "python" and chosen(block.text):
                    _execute(changed(block.text), names)
                for command in block.commands if block.language == "sh" else []:
                    if command.startswith("convscope ") and chosen(command):
                        print(_command(changed(command)), end="")
            printed.append(output.getvalue().strip("\n"))
    return printed


def runnable(code: str) -> bool:
    """Whether a block can be run at all, here and in the tests."""
    return not ELSEWHERE.search(code)


def _execute(code: str, names: dict[str, object]) -> None:
    # Compiled with its own text, so that a failure shows the line of the page.
    exec(compile(code, f"<page: {code.splitlines()[0]} …>", "exec"), names)


def _command(command: str) -> str:
    """Run ``convscope …`` and return what it prints."""
    from typer.testing import CliRunner

    from convscope._cli import app

    done = CliRunner().invoke(app, shlex.split(command)[1:], env={"COLUMNS": "96"})
    if done.exit_code:
        raise RuntimeError(f"{command}\n{done.output}") from done.exception
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def stock(folder: Path, page: str, mnist: Path | None = None) -> None:
    """Write the files that a page reads: photographs of scikit-image, and digits where needed.

    The cat is by Stéfan van der Walt, the coffee by Rachel Michetti (both CC0), the rocket by
    SpaceX (public domain). ``mnist`` is a folder of MNIST's four files, whose first digits are
    used; without it, scikit-learn's 8×8 digits are enlarged.
    """
    from PIL import Image
    from skimage import data

    (folder / "photos").mkdir(parents=True)
    for name in ("cat", "coffee", "rocket"):
        photograph = Image.fromarray(getattr(data, name)())
        for path in (folder / f"{name}.jpg", folder / "photos" / f"{name}.jpg"):
            photograph.save(path, quality=92)
    if "mnist" in page.lower():
        raw = folder / "mnist" / "MNIST" / "raw"  # where torchvision looks for them
        raw.mkdir(parents=True)
        _unpack(mnist, raw) if mnist else _digits(raw)


def _unpack(source: Path, target: Path) -> None:
    for path in source.glob("*ubyte.gz"):
        data = gzip.decompress(path.read_bytes())
        sides = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sides)
        _write_idx(target / path.stem, values[: SPLITS[path.name.partition("-")[0]]])


def _digits(target: Path) -> None:
    """scikit-learn's 1,797 digits as 28×28 pixels in MNIST's format."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = (digits.images * (255 / 16)).astype(np.uint8)
    large = np.zeros((len(small), 28, 28), np.uint8)
    for one, out in zip(small, large, strict=True):  # as MNIST's, with a border of 4 pixels
        enlarged = Image.fromarray(one).resize((20, 20), Image.Resampling.BICUBIC)
        out[4:24, 4:24] = np.asarray(enlarged)
    for name, split in (("train", slice(SPLITS["train"])), ("t10k", slice(-SPLITS["t10k"], None))):
        _write_idx(target / f"{name}-images-idx3-ubyte", large[split])
        _write_idx(target / f"{name}-labels-idx1-ubyte", digits.target[split].astype(np.uint8))


def _write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.tobytes())
