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
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="brightness, contrast, hue, blur, noise, JPEG, rotation, scale, translation, "
            "occlusion, flip. Repeatable; all by default.",
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Unit (PATH:CHANNEL) to summarize. Repeatable."),
    ] = None,
    first: Annotated[
        int,
        typer.Option(
            "--first", min=2, metavar="N", help="Number of images, spread evenly over the dataset."
        ),
    ] = 64,
    pool: Annotated[
        str,
        typer.Option(
            metavar="mean|peak", help="Response of a channel: the mean or the peak of its map."
        ),
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
            help="Overview to write, or a folder for the figures of every layer too.",
        ),
    ] = Path("sensitivity"),
    as_json: opt.Json = False,
) -> None:
    """Measure how much perturbations of images change the responses of channels and layers."""
    from convscope._sensitivity import sensitivity as run

    loaded = opt.load_model(model, weights, preprocess, None, input_shape)
    with ProgressBar(quiet=as_json) as bar:
        result = run(
            loaded,
            dataset,
            layers,
            perturbations=perturbation,
            first=first,
            pool=pool,
            size=opt.parse_size(size),
            progress=bar.update,
        )
    written = result.save(output, theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
        return
    typer.echo(result.sentence())
    means = {path: one.perturbation_invariance for path, one in result.items()}
    names = list(result.layers[0].invariance)
    rows = [(path, *(f"{row[name]:.2f}" for name in names)) for path, row in means.items()]
    print_table(("invariance", *names), rows)
    for address in unit or ():
        typer.echo(result.unit_sentence(address))
    for path in written:
        typer.echo(path)
