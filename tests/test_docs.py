"""The documentation: its code runs, and it is up to date."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import convscope
from convscope._cli import app

ROOT = Path(__file__).parents[1]


def _tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


pages = _tool("pages")
README = "../README.md"
NAMES = [README, *(name for name in pages.all_pages() if pages.blocks(pages.read(name)))]
HERE = [name for name in NAMES if "backend" not in pages.front(pages.read(name))]
BY_HAND = "\n".join(map(pages.read, pages.all_pages()))
COMMANDS = sorted(
    {
        command
        for name in NAMES
        for block in pages.blocks(pages.read(name))
        if block.language == "sh"
        for command in block.commands
    }
)

# The site is built from the pages as they are. Here the same code runs with less of everything that
# takes time, and with random weights where trained ones would be fetched.
LESS = {
    r"\bkeras:VGG16\b": "keras:VGG16,weights=none,include_top=false",
    r"\b(torchvision|timm):(\w+)(?![\w,])": r"\1:\2,weights=none",
    r"\bepochs=\d+": "epochs=1",
    r"--epochs \d+": "--epochs 1",
    r"\brange\(5\)": "range(1)",
    r"\bsteps=\d+": "steps=2",
    r"--steps \d+": "--steps 2",
    r"\bcount=\d{3,}": "count=120",
    r"\bsize=(224|320|256)\b": "size=96",
    r"--size (224|320|192)\b": "--size 96",
    r"\b28, ?30\b": "12,13",
    r"\b(6000|2000)\b": "120",
    r"first=500\b": "first=40",
    r"^convscope (style|maximize)(?!.*--steps)": r"convscope \1 --steps 2",
    r"^convscope sensitivity (?!.*--perturbation)": "convscope sensitivity --perturbation hue ",
    r"--channels 10\b": "--channels 1 --method gradcam",
    r"^convscope (style|dream)(?!.*--size)": r"convscope \1 --size 96",
}


def _less(code: str) -> str:
    for pattern, replacement in LESS.items():
        code = re.sub(pattern, replacement, code)
    return code


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of pages that have run, for those that begin where another one ended."""
    return {}


def _run(name: str, parent: Path, finished: dict[str, Path]) -> Path:
    if name not in finished:
        page = pages.read(name)
        folder = parent / Path(name).stem
        start = pages.front(page).get("start")
        if start:
            shutil.copytree(_run(start, parent, finished), folder)
        else:
            pages.stock(folder, page, _mnist())
            for ours, yours in (("cat", "photo"), ("coffee", "painting")):  # in the README
                shutil.copy(folder / f"{ours}.jpg", folder / f"{yours}.jpg")
        pages.run(page, folder, chosen=pages.runnable, changed=_less)
        finished[name] = folder
    return finished[name]


def _mnist() -> Path | None:
    """Real MNIST, where there is some; else scikit-learn's digits stand in for it."""
    data = os.environ.get("CONVSCOPE_TEST_DATA") or ROOT.parent / "shared" / "data"
    folder = Path(data) / "mnist"
    return folder if folder.is_dir() else None


