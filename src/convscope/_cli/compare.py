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
        str, typer.Argument(metavar="IMAGE|DATASET", help="A picture, or a dataset.")
    ],
    models: Annotated[
        list[str],
        typer.Option("--model", "-m", metavar="MODEL", help="Two networks, -m A -m B, or more."),
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
            help="The overview, or a folder: maps of the pictures that changed most too.",
        ),
    ] = Path("comparison"),
    as_json: opt.Json = False,
) -> None:
    """What changed between two networks: answers, layers, channels, maps.

    More than two are checkpoints: a strip of their maps of one picture, and an animation.
    """
    from convscope._comparison import compare as run
    from convscope._errors import UsageError

    if len(models) < 2:
        raise UsageError("One network was named; two are compared: -m A -m B")
    a, b, *more = [opt.load_model(m, None, preprocess, classes, input_shape) for m in models]
    if more:
        _strip([a, b, *more], images, layers, opt.parse_size(size), output, theme)
        return
    with ProgressBar(quiet=as_json) as bar:
        found = run(
            a,
            b,
            images,
            layers,
            first=first or 256,
            size=opt.parse_size(size),
            progress=bar.update,
        )
    written = found.save(output, theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    for sentence in found.sentences():
        typer.echo(sentence)
    for path in written:
        typer.echo(path)


def _strip(
    states: list[Any], image: str, layers: list[str] | None, size: Any, output: Path, theme: Any
) -> None:
    from convscope._comparison import checkpoints

    found = checkpoints(states, image, layers, size=size)
    typer.echo(found.sentence())
    for suffix in (".png", ".webp"):
        typer.echo(found.save(output.with_suffix(suffix), theme=theme))
