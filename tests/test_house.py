"""The house: no import circle of files, none hidden in a function; short files and functions."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import convscope

SOURCE = Path(convscope.__file__).parent
FILES = sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.js")])
ROOMS = sorted(path.stem for path in SOURCE.iterdir() if path.stem.strip("_").isalpha())


def test_no_file_is_part_of_an_import_circle() -> None:
    """Imports inside functions and for type checkers count as well."""
    graph = grimp.build_graph("convscope", cache_dir=None)
    sorter = TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )
    sorter.prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def test_functions_are_short() -> None:
    long = {
        f"{path.name}:{node.name}": length
        for path in FILES
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := _body_length(node)) > 35
    }
    assert not long


def _body_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, the docstring left out."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("room", ROOMS)
def test_contributing_names_every_room(room: str) -> None:
    text = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"`{room}" in text or f" {room} " in text


def test_contributing_names_files_that_exist() -> None:
    text = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(_[\w/]+(?:\.\w+|/))`", text))
    assert len(named) > 30
    assert {name for name in named if not (SOURCE / name).exists()} == set()
    tests = set(re.findall(r"`(tests/[\w/*.]+)`", text))
    root = SOURCE.parents[1]
    assert {name for name in tests if not list(root.glob(name.rstrip("/")))} == set()
