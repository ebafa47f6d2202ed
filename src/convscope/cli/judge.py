"""Verbs that judge: diagnose, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from convscope.cli import options as opt
from convscope.cli.understand import Data, First


def diagnose(
    dataset: Data,
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    first: First = None,
    explain: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show where it looked, for N errors.")
    ] = 6,
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page.")
    ] = Path("diagnosis.html"),
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """Where a classifier fails: accuracy, calibration, confusions, groups of errors. One page."""
    from convscope.checkup import diagnose as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with opt.Steps(quiet=as_json) as steps:
        made = run(
            loaded, dataset, layers, first=first, size=opt.parse_size(size), explain=explain,
            progress=steps.count, on_step=steps.say,
        )  # fmt: skip
    path = made.save(output)
    if as_json:
        print(json.dumps(made.card(), indent=1, ensure_ascii=False))
        return
    for sentence in made.sentences():
        typer.echo(sentence)
    typer.echo(path)
    if show:
        typer.launch(str(path))


def compare(
    images: Annotated[
        str, typer.Argument(metavar="IMAGE|DATASET", help="A picture, or a dataset.")
    ],
    models: Annotated[
        list[str],
        typer.Option("--model", "-m", metavar="MODEL", help="Two networks, -m A -m B, or more."),
    ],
    layers: opt.Layers = None,
    first: First = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE|DIR", help="The overview, or a folder: "
                           "maps of the pictures that changed most too.")
    ] = Path("comparison"),
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """What changed between two networks: answers, layers, channels, maps.

    More than two are checkpoints: a strip of their maps of one picture, and an animation.
    """
    from convscope.comparison import compare as run
    from convscope.errors import UsageError

    if len(models) < 2:
        raise UsageError("One network was named; two are compared: -m A -m B")
    a, b, *more = [opt.load_model(m, None, preprocess, classes, input_shape) for m in models]
    if more:
        _strip([a, b, *more], images, layers, opt.parse_size(size), output, theme)
        return
    with opt.Steps(quiet=as_json) as steps:
        found = run(a, b, images, layers, first=first or 256, size=opt.parse_size(size),
                    progress=steps.count)  # fmt: skip
    written = found.save(output, theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.card(), indent=1, ensure_ascii=False))
        return
    for sentence in found.sentences():
        typer.echo(sentence)
    for path in written:
        typer.echo(path)


def _strip(
    states: list[Any], image: str, layers: list[str] | None, size: Any, output: Path, theme: Any
) -> None:
    from convscope.comparison import checkpoints

    found = checkpoints(states, image, layers, size=size)
    typer.echo(found.sentence())
    for suffix in (".png", ".webp"):
        typer.echo(found.save(output.with_suffix(suffix), theme=theme))
