"""``convscope maps``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._cli import options as opt

if TYPE_CHECKING:
    from convscope._feature_maps import FeatureMaps
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
        typer.Option(metavar="CMAP", help="viridis, magma, gray, or signed (around zero)."),
    ] = None,
    range: opt.Range = "channel",
    overview: Annotated[
        bool, typer.Option("--overview", help="One picture of all depths.")
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Lay the maps over the picture.")
    ] = False,
    position: Annotated[
        str | None,
        typer.Option(
            "--receptive-field", metavar="Y,X", help="What one position of each layer looks at."
        ),
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Also what the model sees.")] = False,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    input_shape: opt.InputShape = None,
    output: opt.Output = None,
    numbers: Annotated[bool, typer.Option("--npz", help="Also write the numbers.")] = False,
    show: opt.Show = False,
) -> None:
    """The feature maps of some layers: one titled picture per layer and image.

    Without -l: a few convolutions through the depth.
    """
    from convscope._feature_maps import feature_maps

    loaded = opt.load_model(model, weights, preprocess, None, input_shape)
    writer = FigureWriter(output, show, many=len(images) > 1 or overview + seen > 1)
    span: Any = opt.parse_range(range)
    colors: dict[str, Any] = {"theme": theme} | ({"cmap": cmap} if cmap else {})
    chosen: dict[str, Any] = {
        "first": first,
        "channels": opt.parse_channels(channels),
        "columns": columns,
    }
    for image in images:
        found: FeatureMaps = feature_maps(loaded, image, layers, size=opt.parse_size(size))
        if seen:
            writer.write(found.preprocessed(theme=theme), image, "seen")  # type: ignore[arg-type]
        if overview:
            sheet = found.overview(strongest=first or 8, range=span, **colors)
            writer.write(sheet, image, "overview")
            continue
        for path, one in found.items():
            if position:
                field = loaded.receptive_fields(found.size)[path]
                sheet = one.receptive_field(*opt.parse_position(position), field, **colors)
            else:
                sheet = (one.overlay if overlay else one.grid)(**chosen, range=span, **colors)
            writer.write(sheet, image, path, alone=len(found) == 1)
            if numbers:
                writer.say(one.save(writer.path(image, path, ".npz")))
