"""``convscope export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.options import ImageFiles
from convscope._cli.progress import ProgressBar
from convscope._errors import UsageError

_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="CONVSCOPE_MODEL",
        metavar="MODEL",
        help="The network; by default that of the atlas where its name is enough to load "
        "it (demo, torchvision:, timm:, keras:), without an atlas demo.",
    ),
]


def export(
    atlas: opt.OptionalAtlas = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")
    ] = Path("microscope.html"),
    model: _Model = None,
    image: ImageFiles = None,
    size: opt.Size = None,
    limit: Annotated[
        float, typer.Option(min=0.5, metavar="MB", help="The page grows no larger.")
    ] = 15.0,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
) -> None:
    """The microscope with its data as one HTML file: opens from disk, offline, with no server."""
    from convscope._app import export as run
    from convscope._app.server import model_of
    from convscope._atlas import open_atlas

    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"An export is a page, and {str(output)!r} is none. Try "
            f"{str(output.with_suffix('.html'))!r}"
        )
    opened = None if atlas is None else open_atlas(atlas)
    name = model or ("demo" if opened is None else model_of(opened) if image else None)
    if name is None and image:
        raise UsageError("Pictures need the network to look at them. Give it: -m MODEL")
    with ProgressBar("loading") as bar:
        loaded = (
            None
            if name is None
            else opt.load_model(name, weights, preprocess, classes, input_shape)
        )
        made = run(
            opened,
            output,
            model=loaded,
            images=image or (),
            size=opt.parse_size(size),
            most=int(limit * 1e6),
            on_step=lambda what: bar.describe(what),
        )
    typer.echo(f"{output}  {made.sentence()}")
