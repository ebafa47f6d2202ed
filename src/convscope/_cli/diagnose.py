"""``convscope diagnose``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.options import Data, FirstImages
from convscope._cli.progress import ProgressBar


def diagnose(
    dataset: Data,
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    first: FirstImages = None,
    explain: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of errors to explain with Grad-CAM.")
    ] = 6,
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ] = Path("diagnosis.html"),
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """Diagnose a classifier: accuracy, calibration, confusions, failure groups.

    Predicts labeled images in one pass, and writes one self-contained HTML page.
    """
    from convscope._reports.diagnosis import diagnose as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar(quiet=as_json) as bar:
        report = run(
            loaded,
            dataset,
            layers,
            first=first,
            size=opt.parse_size(size),
            explain=explain,
            progress=bar.update,
            on_step=bar.describe,
        )
    path = report.save(output)
    if as_json:
        print(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
        return
    for sentence in report.sentences():
        typer.echo(sentence)
    typer.echo(path)
    if show:
        typer.launch(str(path))
