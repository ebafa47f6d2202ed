"""``convscope dream``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar, optimization_progress
from convscope._cli.stylized import (
    Animate,
    ImageFile,
    LongerSide,
    Seed,
    parse_longer_side,
    write_stylized,
)


def dream(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to start from.")],
    model: opt.ModelName = "demo",
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="ADDRESS",
            help="Layer, unit (PATH:CHANNEL) or sum of units to maximize (default: a layer at "
            "three quarters of the depth). Repeatable.",
        ),
    ] = None,
    guide: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Image whose activations of the layer are matched."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps per octave.")] = 10,
    octaves: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of octaves (default: down to about half of the model's input)."
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="Ratio of the sizes of two octaves.")] = 1.4,
    step_size: Annotated[
        float, typer.Option(help="Mean change of a pixel per step, of 0…1.")
    ] = 0.006,
    size: LongerSide = None,
    tile: Annotated[
        int, typer.Option(help="Side of the tiles that larger images are split into, in pixels.")
    ] = 512,
    seed: Seed = 0,
    animate: Animate = False,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: ImageFile = None,
    as_json: opt.Json = False,
) -> None:
    """Amplify the activations of a layer in an image (DeepDream).

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope._optvis import dream as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar("optimizing", quiet=as_json) as bar:
        result = run(
            loaded,
            image,
            layers[0] if layers and len(layers) == 1 else layers,
            guide=guide,
            steps=steps,
            octaves=octaves,
            scale=scale,
            step_size=step_size,
            size=parse_longer_side(size),
            tile=tile,
            seed=seed,
            animate=animate,
            on_step=optimization_progress(bar),
        )
    write_stylized(result, output, f"{image.stem}.dream", as_json)
