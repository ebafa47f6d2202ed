"""``convscope top``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._cli import options as opt
from convscope._errors import UsageError

if TYPE_CHECKING:
    from convscope._atlas import Exemplar


def top(
    atlas: opt.AtlasFolder,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="A unit: PATH:CHANNEL, for example conv1:3.")
    ],
    by: Annotated[str, typer.Option(help="mean or peak of the map.")] = "mean",
    bottom: Annotated[bool, typer.Option("--bottom", help="The lowest instead.")] = False,
    first: opt.First = None,
    columns: opt.Columns = None,
    cmap: Annotated[
        str, typer.Option(metavar="CMAP", help="Of the maps: magma, viridis or gray.")
    ] = "magma",
    theme: opt.Theme = "light",
    output: opt.Output = None,
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """The images that a unit responds to most: crops, its map over them, whole images."""
    from convscope._atlas import Unit, open_atlas
    from convscope._layers import file_name

    unit = open_atlas(atlas)[address]
    if not isinstance(unit, Unit):
        raise UsageError(f"{address!r} is a layer. Name a channel of it: '{address}:0'")
    found = (unit.bottom if bottom else unit.top)(by, first)  # type: ignore[arg-type]
    if as_json:
        print(
            json.dumps(
                {
                    "unit": unit.address,
                    "list": found.name,
                    "ties": found.ties,
                    "exemplars": [_as_json(one) for one in found],
                },
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    options: dict[str, Any] = {"columns": columns, "cmap": cmap, "theme": theme}
    sheet = unit.sheet(by, bottom=bottom, first=first, **options)  # type: ignore[arg-type]
    end = "bottom" if bottom else "top"
    target = output or Path(f"{file_name(unit.address)}.{end}.{by}.png")
    if not target.suffix:
        target = target / f"{file_name(unit.address)}.{end}.{by}.png"
    typer.echo(repr(found))
    typer.echo(sheet.save(target))
    if show:
        typer.launch(str(target))


def _as_json(one: Exemplar) -> dict[str, Any]:
    return {
        "rank": one.rank,
        "image": one.image,
        "id": one.id,
        "label": one.label,
        "score": one.score,
        "position": one.position,
        "crop": one.crop_box,
    }
