"""`convscope maximize` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope._cli import main

NETWORK = """
from torch import nn
import torch

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVSCOPE_MODEL", "net.py:make")
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos/a.png")
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["maximize", *words, "--input", "3,16,16", "--steps", "4"])
    return int(stop.value.code or 0)


def test_one_unit_is_a_sheet_with_its_evidence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("2:3", "--images", "photos", "--size", "16") == 0
    assert "2:3: activation" in capsys.readouterr().out
    assert Image.open(folder / "2%3A3.maximize.png").size > (256, 256)
    result = json.loads((folder / "2%3A3.maximize.json").read_text())
    names = ("objective", "steps", "seed", "compared_images")
    assert [result[name] for name in names] == ["2:3", 4, 0, 1]
    assert len(result["curve"]) == 4


def test_a_layer_is_a_contact_sheet(folder: Path) -> None:
    assert run("2", "--size", "16", "--columns", "3") == 0
    results = json.loads((folder / "2.maximize.json").read_text())["images"]
    assert [result["objective"] for result in results] == [f"2:{k}" for k in range(6)]


def test_a_folder_holds_every_picture(folder: Path) -> None:
    assert run("2:3 - 0.5 * 2:1", "0:1", "--size", "12x16", "-o", "out") == 0
    assert {path.name for path in (folder / "out").iterdir()} == {
        "sheet.png",
        "2%3A3%20-%200.5%20%2A%202%3A1.png",
        "2%3A3%20-%200.5%20%2A%202%3A1.json",
        "0%3A1.png",
        "0%3A1.json",
    }
    assert Image.open(folder / "out/0%3A1.png").size == (16, 12)


def test_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("2:3", "--size", "16", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["objective"] == "2:3"


def test_an_unknown_unit_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("2:9") == 1
    assert (
        capsys.readouterr()
        .err.strip()
        .splitlines()[-1]
        .startswith("convscope: No channel 9 in '2'")
    )