def _needed(name: str) -> None:
    pytest.importorskip("skimage", reason="scikit-image carries the photographs")
    if "mnist" in name and not _mnist():
        pytest.importorskip("sklearn", reason="scikit-learn's digits stand in for MNIST")
    if "keras:" in pages.read(name):
        pytest.importorskip("keras")


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
@pytest.mark.parametrize("name", HERE)
def test_its_code_runs_and_makes_what_the_page_shows(
    name: str, tmp_path_factory: pytest.TempPathFactory, finished: dict[str, Path]
) -> None:
    _needed(name)
    page, folder = pages.read(name), _run(name, tmp_path_factory.mktemp("docs"), finished)
    if name == README:  # its figures are files of the repository
        return
    shown = re.findall(r"!\[[^\]]*\]\(([\w./-]+)\)|\]\((\w+\.html)\)|<!-- frame: (\S+) -->", page)
    for product in filter(None, (one for found in shown for one in found)):
        assert (folder / product).is_file(), f"{name} shows {product}"


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_keras_lives_on_other_backends_as_the_page_says(backend: str, tmp_path: Path) -> None:
    """In a process of its own: a backend is chosen before Keras is imported."""
    _needed("how/keras.md")
    if not importlib.util.find_spec(backend):
        pytest.skip(f"no {backend}")
    pages.stock(tmp_path / "page", "")
    (block, *_) = pages.blocks(pages.read("how/keras.md"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _less(block.text)],
        cwd=tmp_path / "page",
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{backend} (16, 29, 29) activation ")
    assert (tmp_path / "page" / "conv1.png").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_take_the_options_shown(command: str) -> None:
    """Also of those that cannot run here: a cluster's, a server's."""
    program, *words = shlex.split(command.partition("  #")[0])
    if program != "convscope":
        assert program in pages.OTHERS
        return
    verb, *rest = words
    help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
    for option in (word for word in rest if word.startswith("-")):
        assert option in help_text


def test_every_block_is_of_a_kind_that_runs() -> None:
    """A fence in another language, or an indented one, would escape the tests."""
    for name in pages.all_pages():
        page = pages.read(name)
        fences = re.findall(r"^ *```.+$", page, re.MULTILINE)
        assert len(fences) == len(pages.blocks(page)), f"{name}: {fences}"


def test_tutorials_are_short() -> None:
    """Ten lines of convscope at most between two looks."""
    for name in ("vgg16", "shapes", "mnist"):
        for block in pages.blocks(pages.read(f"tutorials/{name}.md")):
            lines = [line for line in block.text.splitlines() if line.strip()]
            assert len(lines) <= 10 or "cs." not in block.text, block.text


@pytest.mark.parametrize("name", sorted(set(convscope.__all__) - {"__version__"}))
def test_every_public_name_is_explained(name: str) -> None:
    """In words on a page, and in the reference."""
    reference = pages.read("reference/python.md")
    assert f"::: convscope.{name}\n" in reference
    assert f"cs.{name}" in BY_HAND, f"no page speaks of cs.{name}"


def test_every_name_of_the_reference_is_there() -> None:
    for path in re.findall(r"^::: (\S+)$", pages.read("reference/python.md"), re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name).__doc__, path


def test_every_verb_is_explained_and_in_the_reference() -> None:
    verbs = [command.name or command.callback.__name__ for command in app.registered_commands]
    reference = _tool("commands").reference()
    for verb in verbs:
        assert f"## {verb}\n" in reference
        assert f"convscope {verb}" in BY_HAND, f"no page speaks of convscope {verb}"


def test_the_reference_holds_every_option() -> None:
    sections = re.split(r"^## ", _tool("commands").reference(), flags=re.MULTILINE)[1:]
    for section in sections:
        verb = section.split("\n")[0]
        help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
        for option in set(re.findall(r"(?<!\w)--[a-z][a-z-]+", help_text)) - {"--help"}:
            assert f"`{option}`" in section or option in section, f"{verb} {option}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == pages.all_pages()


@pytest.mark.parametrize("name", [n for n in pages.all_pages() if n.startswith("see/")])
def test_every_capability_states_its_limits_and_its_sources(name: str) -> None:
    page = pages.read(name)
    for heading in ("How to read it", "(does not show|Limits)", "Papers"):
        assert re.search(rf"^## .*{heading}", page, re.MULTILINE), f"{name}: {heading}"


def _anchors(page: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#{1,3} (.+)$", page, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", words) for words in plain}


def test_links_between_pages_lead_somewhere() -> None:
    for name in pages.all_pages():
        folder = (pages.DOCS / name).parent
        for target, anchor in re.findall(
            r"(?<!!)\[[^\]]*\]\(([\w./-]+\.md)(?:#([\w-]+))?\)", pages.read(name)
        ):
            assert (folder / target).is_file(), f"{name} → {target}"
            page = (folder / target).read_text(encoding="utf-8")
            assert not anchor or anchor in _anchors(page), f"{name} → {target}#{anchor}"
