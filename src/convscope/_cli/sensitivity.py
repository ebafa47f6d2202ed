"""``convscope sensitivity``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.options import Data
from convscope._cli.progress import ProgressBar
from convscope._cli.tables import print_table


def sensitivity(
    dataset: Data,
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            help="brightness, contrast, hue, blur, noise, JPEG, rotation, scale, translation, "
            "occlusion, flip. Repeatable; all by default."
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Say what this unit follows. Repeatable."),
    ] = None,
    first: Annotated[
        int, typer.Option("--first", min=2, metavar="N", help="So many pictures, spread evenly.")
    ] = 64,
    pool: Annotated[
        str, typer.Option(help="A channel's answer: the mean or the peak of its map.")
    ] = "mean",
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="The overview, or a folder: every layer's curves too.",
        ),
    ] = Path("sensitivity"),
    as_json: opt.Json = False,
) -> None:
    """What channels and layers are sensitive to: controlled changes, gratings, colors."""
    from convscope._sensitivity import sensitivity as run

    loaded = opt.load_model(model, weights, preprocess, None, input_shape)
    with ProgressBar(quiet=as_json) as bar:
        found = run(
            loaded,
            dataset,
            layers,
            changes=change,
            first=first,
            pool=pool,
            size=opt.parse_size(size),
            progress=bar.update,
        )
    written = found.save(output, theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    typer.echo(found.sentence())
    names = list(found.layers[0].invariance)
    rows = [(la.layer.path, *(f"{la.overall()[n]:.2f}" for n in names)) for la in found.layers]
    print_table(("invariance", *names), rows)
    for address in unit or ():
        typer.echo(found.unit(address))
    for path in written:
        typer.echo(path)
