"""``convscope compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from convscope._cli import options as opt
from convscope._cli.options import FirstImages
from convscope._cli.progress import ProgressBar


def compare(
    images: Annotated[
        str, typer.Argument(metavar="IMAGE|DATASET", help="An image file, or a dataset.")
    ],
    models: Annotated[
        list[str],
        typer.Option(
            "--model", "-m", metavar="MODEL", help="Model to compare; give two or more: -m A -m B."
        ),
    ],
    layers: opt.Layers = None,
    first: FirstImages = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="File for the figure, or folder for the figure and the maps of changed images.",
        ),
    ] = Path("comparison"),
    as_json: opt.Json = False,
) -> None:
    """Compare two networks: predictions, layers, channels, maps.

    Three or more are checkpoints of one network: a figure of their maps on one image, and an
    animation.
    """
    from convscope._comparison import compare as run
    from convscope._errors import UsageError

    if len(models) < 2:
        raise UsageError("Only one model was given. Give two: -m A -m B")
    a, b, *more = [opt.load_model(m, None, preprocess, classes, input_shape) for m in models]
    if more:
        _compare_checkpoints([a, b, *more], images, layers, opt.parse_size(size), output, theme)
        return
    with ProgressBar(quiet=as_json) as bar:
        result = run(
            a,
            b,
            images,
            layers,
            first=first or 256,
            size=opt.parse_size(size),
            progress=bar.update,
        )
    written = result.save(output, theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
        return
    for sentence in result.sentences():
        typer.echo(sentence)
    for path in written:
        typer.echo(path)


def _compare_checkpoints(
    models: list[Any], image: str, layers: list[str] | None, size: Any, output: Path, theme: Any
) -> None:
    from convscope._comparison import checkpoints

    result = checkpoints(models, image, layers, size=size)
    typer.echo(result.sentence())
    for suffix in (".png", ".webp"):
        typer.echo(result.save(output.with_suffix(suffix), theme=theme))
