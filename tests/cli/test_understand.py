"""attribute, ablate, sensitivity from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import convscope as cs
from convscope._cli import app, main


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of each of two classes that the built-in network knows."""
    root = tmp_path_factory.mktemp("pictures")
    shapes = cs.open_dataset("shapes,count=6,size=32")
    for k in range(6):
        place = root / ("cat" if k % 2 else "dog")
        place.mkdir(exist_ok=True)
        shapes.image(k).save(place / f"{k}.png")
    return root


def test_sensitivity_writes_a_folder(folder: Path, tmp_path: Path) -> None:
    output = _run(
        "sensitivity",
        str(folder),
        "-l",
        "stage2/add",
        "--change",
        "flip",
        "--unit",
        "stage2/add:5",
        "-o",
        str(tmp_path / "out"),
    )
    assert "stage2/add is the most sensitive layer" in output
    assert re.search(r"^stage2/add:5: most sensitive to flip", output, re.MULTILINE)
    assert (tmp_path / "out" / "stage2%2Fadd.curves.png").stat().st_size


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["sensitivity", "{unlabeled}", "--change", "blurr"], "No change 'blurr'. Close: 'blur'"),
    ],
)
def test_errors_are_one_line(
    words: list[str], text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"unlabeled": str(folder / "cat"), "picture": str(folder / "cat" / "1.png")}
    with pytest.raises(SystemExit) as stop:
        main([word.format(**names) for word in words])
    assert stop.value.code == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert text in told[0]
