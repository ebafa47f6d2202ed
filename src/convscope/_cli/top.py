"""``convscope top``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._cli import options as opt

if TYPE_CHECKING:
    pass


def top(
    atlas: opt.AtlasFolder,
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="Address of a unit: PATH:CHANNEL, such as conv1:3."),
    ],
    by: Annotated[
        str,
        typer.Option(metavar="SCORE", help="Score to rank images by: mean or peak of the map."),
    ] = "mean",
    bottom: Annotated[
        bool, typer.Option("--bottom", help="List the lowest instead of the highest.")
    ] = False,
    first: Annotated[
        int | None,
        typer.Option("-n", "--first", min=1, help="Number of images (default: all listed)."),
    ] = None,
    columns: opt.Columns = None,
    cmap: Annotated[
        str,
        typer.Option(metavar="CMAP", help="Color map of the feature maps: magma, viridis or gray."),
    ] = "magma",
    theme: opt.Theme = "light",
    output: opt.Output = None,
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """Show the images that a unit responds to most: crops, feature maps, whole images."""
    from convscope._atlas import open_atlas
    from convscope._layers import file_name

    unit = open_atlas(atlas).unit(address)
    exemplars = (unit.bottom if bottom else unit.top)(by, first)  # type: ignore[arg-type]
    if as_json:
        listed = {"unit": unit.address, **exemplars.to_dict()}
        print(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    options: dict[str, Any] = {"columns": columns, "cmap": cmap, "theme": theme}
    sheet = unit.sheet(by, bottom=bottom, first=first, **options)  # type: ignore[arg-type]
    end = "bottom" if bottom else "top"
    name = f"{file_name(unit.address)}.{end}.{by}.png"
    target = output or Path(name)
    if not target.suffix:
        target = target / name
    typer.echo(repr(exemplars))
    typer.echo(sheet.save(target))
    if show:
        typer.launch(str(target))
