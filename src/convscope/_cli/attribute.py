"""``convscope attribute``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convscope._attribution.methods import METHODS
from convscope._cli import options as opt
from convscope._cli.options import FigureFile
from convscope._cli.progress import ProgressBar
from convscope._cli.tables import print_table


def attribute(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    model: opt.ModelName = "demo",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="CLASS|ADDRESS",
            help="A class by name or number, or a unit (PATH:CHANNEL[@Y,X]); by default the class "
            "that is predicted.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help=f"{', '.join(METHODS)}. Repeatable; all by default."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", "-l", metavar="LAYER", help="For Grad-CAM and --channels."),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="List the N channels that mattered most."),
    ] = 0,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also ask copies with shuffled weights.")
    ] = False,
    baseline: Annotated[
        str, typer.Option(help="What shows nothing: black, gray or blurred.")
    ] = "black",
    atlas: Annotated[
        Path | None,
        typer.Option(metavar="ATLAS", help="Show what the --channels respond to most in it."),
    ] = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: FigureFile = None,
    as_json: opt.Json = False,
) -> None:
    """Why this answer: where in the picture, and through which channels."""
    from convscope._attribution.attribute import attribute as run
    from convscope._layers import figure_name

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar(quiet=as_json) as bar:
        found = run(
            loaded,
            image,
            target,
            method=method or tuple(METHODS),
            layer=layer,
            channels=channels,
            sanity=sanity,
            baseline=baseline,
            size=opt.parse_size(size),
            atlas=atlas,
            on_step=bar.describe,
        )
    name = figure_name(image.name, f"why.{found.target.replace(' ', '-')}", ".png")
    written = found.save(output or Path(name), theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    typer.echo(found.sentence())
    for line in found.sentences():
        typer.echo(f"  {line}")
    if found.channels:
        print_table(
            ("channel", "share", "cost if silenced"),
            [(c.address, f"{c.share:.3g}", f"{c.cost:.3g}") for c in found.channels.listed],
        )
    typer.echo(written)
