"""The report on channel health, from the command line and from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs
from convscope._cli import main
from convscope._errors import AtlasError

EVIL = "<img src=x>&"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images in two classes, one with a hostile name; a dead channel, and a copy."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(60):
        place = folder / ("plain" if k % 2 else EVIL)
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 128 + 127 * (k % 2), (24, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{k}.png")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 9, 3), nn.ReLU())
    with torch.no_grad():
        network[2].weight.abs_()  # type: ignore[operator, union-attr]
        network[0].bias[2] = -50  # type: ignore[index, operator]
        network[2].weight[1] = network[2].weight[0]  # type: ignore[index, operator]
        network[2].bias[1] = network[2].bias[0]  # type: ignore[index, operator]
    model = cs.load(network, preprocess=cs.Preprocess(size=(24, 24)))
    out = tmp_path_factory.mktemp("out") / "atlas"
    cs.scan(model, folder, out)
    return out


def test_the_command_writes_the_page_and_prints_the_results(
    atlas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(atlas)])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "17 channels in 2 layers on 60 images. These are few images" in said
    assert "1 channel is dead" in said
    text = (tmp_path / "atlas.health.html").read_text(encoding="utf-8")
    assert "<img src=x>" not in text
    assert "&lt;img src=x&gt;&amp;" in text
    assert "is dead: above zero at no position of 60 images" in text


def test_json_holds_every_finding(
    atlas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", str(atlas), "--json", "-o", str(tmp_path / "page.html")])
    assert not stop.value.code
    result = json.loads(capsys.readouterr().out)
    report = cs.report(atlas)
    assert [one["sentence"] for one in result["findings"]] == [
        finding.sentence.replace("`", "") for finding in report.findings
    ]
    dead = next(one for one in result["findings"] if one["kind"] == "dead")
    assert dead["units"] == ["0:2"]
    twins = next(one for one in result["findings"] if one["kind"] == "duplicate")
    assert sorted(twins["units"]) == ["2:0", "2:1"]
    assert result["counts"]["dead"] == result["counts"]["duplicate"] == 1
    assert result["thresholds"]["duplicate_correlation"] == 0.98
    assert np.asarray(result["cka"]).shape == (2, 2)
    assert (tmp_path / "page.html").exists()


def test_every_finding_has_its_sentence_advice_and_section_on_the_page(atlas: Path) -> None:
    report = cs.report(atlas)
    text = report.page.html()
    for finding in report.findings:
        assert finding.kind.replace(" ", "-") in text
        assert finding.sentence.endswith(".")
        assert finding.advice in text
        assert any(character.isdigit() for character in finding.sentence)
    assert "repeats" in text
    assert text.count("<svg") >= len(report.findings) + 1
    assert "data:image/webp" in text


def test_a_report_loads_no_framework(atlas: Path) -> None:
    code = (
        f"import convscope as cs, sys; cs.report({str(atlas)!r}).page.html(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "keras", "torchvision", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["report", "nowhere"],
            "'nowhere' is not a folder. Make an atlas: convscope scan DATASET -o",
        ),
        (
            ["report", "ATLAS", "-o", "page.pdf"],
            "A report is an HTML page, not 'page.pdf'. Try 'page.html'",
        ),
    ],
)
def test_errors_say_what_to_do(
    words: list[str], text: str, atlas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(atlas) if word == "ATLAS" else word for word in words])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1


def test_no_atlas_is_an_error_in_python_too(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="is not an atlas"):
        cs.report(tmp_path)
