"""The public face: what is exported, with which signatures and words, and what importing it costs.

``python tests/test_public.py --write`` writes ``public_api.txt`` anew; without it, what the
docstrings of public names lack is printed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_overloads

import pytest

import convscope

FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "torchvision", "timm", "matplotlib", "numpy"}


def _loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split()) & FRAMEWORKS


def _annotation(annotation: object) -> str:
    if annotation is None or isinstance(annotation, str):
        return str(annotation)
    return getattr(annotation, "__name__", repr(annotation))


def _parameter(parameter: inspect.Parameter) -> str:
    """As it is written, but for a default that is a function."""
    star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    text = star.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return text
    return f"{text} = {'…' if callable(parameter.default) else repr(parameter.default)}"


def _signature(function: Callable[..., Any]) -> str:
    """``(a: int, *, b: str = "c") -> float``, without what a method is bound to."""
    signature = inspect.signature(function)
    words, starred = [], False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words.append("*")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        words.append(_parameter(parameter))
    returned = signature.return_annotation
    end = "" if returned is signature.empty else f" -> {_annotation(returned)}"
    return f"({', '.join(words)}){end}"


SPOKEN = ("__init__", "__call__", "__getitem__", "__iter__", "__len__", "__add__", "__mul__")


def _members(value: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, what is documented and what is called, of the members that a user gets of a class."""
    ours = [base for base in value.__mro__ if base.__module__.startswith("convscope")]
    for name in sorted({name for base in ours for name in vars(base)}):
        if name.startswith("_") and name not in SPOKEN:
            continue
        member = next(vars(base)[name] for base in ours if name in vars(base))
        if isinstance(member, (staticmethod, classmethod)):
            yield name, member, member.__func__
        elif isinstance(member, property):
            yield name, member, member.fget
        elif isinstance(member, cached_property):
            yield name, member, member.func
        elif inspect.isfunction(member):
            made = name == "__init__" and value.__name__ not in convscope.__all__
            if not made:  # results are not made by users
                yield name, member, member


def _lines(name: str, value: Any) -> Iterator[str]:
    """A public name as ``public_api.txt`` has it."""
    if inspect.isfunction(value):
        for one in get_overloads(value) or [value]:
            yield f"{name}{_signature(one)}"
    elif inspect.isclass(value):
        yield f"class {name}"
        for one in fields(value) if is_dataclass(value) else ():
            if not one.name.startswith("_"):
                yield f"    {name}.{one.name}: {_annotation(one.type)}"
        for inner, member, function in _members(value):
            if isinstance(member, (property, cached_property)):
                returned = inspect.signature(function).return_annotation
                yield f"    {name}.{inner}: {_annotation(returned)}"
                continue
            for one in get_overloads(function) or [function]:
                yield f"    {name}.{inner}{_signature(one)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _imported(module: str) -> dict[str, tuple[str, str]]:
    """Where the names that a module imports come from, also those for type checkers alone."""
    path = sys.modules[module].__file__
    assert path
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }


def _named(word: str, module: str) -> Any:
    """What a name of an annotation stands for in a module; None for what is not ours."""
    found = getattr(sys.modules[module], word, None)
    if found is None and word in _imported(module):
        source, name = _imported(module)[word]
        if source.startswith("convscope"):
            found = getattr(importlib.import_module(source), name)
    return found


# What a public class returns for other rooms, not for users.
INNER = {"BoundObjective", "Layout", "Page", "Session", "StoredMap", "Tile"}


@cache
def _public() -> dict[str, Any]:
    """The exported names, and the classes of what their functions return, but for inner ones."""
    found = {name: getattr(convscope, name) for name in convscope.__all__}
    waiting = list(found.values())
    while waiting:
        value = waiting.pop()
        functions = [f for *_, f in _members(value)] if inspect.isclass(value) else [value]
        for function in filter(inspect.isfunction, functions):
            returned = _annotation(inspect.signature(function).return_annotation)
            for word in re.findall(r"[A-Z]\w+", returned):
                kind = _named(word, function.__module__)
                ours = inspect.isclass(kind) and kind.__module__.startswith("convscope.")
                if ours and kind.__name__ not in {*found, *INNER}:
                    found[kind.__name__] = kind
                    waiting.append(kind)
    return dict(sorted(found.items()))


def api() -> str:
    """The whole public surface, a line for each name, method and overload."""
    lines = [line for name, value in _public().items() for line in _lines(name, value)]
    return "\n".join(lines) + "\n"


PINNED = Path(__file__).with_name("public_api.txt")


def test_the_public_api_is_what_was_agreed() -> None:
    """By name and by signature; a change that is meant: ``python tests/test_public.py --write``."""
    assert api().splitlines() == PINNED.read_text(encoding="utf-8").splitlines()


