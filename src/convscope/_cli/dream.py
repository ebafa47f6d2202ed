"""``convscope dream``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar, optimization_progress
from convscope._cli.stylized import Animate, Out, Seed, Sides, longer_side, write_stylized


def dream(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to dream on.")],
    model: opt.ModelName = "demo",
    what: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="ADDRESS",
            help="A layer, a unit (PATH:CHANNEL) or a sum; by default a layer at three "
            "quarters of the depth. Repeatable.",
        ),
    ] = None,
    guide: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="DeepDream of what the layer sees in this.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="At each size.")] = 10,
    octaves: Annotated[
        int | None, typer.Option(min=1, help="Sizes; by default down to half the model's.")
    ] = None,
    scale: Annotated[float, typer.Option(help="From one size to the next.")] = 1.4,
    rate: Annotated[float, typer.Option(help="How far a pixel moves in a step, of 0…1.")] = 0.006,
    size: Sides = None,
    tile: Annotated[int, typer.Option(help="Larger pictures are looked at in such tiles.")] = 512,
    seed: Seed = 0,
    animate: Animate = False,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Out = None,
    as_json: opt.Json = False,
) -> None:
    """DeepDream: paint into a picture what a layer sees in it.

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope._optvis import dream as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    wanted = what[0] if what and len(what) == 1 else what
    with ProgressBar("optimizing", quiet=as_json) as bar:
        made = run(
            loaded,
            image,
            wanted,
            guide=guide,
            steps=steps,
            octaves=octaves,
            scale=scale,
            rate=rate,
            size=longer_side(size),
            tile=tile,
            seed=seed,
            animate=animate,
            on_step=optimization_progress(bar),
        )
    write_stylized(made, output, f"{image.stem}.dream", as_json)
