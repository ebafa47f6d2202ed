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
        help="Network (default: that of the atlas, if its name is enough to load it: demo, "
        "torchvision:, timm:, keras:; without an atlas demo).",
    ),
]


def export(
    atlas: opt.OptionalAtlas = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.")
    ] = Path("microscope.html"),
    model: _Model = None,
    image: ImageFiles = None,
    size: opt.Size = None,
    limit: Annotated[
        float, typer.Option(min=0.5, metavar="MB", help="Largest size of the page, in MB.")
    ] = 15.0,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    unchecked: opt.Unchecked = False,
) -> None:
    """Export the app with its data as one HTML file that opens from disk, without a server."""
    from convscope._app.export import export as export_page
    from convscope._app.server import model_name
    from convscope._atlas import open_atlas

    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"An export is an HTML page, and {str(output)!r} is not. Try "
            f"{str(output.with_suffix('.html'))!r}"
        )
    opened = None if atlas is None else open_atlas(atlas)
    name = model or ("demo" if opened is None else model_name(opened) if image else None)
    if name is None and image:
        raise UsageError("Images need the network to compute their maps. Give it: -m MODEL")
    with ProgressBar("loading") as bar:
        loaded = (
            None
            if name is None
            else opt.load_model(name, weights, preprocess, classes, input_shape, unchecked)
        )
        exported = export_page(
            opened,
            output,
            model=loaded,
            images=image or (),
            size=opt.parse_size(size),
            max_bytes=int(limit * 1e6),
            on_step=bar.describe,
        )
    typer.echo(f"{output}  {exported.sentence()}")
