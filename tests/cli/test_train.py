"""``convscope train`` as a user meets it: killed, continued, watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope._cli import main

TRAIN = ("train", "shapes,count=300,size=16", "-o", "net.safetensors", "--rate", "0.05")


RUN = "from convscope._cli import main; main()"
DIE = """
import os, signal
from convscope._cli import main
from convscope._cli.progress import ProgressBar

def update(self, done, total, *_):
    if done > 0.6 * total:
        os.kill(os.getpid(), signal.SIGKILL)

ProgressBar.update = update
main()
"""


def command(folder: Path, *words: str, code: str = RUN) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    source = str(Path(convscope.__file__).parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def said(process: subprocess.Popen[str]) -> str:
    """All of stderr, once the process has ended well."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    pair = tmp_path / "killed", tmp_path / "whole"
    for folder in pair:
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "noise.png")
    return pair


def test_a_killed_run_is_continued_to_the_same_weights(folders: tuple[Path, Path]) -> None:
    killed, whole = folders
    words = (*TRAIN, "--epochs", "4", "--watch", "conv1", "--watch-image", "noise.png")
    process = command(killed, *words, code=DIE)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert (killed / "net.resume.pt").exists()

    again, uninterrupted = command(killed, *words), command(whole, *words)
    text = said(again)
    assert "where it was interrupted" in text
    assert [line[:14] for line in text.splitlines()[1:]] == ["epoch   3 of 4", "epoch   4 of 4"]
    said(uninterrupted)
    for name in ("net.safetensors", "net.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    names = sorted(str(path.relative_to(killed)) for path in killed.rglob("*.*"))
    assert names == sorted(str(path.relative_to(whole)) for path in whole.rglob("*.*"))
    for name in (name for name in names if name.endswith((".png", ".webp"))):
        with Image.open(killed / name) as one, Image.open(whole / name) as other:
            assert getattr(one, "n_frames", 1) == getattr(other, "n_frames", 1)
            assert np.array_equal(one.convert("RGB"), other.convert("RGB")), name


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def test_what_is_printed_and_written(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders[0]
    words = (*TRAIN, "--epochs", "2", "--patience", "1", "--watch", "conv1", "--watch", "pool2")
    assert run(folder, monkeypatch, *words, "--watch-image", "noise.png") == 0
    lines = capsys.readouterr().out.splitlines()
    metadata = json.loads((folder / "net.json").read_text())
    assert lines[0].startswith("net.safetensors: accuracy ")
    assert lines[1].startswith(
        f"epoch {metadata['accuracy']['epoch']} was the best on these images"
    )
    assert lines[2].startswith("most frequent confusions: ")
    assert lines[3:] == [
        "net.confusion.png",
        "net.watch/noise.conv1.webp",
        "net.watch/noise.pool2.webp",
        "Next: convscope maps IMAGE -m net.safetensors",
    ]
    with Image.open(folder / "net.watch/noise.conv1.webp") as animation:
        assert animation.n_frames == 2  # type: ignore[attr-defined]
        size = animation.size
    with Image.open(folder / "net.watch/noise.conv1.0002.png") as picture:
        assert picture.size == size
        assert picture.info["Title"].startswith("conv1 · epoch 2 of 2 · accuracy ")
        assert "from the lowest to the highest value in the 2 frames" in picture.info["Description"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--watch", "conv1"],
            "--watch conv1 needs an image. Name one: --watch-image FILE",
        ),
        (
            ["--watch-image", "noise.png"],
            "--watch-image noise.png needs a layer. Name one: --watch",
        ),
        (["--watch", "conv9", "--watch-image", "noise.png"], "No layer 'conv9' in net.safetensors"),
        (
            ["--watch", "conv1", "--watch-image", "nose.png"],
            "No image 'nose.png'. Close: 'noise.png'",
        ),
    ],
)
def test_errors_come_before_the_first_epoch(
    words: list[str],
    text: str,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(folders[0], monkeypatch, *TRAIN, *words) == 1
    err = capsys.readouterr().err
    assert text in err
    assert len(err.splitlines()) == 1
    assert not (folders[0] / "net.safetensors").exists()


def test_another_setting_is_refused_in_one_line(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders[0]

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("convscope._cli.progress.ProgressBar.print", interrupted)
        assert run(folder, monkeypatch, *TRAIN) == 130
    assert run(folder, monkeypatch, *TRAIN, "--epochs", "3") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        "convscope: net.resume.pt holds epoch 1 of a training with epochs 10, not 3. Give the same "
        "settings to continue it. To start again: --no-resume (resume=False)"
    )
    assert run(folder, monkeypatch, *TRAIN, "--epochs", "1", "--no-resume") == 0
    assert not (folder / "net.resume.pt").exists()
