"""``convscope ablate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import convscope as cs
from convscope._cli import app, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of each of two classes of the built-in network."""
    root = tmp_path_factory.mktemp("images")
    shapes = cs.open_dataset("shapes,count=6,size=32")
    for k in range(6):
        place = root / ("cat" if k % 2 else "dog")
        place.mkdir(exist_ok=True)
        shapes.image(k).save(place / f"{k}.png")
    return root


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, ["ablate", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_accuracy_drops_are_listed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "drop.png"
    output = _run(str(folder), "stage2/add:1", "stage2/add:2", "--each", "-o", str(target))
    assert output.startswith("6 images of ")
    assert ": intact accuracy " in output
    assert "stage2/add:1: accuracy" in output
    assert target.stat().st_size
    stored = json.loads(_run(str(folder), "stage2/add:1", "--json", "-o", str(target)))
    assert len(stored["effects"]) == 1


def test_duplicates_or_a_note_that_there_are_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(folder), "stem.conv", "--first", "4", "--duplicates"]
    assert "no two channels have a correlation of 1.0 or more" in _run(*words, "1.0")
    assert not list(tmp_path.iterdir())
    assert "ablated: accuracy" in _run(*words, "0.2")
    assert [path.name for path in tmp_path.iterdir()] == ["stem.conv.duplicates.png"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["{unlabeled}", "stem.conv:1"], "is not labeled, and ablation needs labels"),
        (["shapes,count=4", "stem.conv:1"], "Classes do not match: 'shapes,count=4"),
        (["{labeled}", "stem.conv:1", "--fill", "one"], "No fill 'one'. Known: zero, mean"),
    ],
)
def test_errors_are_one_line(
    words: list[str], text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"unlabeled": str(folder / "cat"), "labeled": str(folder)}
    with pytest.raises(SystemExit) as stop:
        main(["ablate", *(word.format(**names) for word in words)])
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert text in line
