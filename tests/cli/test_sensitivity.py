"""``convscope sensitivity``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import convscope as cs
from convscope._cli import app, main
from convscope._sensitivity.perturbations import PERTURBATIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three images."""
    root = tmp_path_factory.mktemp("images")
    shapes = cs.open_dataset("shapes,count=3,size=32")
    for k in range(3):
        shapes.image(k).save(root / f"{k}.png")
    return str(root)


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, ["sensitivity", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_folder_of_figures_is_written(folder: str, tmp_path: Path) -> None:
    words = [folder, "-l", "stage2/add", "--perturbation", "flip", "-o", str(tmp_path / "out")]
    output = _run(*words, "--unit", "stage2/add:5")
    assert "stage2/add is the most sensitive layer" in output
    assert re.search(r"^invariance +flip$", output, re.MULTILINE)
    assert re.search(r"^stage2/add:5: most sensitive to flip", output, re.MULTILINE)
    assert (tmp_path / "out" / "stage2%2Fadd.curves.png").stat().st_size
    stored = json.loads(_run(*words, "--pool", "peak", "--json"))
    assert stored["pool"] == "peak"
    assert list(stored["layers"][0]["invariance"]) == ["flip"]


def test_help_lists_the_perturbations() -> None:
    text = " ".join(re.sub(r"[│\n]", " ", _run("--help")).split())
    assert f"{', '.join(PERTURBATIONS)}. Repeatable; all by default." in text


def test_errors_are_one_line(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sensitivity", folder, "--perturbation", "blurr"])
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "No perturbation 'blurr'. Close: 'blur'" in line
