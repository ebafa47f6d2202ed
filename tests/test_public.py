"""The public face: what is exported, and what importing it costs."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

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


def test_exported_names() -> None:
    assert convscope.__all__ == [
        "Atlas",
        "ConvscopeError",
        "Fourier",
        "Frames",
        "MaCo",
        "Model",
        "Pixels",
        "Preprocess",
        "Recipe",
        "TensorBoard",
        "Transforms",
        "__version__",
        "ablate",
        "activation_grid",
        "attribute",
        "between",
        "caricature",
        "channel",
        "checkpoints",
        "compare",
        "diagnose",
        "direction",
        "diversity",
        "dream",
        "export",
        "feature_maps",
        "filters",
        "layer",
        "load",
        "logit",
        "maximize",
        "neuron",
        "open_atlas",
        "open_dataset",
        "report",
        "scan",
        "sensitivity",
        "serve",
        "show",
        "style",
        "train",
        "watch",
    ]


@pytest.mark.parametrize("name", convscope.__all__)
def test_every_exported_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(convscope, name)
    assert name == "__version__" or value.__doc__


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
