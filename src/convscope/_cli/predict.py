"""``convscope predict``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from convscope._cli import options as opt


def predict(
    images: opt.Images,
    model: opt.ModelName = "demo",
    top: Annotated[int, typer.Option(min=1, help="Number of classes to list.")] = 5,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    size: opt.Size = None,
    as_json: opt.Json = False,
) -> None:
    """Predict the most probable classes of each image."""
    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    sides = opt.parse_size(size)
    results = {
        str(image): loaded.predict(loaded.prepare(image, size=sides), top=top) for image in images
    }
    if as_json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
        return
    for image, ranked in results.items():
        typer.secho(image, bold=True)
        for name, probability in ranked:
            bar = "█" * round(24 * probability)
            typer.echo(f"  {probability:7.2%}  {name}  " + typer.style(bar, fg="cyan"))
    typer.secho(f"preprocessing: {loaded.input.preprocess.describe()}", dim=True)
