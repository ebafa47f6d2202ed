"""The command line as a user meets it: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope._cli import main
from convscope._cli.options import parse_channels, parse_range, parse_shape, parse_size
from convscope._errors import UsageError

NETWORK = """
from torch import nn
import torch

def make(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                         nn.Conv2d(width, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(6, 3))
"""


class Run:
    """Runs the command line in a folder of its own; ``code``, ``out`` and ``err`` of the last."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str) -> Run:
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        self.code = int(stop.value.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return self


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVSCOPE_MODEL", "net.py:make")
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "net.py").write_text(NETWORK)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a photo.png")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "b.png")
    return Run(tmp_path, capsys)


def test_layers_prints_the_tree(run: Run) -> None:
    assert run("layers").code == 0
    first = run.out.splitlines()[1].split()
    assert first == ["0", "Conv2d", "4×222×222", "112", "3×3,", "stride", "1"]
    assert "Next: convscope maps IMAGE -m net.py:make" in run.out


def test_layers_as_json(run: Run) -> None:
    found = json.loads(run("layers", "--json", "--input", "3,20,30").out)
    assert found[0] == {
        "path": "0",
        "kind": "Conv2d",
        "shape": [4, 18, 28],
        "parameters": 112,
        "families": ["conv"],
        "depth": 0,
        "container": False,
        "function": False,
        "refusal": "",
        "receptive_field": {"size": [3, 3], "stride": [1.0, 1.0], "text": "3×3, stride 1"},
    }


def test_predict(run: Run, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nfrog\n")
    found = json.loads(run("predict", "b.png", "--classes", "names.txt", "--json").out)
    assert {name for name, _ in found["b.png"]} == {"cat", "dog", "frog"}
    assert sum(p for _, p in found["b.png"]) == pytest.approx(1)
    run("predict", "b.png", "--top", "1")
    assert "class " in run.out
    assert "preprocessing: 0…1 (assumed" in run.out


def test_maps_writes_one_figure_per_layer_under_its_own_name(run: Run) -> None:
    run("maps", "a photo.png", "-l", "0", "-l", "kind=relu", "-n", "2")
    assert run.out.split("\n")[:2] == ["a%20photo.0.png", "a%20photo.1.png"]
    assert all((run.folder / name).stat().st_size for name in run.out.split())


def test_maps_to_one_file(run: Run) -> None:
    assert run("maps", "b.png", "-l", "3", "-o", "out/maps.webp").out == "out/maps.webp\n"
    with Image.open(run.folder / "out/maps.webp") as image:
        assert image.format == "WEBP"


def test_maps_of_many_go_into_a_folder(run: Run) -> None:
    run("maps", "a photo.png", "b.png", "-l", "0", "-o", "out", "--npz", "--preprocessed")
    names = {path.name for path in (run.folder / "out").iterdir()}
    assert names == {
        f"{image}.{what}"
        for image in ("a%20photo", "b")
        for what in ("0.png", "0.npz", "preprocessed.png")
    }


def test_figures_of_one_name_do_not_overwrite_each_other(run: Run) -> None:
    for folder in ("one", "two"):
        (run.folder / folder).mkdir()
        (run.folder / folder / "b.png").write_bytes((run.folder / "b.png").read_bytes())
    run("maps", "one/b.png", "two/b.png", "-l", "0", "-o", "out")
    assert run.out.split() == ["out/b.0.png", "out/two%20b.0.png"]


def test_one_name_for_several_layers_is_kept(run: Run) -> None:
    run("maps", "b.png", "-l", "0", "-l", "3", "-o", "mine.png")
    assert run.out.split() == ["mine.0.png", "mine.3.png"]


@pytest.mark.parametrize(
    "options",
    [
        ["--overview"],
        ["--overlay", "--range", "layer"],
        ["--cmap", "signed", "--theme", "dark", "--range=-1,1"],
        ["-c", "3,0-1", "--columns", "2", "--size", "40x60"],
        ["--receptive-field", "5,9", "--size", "40x60"],
    ],
)
def test_ways_to_draw(run: Run, options: list[str]) -> None:
    run("maps", "b.png", "-l", "0", "-o", "x.png", *options)
    assert run.code == 0, run.err
    assert (run.folder / "x.png").exists()


def test_filters(run: Run) -> None:
    assert run("filters", "-l", "0").out == "filters.0.png\n"
    assert run("filters", "-l", "3", "-o", "f.png", "--inputs", "0-1").code == 0


def test_train_then_look(run: Run) -> None:
    run("train", "shapes,count=60,size=16", "-o", "net.safetensors", "--epochs", "1", "--json")
    metadata = json.loads(run.out)
    assert metadata["classes"] == ["circle", "square", "triangle", "star"]
    assert metadata["command"].startswith("convscope ")
    run("maps", "b.png", "-m", "net.safetensors", "-l", "conv1", "--cmap", "gray", "--columns", "8")
    assert run.code == 0


def test_an_untrained_network_is_noted(run: Run) -> None:
    err = run("layers", "-m", "net.py:make,width=40").err
    assert "note: net.py:make,width=40 looks untrained" in err


def test_version_and_help(run: Run) -> None:
    from convscope import __version__

    assert run("--version").out == f"convscope {__version__}\n"
    assert run().code in (0, 2)
    for verb in ("demo", "layers", "predict", "maps", "filters", "train"):
        assert run(verb, "--help").code == 0
        assert verb in run("--help").out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["maps", "c.png"], "No image 'c.png'. Close: 'b.png'."),
        (["maps", "b.png", "-l", "conv9"], "No layer 'conv9' in net.py:make."),
        (["maps", "b.png", "-l", "0", "-c", "0,7"], "No channel 7 in '0' of net.py:make: it has 4"),
        (["maps", "b.png", "-c", "x"], "--channels x is not understood. Write 3,7,12-20"),
        (["maps", "b.png", "--range", "wide"], "--range wide is not understood."),
        (["maps", "b.png", "--size", "big"], "--size big is not understood."),
        (["maps", "b.png", "--cmap", "virids"], "No color map 'virids'. Close: 'viridis'."),
        (["maps", "b.png", "-l", "0", "-o", "x.bmp"], "Try 'x.png'"),
        (["maps", "b.png", "-l", "0", "--receptive-field", "3"], "3 is no position. Write row"),
        (["maps", "b.png", "-l", "0", "--receptive-field", "99,0"], "No position 99,0 in '0' of"),
        (["layers", "-m", "net.py:make,weight=none"], "No option 'weight' in"),
        (["maps", "b.png", "--preprocess", "mean=0.5,0.5"], "parted by slashes: mean=0.5/0.5/0.5"),
        (["layers", "--input", "3"], "--input 3 is not understood."),
        (["predict", "b.png", "--classes", "none.txt"], "--classes none.txt: No such file"),
        (["layers", "-m", "net.py:mak"], "No 'mak' in net.py. Close: 'make'."),
        (["filters", "-l", "1"], "has no kernel"),
        (["train", "nowhere", "-o", "x.safetensors"], "No dataset 'nowhere'."),
    ],
)
def test_errors_are_one_line(run: Run, words: list[str], text: str) -> None:
    run(*words)
    assert run.code == 1
    lines = [line for line in run.err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1
    assert lines[0].startswith("convscope: ")
    assert text in lines[0]


def test_usage_errors_exit_with_2(run: Run) -> None:
    assert run("maps").code == 2
    assert run("map", "b.png").code == 2
    assert run("maps", "b.png", "--columns", "0").code == 2


def test_debug_shows_the_traceback(run: Run) -> None:
    from convscope._errors import ImageError

    with pytest.raises(ImageError):
        main(["maps", "c.png", "--debug"])


def test_ctrl_c_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope._models.load", interrupted)
    run("layers")
    assert run.code == 130
    assert "Traceback" not in run.err


def test_parsers() -> None:
    assert parse_channels("3,7,12-14") == [3, 7, 12, 13, 14]
    assert parse_channels(None) is None
    assert parse_shape("3,20,30") == (3, 20, 30)
    assert parse_size("160x224") == (160, 224)
    assert parse_size("64") == (64, 64)
    assert parse_range("-1,2.5") == (-1.0, 2.5)
    with pytest.raises(UsageError):
        parse_channels("7-3")
