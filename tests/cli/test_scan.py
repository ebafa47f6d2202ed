"""`convscope scan` and `convscope top` as a user meets them."""

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
    draw = np.random.default_rng(0)
    for k in range(12):
        target = tmp_path / "photos" / ("ant" if k % 2 else "bee") / f"{k}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (20, 16, 3), np.uint8)).save(target)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def scan(*words: str) -> int:
    return run("scan", "photos", "-o", "atlas", "--input", "3,16,16", *words)


def test_scan_and_look(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photos" / "ant" / "junk.png").write_bytes(b"junk")
    assert scan() == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "atlas: 10 units in 2 layers, over 12 images of photos",
        "Next: convscope report atlas   or: convscope top atlas '2:0'",
    ]
    assert "1 image could not be read and is named in the manifest" in captured.err
    assert run("top", "atlas", "2:3", "--by", "peak") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2:3: highest peak\n  1 ")
    image = Image.open(folder / "2%3A3.top.peak.png")
    assert image.text["Title"] == "2:3: highest peak"  # type: ignore[attr-defined]
    assert "model net.py:make" in image.text["Description"]  # type: ignore[attr-defined]
    assert run("top", "atlas", "0:1", "--bottom", "--theme", "dark", "-n", "2", "-o", "b.png") == 0
    assert (folder / "b.png").exists()


def test_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert scan("--json", "--top", "3", "-l", "2") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["state"]["images"], manifest["settings"]["top"]) == (12, 3)
    assert run("top", "atlas", "2:0", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["rank"] for one in listed["exemplars"]] == [0, 1, 2]
    assert len(listed["exemplars"][0]["crop"]) == 4


def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("top", "photos", "2:0") == 1
    assert "'photos' is not an atlas: it has no manifest.json" in capsys.readouterr().err
    assert scan("-l", "2") == 0
    assert scan("-l", "2", "--top", "4") == 1
    assert "holds another scan: top 9, not 4" in capsys.readouterr().err
    assert run("top", "atlas", "2") == 1
    assert capsys.readouterr().err.strip() == (
        "convscope: '2' is a layer. Give a channel of it: '2:0'"
    )
    assert run("top", "atlas", "2:9") == 1
    assert "No channel 9 in '2'" in capsys.readouterr().err


def test_ctrl_c_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope._scan.scan", interrupted)
    assert scan() == 130
    assert "run the same command again to resume" in capsys.readouterr().err
