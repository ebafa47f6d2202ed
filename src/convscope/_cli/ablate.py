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
        typer.Argument(
            metavar="UNIT...", help="Units (PATH:CHANNEL), or paths of layers: all channels."
        ),
    ],
    model: opt.ModelName = "demo",
    each: Annotated[
        bool, typer.Option("--each", help="Ablate every unit by itself, not all together.")
    ] = False,
    duplicates: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="R",
            help="Find channels whose correlation with another one is at least R (0.95, say); "
            "compare ablating them with reconstructing them from it.",
        ),
    ] = None,
    fill: Annotated[
        str,
        typer.Option(
            metavar="zero|mean", help="Value of ablated channels: 0, or their mean over the images."
        ),
    ] = "zero",
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
    """Ablate channels, and measure the accuracy drop, overall and for each class."""
    from convscope._ablation import ablate as run
    from convscope._layers import file_name

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar(quiet=as_json) as bar:
        result = run(
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
    if result.effects:
        name = file_name(units[0]) + (".duplicates" if duplicates is not None else ".ablated")
        written = result.save(output or Path(f"{name}.png"), theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
        return
    typer.echo(f"{result.images}: intact accuracy {result.intact.accuracy:.2%}")
    for effect in result.ranked[:10]:
        typer.echo(f"  {result.sentence(effect)}")
    typer.echo(written or result.note)
