"""``convscope ablate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.options import Data, FigureFile, FirstImages
from convscope._cli.progress import ProgressBar


def ablate(
    dataset: Data,
    units: Annotated[
        list[str],
        typer.Argument(metavar="UNIT...", help="Units (PATH:CHANNEL), or layers: all channels."),
    ],
    model: opt.ModelName = "demo",
    each: Annotated[bool, typer.Option("--each", help="Every unit by itself.")] = False,
    duplicates: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="R",
            help="Find channels that follow another one with this correlation (0.95), silence "
            "them, and compute them from that one.",
        ),
    ] = None,
    fill: Annotated[str, typer.Option(help="What silenced channels hold: zero or mean.")] = "zero",
    first: FirstImages = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: FigureFile = None,
    as_json: opt.Json = False,
) -> None:
    """What it costs to do without some channels: accuracy, overall and for each class."""
    from convscope._ablation import ablate as run
    from convscope._layers import file_name

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar(quiet=as_json) as bar:
        found = run(
            loaded,
            dataset,
            units,
            each=each,
            duplicates=duplicates,
            fill=fill,
            first=first,
            size=opt.parse_size(size),
            progress=bar.update,
        )
    written = None
    if found.losses:
        name = file_name(units[0]) + (".duplicates" if duplicates is not None else ".ablated")
        written = found.save(output or Path(f"{name}.png"), theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    typer.echo(f"{found.pictures}: intact accuracy {found.intact.accuracy:.2%}")
    for loss in found.worst[:10]:
        typer.echo(f"  {found.sentence(loss)}")
    typer.echo(written or found.note)
