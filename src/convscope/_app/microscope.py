"""The app with its data as one page."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FRAME = "width:100%;height:720px;border:1px solid #8884;border-radius:6px"
"""How a page stands in a notebook."""


@dataclass(frozen=True, eq=False)
class Microscope:
    """The app with its data, as one page: ``.save("microscope.html")``; draws in a notebook.

    - ``title``; ``html``: the page
    - ``left_out``: what did not fit into the size asked for, in words
    """

    title: str
    html: str
    left_out: tuple[str, ...] = ()

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return len(self.html.encode())

    def sentence(self) -> str:
        """How large it is, and what is not in it."""
        text = f"{self.size / 1e6:.1f} MB, opens from disk, asks no server"
        missing = f"; left out to stay small: {', '.join(self.left_out)}" if self.left_out else ""
        return text + missing

    def save(self, path: str | Path) -> Path:
        """Write the page."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_text(self.html, encoding="utf-8")
        return unfinished.replace(path)

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html, quote=True)}" '
            f'title="{html.escape(self.title, quote=True)}" style="{FRAME}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Microscope({self.title}: {self.sentence()})"
