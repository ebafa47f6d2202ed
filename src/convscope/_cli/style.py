"""``convscope style``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar, optimization_progress
from convscope._cli.stylized import Animate, ImageFile, Seed, parse_longer_side, write_stylized


def style(
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="Image to stylize.")],
    style_image: Annotated[
        Path, typer.Argument(metavar="STYLE", help="Image whose style is transferred.")
    ],
    model: opt.ModelName = "demo",
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers", "-l", metavar="LAYERS", help="Layers of the style loss. Repeatable."
        ),
    ] = None,
    content_layer: Annotated[
        str | None, typer.Option(metavar="PATH", help="Layer of the content loss.")
    ] = None,
    content_weight: Annotated[
        float, typer.Option(help="Weight of the content loss relative to the style loss.")
    ] = 0.2,
    smoothness: Annotated[float, typer.Option(help="Weight of the total variation.")] = 0.0,
    colors: Annotated[
        str, typer.Option(help="Image that the colors are taken from: style or content.")
    ] = "style",
    steps: Annotated[int, typer.Option(min=1, help="Number of steps per octave.")] = 80,
    octaves: Annotated[
        int, typer.Option(min=1, help="Number of sizes, each twice the one before.")
    ] = 2,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="Longer side of the output image, in pixels (default: that of the content, at "
            "most 512).",
        ),
    ] = None,
    style_scale: Annotated[
        float, typer.Option(help="Scale of the style image; larger gives coarser strokes.")
    ] = 1.0,
    seed: Seed = 0,
    animate: Animate = False,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: ImageFile = None,
    as_json: opt.Json = False,
) -> None:
    """Transfer the style of one image to another (Gatys et al., 2016).

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope._optvis import style as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar("optimizing", quiet=as_json) as bar:
        result = run(
            loaded,
            content,
            style_image,
            layers=layers,
            content_layer=content_layer,
            content_weight=content_weight,
            smoothness=smoothness,
            colors=colors,
            steps=steps,
            octaves=octaves,
            size=parse_longer_side(size),
            style_scale=style_scale,
            seed=seed,
            animate=animate,
            on_step=optimization_progress(bar),
        )
    write_stylized(result, output, f"{content.stem}.style", as_json)
