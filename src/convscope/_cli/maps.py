"""``convscope maps``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convscope._cli import options as opt
from convscope._cli.figures import FigureWriter


def maps(
    images: opt.Images,
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    first: opt.First = None,
    channels: opt.Channels = None,
    columns: opt.Columns = None,
    cmap: Annotated[
        str | None,
        typer.Option(
            metavar="CMAP", help="Color map: viridis, magma, gray, or signed (centered on zero)."
        ),
    ] = None,
    range: opt.Range = "channel",
    overview: Annotated[
        bool,
        typer.Option("--overview", help="Draw the strongest maps of every layer in one figure."),
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Lay the maps over the preprocessed input.")
    ] = False,
    position: Annotated[
        str | None,
        typer.Option(
            "--receptive-field",
            metavar="Y,X",
            help="Draw the receptive field of this position (row, column) of each layer.",
        ),
    ] = None,
    preprocessed: Annotated[
        bool, typer.Option("--preprocessed", help="Also draw the preprocessed input.")
    ] = False,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    input_shape: opt.InputShape = None,
    unchecked: opt.Unchecked = False,
    output: opt.Output = None,
    numbers: Annotated[bool, typer.Option("--npz", help="Also write the values, as .npz.")] = False,
    show: opt.Show = False,
) -> None:
    """Draw the feature maps of some layers: one titled figure per layer and image.

    Without -l: the last convolution of each size.
    """
    from convscope._feature_maps import feature_maps

    loaded = opt.load_model(model, weights, preprocess, None, input_shape, unchecked)
    writer = FigureWriter(output, show, several=len(images) > 1 or overview + preprocessed > 1)
    span: Any = opt.parse_range(range)
    colors: dict[str, Any] = {"theme": theme} | ({"cmap": cmap} if cmap else {})
    chosen: dict[str, Any] = {
        "first": first,
        "channels": opt.parse_channels(channels),
        "columns": columns,
    }
    for image in images:
        recorded = feature_maps(loaded, image, layers, size=opt.parse_size(size))
        for line in recorded.notes():
            opt.note(line)
        if preprocessed:
            sheet = recorded.preprocessed(theme=colors["theme"])
            writer.write(sheet, image, "preprocessed")
        if overview:
            sheet = recorded.overview(strongest=first or 8, range=span, **colors)
            writer.write(sheet, image, "overview")
            continue
        fields = loaded.receptive_fields(recorded.size) if position else {}
        for path, one in recorded.items():
            if position:
                y, x = opt.parse_position(position)
                sheet = one.receptive_field(y, x, fields[path], **colors)
            else:
                sheet = (one.overlay if overlay else one.grid)(**chosen, range=span, **colors)
            writer.write(sheet, image, path, alone=len(recorded) == 1)
            if numbers:
                writer.report(one.save(writer.path(image, path, ".npz")))
