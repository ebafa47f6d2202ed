"""``convscope attribute``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import convscope as cs
from convscope._attribution.methods import METHODS
from convscope._cli import app, main


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image file in the working directory."""
    monkeypatch.chdir(tmp_path)
    cs.open_dataset("shapes,count=2,size=32").image(1).save("1.png")
    return "1.png"


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, ["attribute", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_figure_is_written_and_the_result_is_summarized(image: str) -> None:
    pytest.importorskip("captum")
    methods = ["--method", "gradcam", "--method", "integrated_gradients"]
    words = [image, *methods, "--channels", "3", "--target", "horse"]
    output = _run(*words)
    assert re.search(r"1\.png: horse \(\d+%\), score", output)
    assert re.search(r"completeness gap \S+, [\d.]+% of the change", output)
    assert len(re.findall(r"^stage2/add:\d+ ", output, re.MULTILINE)) == 3
    with Image.open("1.attribution.horse.png") as written:
        assert written.width > 400
    stored = json.loads(_run(*words, "--json"))
    assert stored["target"] == "horse"
    assert [one["method"] for one in stored["methods"]] == ["gradcam", "integrated_gradients"]


def test_options_reach_the_function(image: str) -> None:
    pytest.importorskip("captum")
    options = ["--baseline", "gray", "--randomization-test", "-l", "stage1/add", "-o", "maps.npz"]
    stored = json.loads(_run(image, "--method", "gradcam", *options, "--json"))
    assert (stored["baseline"], stored["layer"]) == ("gray", "stage1/add")
    assert next(iter(stored["methods"][0]["parameter_randomization"])).endswith(" randomized")
    assert Path("maps.npz").stat().st_size


def test_help_lists_the_methods() -> None:
    text = " ".join(re.sub(r"[│\n]", " ", _run("--help")).split())
    assert f"{', '.join(METHODS)}. Repeatable; all by default." in text
    assert "zero|gray|blurred" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-t", "99"], "No class 99 in demo: it has 10, 0 to 9"),
        (["--method", "grad-cam"], "No method 'grad-cam'. Close: 'gradcam'. Known: gradcam"),
        (["--baseline", "black"], "No baseline 'black'. Known: zero, gray, blurred"),
    ],
)
def test_errors_are_one_line(
    words: list[str], text: str, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["attribute", image, *words])
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert text in line
