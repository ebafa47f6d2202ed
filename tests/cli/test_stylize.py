"""`convscope dream` and `convscope style` as a user meets them."""

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
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3), nn.ReLU())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVSCOPE_MODEL", "net.py:make")
    (tmp_path / "net.py").write_text(NETWORK)
    pixels = np.random.default_rng(0).integers(0, 255, (36, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "gray.png")
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--input", "3,16,16", "--steps", "2"])
    return int(stop.value.code or 0)


def test_a_dream_is_a_picture_a_sheet_and_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("dream", "cat.png", "--octaves", "2", "-l", "1", "--seed", "3") == 0
    said = capsys.readouterr().out
    assert "cat.png · DeepDream of layer 1: layer 1 " in said
    assert "cat.dream.png\ncat.dream.sheet.png" in said
    assert Image.open(folder / "cat.dream.png").size == (50, 36)
    assert Image.open(folder / "cat.dream.sheet.png").width > 256
    card = json.loads((folder / "cat.dream.json").read_text())
    assert (card["steps"], card["settings"]["seed"]) == (4, 3)


def test_several_layers_a_guide_a_size_a_film(folder: Path) -> None:
    assert run("dream", "cat.png", "-l", "1", "-l", "3:2", "--size", "25", "-o", "out") == 0
    assert Image.open(folder / "out/cat.dream.png").size == (25, 18)
    assert run("dream", "cat.png", "--guide", "gray.png", "--animate", "-o", "a.png") == 0
    assert {path.name for path in folder.glob("a.*")} == {
        "a.png",
        "a.json",
        "a.webp",
        "a.sheet.png",
    }
    assert Image.open(folder / "a.webp").n_frames > 1  # type: ignore[attr-defined]


def test_a_style(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("style", "cat.png", "gray.png", "-l", "1", "--content-layer", "3", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["title"] == "cat.png · style of gray.png"
    assert card["files"] == ["cat.style.png", "cat.style.sheet.png"]
    assert Image.open(folder / "cat.style.png").size == (50, 36)


def test_maximize_has_a_film_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("maximize", "2:3", "2:1", "--size", "16", "--animate", "-o", "m.png") == 0
    assert "m.png\nm.webp" in capsys.readouterr().out
    assert Image.open(folder / "m.webp").n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["dream", "cat.png", "-l", "9"], 1, "No layer '9'"),
        (["dream", "cat.jpg"], 1, "No image 'cat.jpg'. Close: 'cat.png'"),
        (["dream", "cat.png", "--size", "big"], 1, "--size big is not understood"),
        (["style", "cat.png", "gray.png", "--colors", "no"], 1, "not 'no'"),
        (["style", "cat.png"], 2, "STYLE"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == code
    error = capsys.readouterr().err.strip()
    assert text in error
    if code == 1:
        assert error.splitlines()[-1].startswith("convscope: ")