def test_the_stub_is_the_one_table_of_public_names() -> None:
    stub = ast.parse(Path(convscope.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    names = [
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted([*names, "__version__"]) == convscope.__all__


@pytest.mark.parametrize("name", convscope.__all__)
def test_every_exported_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(convscope, name)
    assert name == "__version__" or value.__doc__


SHAPE = re.compile(r"\((?:\*?[A-Z]\w*|\d+|\w+)(?:,? [×]? ?[*…]?\w*|,)+\)|\bshape\b|\bscalar\b")
ARRAY = re.compile(r"NDArray|Tensor|ndarray")


def lacking(name: str, value: Any) -> Iterator[str]:
    """What the docstring of a public name should say and does not."""
    text = inspect.getdoc(value) or ""
    if not text:
        yield f"{name}: no docstring"
        return
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        explained = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
        for parameter in signature.parameters:
            if not re.search(rf"^ +\*{{0,2}}{parameter}( \(.*\))?:", explained, re.MULTILINE):
                yield f"{name}: Args lacks {parameter}"
        if _annotation(signature.return_annotation) != "None" and "\nReturns:\n" not in text:
            yield f"{name}: no Returns"
        if ARRAY.search(_signature(value)) and not SHAPE.search(text):
            yield f"{name}: no shapes of its arrays"
    if inspect.isclass(value):
        for inner, member, function in _members(value):
            documented = inspect.getdoc(member) or ""
            if inner.startswith("__"):
                continue
            if not documented:
                yield f"{name}.{inner}: no docstring"
            if ARRAY.search(_signature(function)) and not SHAPE.search(documented):
                yield f"{name}.{inner}: no shapes of its arrays"


def _gaps() -> list[str]:
    """What all docstrings lack."""
    return [line for name, value in _public().items() for line in lacking(name, value)]


def test_every_class_that_users_get_is_in_the_reference() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "python.md"
    listed = re.findall(r"^::: \S+\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert not {name for name, value in _public().items() if inspect.isclass(value)} - {*listed}


def test_docstrings_explain_arguments_results_and_shapes() -> None:
    assert not _gaps()


def _returns_any(name: str, value: Any) -> Iterator[str]:
    if inspect.isfunction(value):
        for one in get_overloads(value) or [value]:
            returned = _annotation(inspect.signature(one).return_annotation)
            if re.search(r"\bAny\b", re.sub(r"(dict\[str, |NDArray\[)Any\]", "", returned)):
                yield f"{name} -> {returned}"
    elif inspect.isclass(value):
        for inner, _, function in _members(value):
            if (name, inner) != ("Model", "module"):  # a keras.Model cannot be named without Keras
                yield from _returns_any(f"{name}.{inner}", function)


def test_no_public_function_returns_any() -> None:
    found = [text for name, value in _public().items() for text in _returns_any(name, value)]
    assert not found


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'feature_map'"):
        convscope.feature_map  # noqa: B018


def test_rooms_are_private() -> None:
    rooms = [path.stem for path in Path(convscope.__file__).parent.iterdir()]
    assert all(room.startswith("_") for room in rooms if room != "py")


def test_importing_convscope_loads_no_framework() -> None:
    assert _loaded_by("import convscope") == set()


def test_help_loads_no_framework() -> None:
    code = """
import sys
from convscope._cli import main
for words in (["--help"], ["maps", "--help"]):
    try:
        main(words)
    except SystemExit as stop:
        assert not stop.code
"""
    assert _loaded_by(code) == set()


def test_images_and_figures_need_no_framework() -> None:
    loaded = _loaded_by("import convscope._plot, convscope._images, convscope._layers")
    assert loaded == {"numpy"}


@pytest.mark.parametrize("name", ["torch", "keras", "torchvision", "timm"])
def test_data_needs_no_framework(name: str) -> None:
    assert name not in _loaded_by("import convscope._data")


def test_version_is_that_of_the_project() -> None:
    import tomllib

    project = Path(__file__).parents[1] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == convscope.__version__


def test_every_module_imports_on_its_own() -> None:
    root = Path(convscope.__file__).parent
    for path in root.rglob("*.py"):
        name = ".".join(("convscope", *path.relative_to(root).with_suffix("").parts))
        importlib.import_module(name.removesuffix(".__init__"))


def test_the_command_line_lets_threads_sleep_unless_the_user_says_otherwise() -> None:
    code = """
import os, contextlib
from convscope._cli import main
for words in (["--version"], ["--version"]):
    with contextlib.suppress(SystemExit):
        main(words)
    print(os.environ["OMP_WAIT_POLICY"])
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
"""
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split()[2::3] == ["PASSIVE", "ACTIVE"], done.stdout + done.stderr


def _main() -> None:
    if "--write" in sys.argv:
        PINNED.write_text(api(), encoding="utf-8")
        return
    print(*_gaps(), sep="\n")


if __name__ == "__main__":
    _main()
