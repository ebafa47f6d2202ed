"""``convscope filters``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.figures import FigureWriter


def filters(
    layer: Annotated[
        str, typer.Option("--layer", "-l", metavar="LAYER", help="Path of the layer.")
    ],
    model: opt.ModelName = "demo",
    first: opt.First = None,
    channels: opt.Channels = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="LIST", help="Input channels to show: 0-15.")
    ] = None,
    columns: opt.Columns = None,
    range: opt.Range = "layer",
    theme: opt.Theme = "light",
    weights: opt.Weights = None,
    output: opt.Output = None,
    show: opt.Show = False,
) -> None:
    """Draw the learned filters of a layer: in color where its input is the image, else signed."""
    from convscope._filters import filters as read_filters

    loaded = opt.load_model(model, weights)
    sheet = read_filters(loaded, layer).grid(
        first=first,
        channels=opt.parse_channels(channels),
        inputs=opt.parse_channels(inputs),
        columns=columns,
        range=opt.parse_range(range),
        theme=theme,  # type: ignore[arg-type]
    )
    FigureWriter(output, show).write(sheet, Path("filters"), layer, alone=True)
