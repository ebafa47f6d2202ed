"""``convscope style``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar, optimization_progress
from convscope._cli.stylized import Animate, Out, Seed, longer_side, write_stylized


def style(
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="The picture to paint over.")],
    manner: Annotated[Path, typer.Argument(metavar="STYLE", help="Whose style it takes.")],
    model: opt.ModelName = "demo",
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", "-l", metavar="LAYERS", help="That hold the style. Repeatable."),
    ] = None,
    content_layer: Annotated[
        str | None, typer.Option(metavar="PATH", help="That holds the content.")
    ] = None,
    content_weight: Annotated[
        float, typer.Option(help="Of the content beside the style; the same for every network.")
    ] = 0.2,
    smoothness: Annotated[float, typer.Option(help="Weight of the total variation.")] = 0.0,
    colors: Annotated[str, typer.Option(help="Those of the style, or of the content.")] = "style",
    steps: Annotated[int, typer.Option(min=1, help="At each size.")] = 80,
    octaves: Annotated[int, typer.Option(min=1, help="Sizes, each twice the one before.")] = 2,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="Of the picture's longer side; by default its own, 512 at the most.",
        ),
    ] = None,
    style_scale: Annotated[float, typer.Option(help="Larger: coarser strokes.")] = 1.0,
    seed: Seed = 0,
    animate: Animate = False,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Out = None,
    as_json: opt.Json = False,
) -> None:
    """Paint a picture in the style of another (Gatys et al., 2016).

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope._optvis import style as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar("optimizing", quiet=as_json) as bar:
        made = run(
            loaded,
            content,
            manner,
            layers=layers,
            content_layer=content_layer,
            content_weight=content_weight,
            smoothness=smoothness,
            colors=colors,
            steps=steps,
            octaves=octaves,
            size=longer_side(size),
            style_scale=style_scale,
            seed=seed,
            animate=animate,
            on_step=optimization_progress(bar),
        )
    write_stylized(made, output, f"{content.stem}.style", as_json)
