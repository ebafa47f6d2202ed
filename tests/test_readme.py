"""The README leads somewhere, and stays short; its code runs in ``test_docs.py``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convscope._cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", TEXT):
        assert (ROOT / target).exists(), target


def test_it_has_a_line_for_every_verb() -> None:
    for command in app.registered_commands:
        verb = command.name or getattr(command.callback, "__name__", "")
        assert re.search(rf"^convscope {verb}\b|`convscope {verb}`", TEXT, re.MULTILINE), verb


def test_it_leads_to_every_tutorial_how_to_and_capability() -> None:
    for folder in ("tutorials", "how", "see"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert f"](docs/{folder}/{page.name})" in TEXT, page


@pytest.mark.parametrize("word", ["make demo", "make serve", "make docs", "make test"])
def test_what_it_says_of_make_is_there(word: str) -> None:
    assert word in TEXT
    assert re.search(rf"^{word.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
