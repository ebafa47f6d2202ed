"""Verbs that look: layers, predict, maps, filters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli import options as opt
from convscope.errors import ModelError

if TYPE_CHECKING:
    from rich.table import Table

    from convscope.figures import Sheet
    from convscope.layers import Layer
    from convscope.maps import FeatureMaps
    from convscope.models import Model, ReceptiveField


def layers(
    model: opt.ModelName = "demo",
    select: opt.Layers = None,
    weights: opt.Weights = None,
    input_shape: opt.InputShape = None,
    as_json: opt.Json = False,
) -> None:
    """The layers of a network: path, kind, output shape, parameters, receptive field."""
    loaded = opt.load_model(model, weights, input_shape=input_shape)
    found = loaded.layers.select(select) if select else list(loaded.layers)
    fields = _fields(loaded)
    if as_json:
        print(json.dumps([_as_json(layer, fields.get(layer.path)) for layer in found], indent=1))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    if not console.is_terminal:  # a file or a pipe has no edge to cut at
        console.width = 1000
    console.print(_table(found, fields, nested=not select))
    next_layer = loaded.layers.spread()[-1].path
    console.print(
        f"\n{model}: {len(found)} layers. Next: convscope maps IMAGE -m {model} -l '{next_layer}'",
        highlight=False,
    )
    if loaded.input.note:
        opt.note(loaded.input.note)


def _fields(model: Model) -> Mapping[str, ReceptiveField]:
    try:
        return model.receptive_fields()
    except ModelError as error:  # the rest of the table is worth having
        opt.note(str(error))
        return {}


def _table(found: list[Layer], fields: Mapping[str, ReceptiveField], nested: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "kind", "output", "parameters", "receptive field"):
        right = title in ("output", "parameters")
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "kind")
    for layer in found:
        style = "dim" if layer.function else "bold" if layer.container else ""
        field = fields.get(layer.path)
        table.add_row(
            Text("  " * (layer.depth if nested else 0) + layer.path, style),
            Text(layer.kind, style),
            layer.shape_text(),
            f"{layer.parameters:,}" if layer.parameters else "",
            field.describe() if field else "",
        )
    return table


def _as_json(layer: Layer, field: ReceptiveField | None) -> dict[str, object]:
    return {
        "path": layer.path, "kind": layer.kind, "shape": layer.shape,
        "parameters": layer.parameters, "depth": layer.depth, "function": layer.function,
        "receptive_field": field and {
            "size": field.size, "stride": field.stride, "text": field.describe()
        },
    }  # fmt: skip


def predict(
    images: opt.Images,
    model: opt.ModelName = "demo",
    top: Annotated[int, typer.Option(min=1, help="So many classes.")] = 5,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    size: opt.Size = None,
    as_json: opt.Json = False,
) -> None:
    """What the network takes each picture for."""
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


def maps(
    images: opt.Images,
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    first: opt.First = None,
    channels: opt.Channels = None,
    columns: opt.Columns = None,
    cmap: Annotated[
        str, typer.Option(metavar="CMAP", help="viridis, magma, grey, or signed (around zero).")
    ] = "viridis",
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
    from convscope.maps import feature_maps

    loaded = opt.load_model(model, weights, preprocess, None, input_shape)
    writer = _Writer(output, show, many=len(images) > 1 or overview + seen > 1)
    span: Any = opt.parse_range(range)
    colours: dict[str, Any] = {"cmap": cmap, "theme": theme}
    chosen: dict[str, Any] = {
        "first": first,
        "channels": opt.parse_channels(channels),
        "columns": columns,
    }
    for image in images:
        found: FeatureMaps = feature_maps(loaded, image, layers, size=opt.parse_size(size))
        if seen:
            writer.write(found.seen(theme=theme), image, "seen")  # type: ignore[arg-type]
        if overview:
            sheet = found.overview(strongest=first or 8, range=span, **colours)
            writer.write(sheet, image, "overview")
            continue
        for path, one in found.items():
            if position:
                field = loaded.receptive_fields(found.size)[path]
                sheet = one.receptive_field(*opt.parse_position(position), field, **colours)
            else:
                sheet = (one.overlay if overlay else one.grid)(**chosen, range=span, **colours)
            writer.write(sheet, image, path, alone=len(found) == 1)
            if numbers:
                writer.say(one.save(writer.path(image, path, ".npz")))


def filters(
    layer: Annotated[str, typer.Option("--layer", "-l", metavar="LAYER", help="Which layer.")],
    model: opt.ModelName = "demo",
    first: opt.First = None,
    channels: opt.Channels = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="LIST", help="These input channels: 0-15.")
    ] = None,
    columns: opt.Columns = None,
    range: opt.Range = "layer",
    theme: opt.Theme = "light",
    weights: opt.Weights = None,
    output: opt.Output = None,
    show: opt.Show = False,
) -> None:
    """The learned filters of a layer: in colour where it reads the picture, else signed."""
    from convscope.kernels import filters as read_filters

    loaded = opt.load_model(model, weights)
    sheet = read_filters(loaded, layer).grid(
        first=first,
        channels=opt.parse_channels(channels),
        inputs=opt.parse_channels(inputs),
        columns=columns,
        range=opt.parse_range(range),
        theme=theme,  # type: ignore[arg-type]
    )
    _Writer(output, show).write(sheet, Path("filters"), layer, alone=True)


class _Writer:
    """Where pictures go: to the one file named, else under a name of their own into a folder."""

    def __init__(self, output: Path | None, show: bool, many: bool = False) -> None:
        self._output = output
        self._show = show
        self._many = many

    def write(self, sheet: Sheet, image: Path, what: str, alone: bool = True) -> None:
        target = self._output
        if target is None or not target.suffix or self._many or not alone:
            suffix = target.suffix if target is not None and target.suffix else ".png"
            target = self.path(image, what, suffix)
        self.say(sheet.save(target))
        if self._show:
            typer.launch(str(target))

    def path(self, image: Path, what: str, suffix: str) -> Path:
        from convscope.maps import picture_name

        folder = self._output or Path()
        return (folder.parent if folder.suffix else folder) / picture_name(image.name, what, suffix)

    def say(self, path: Path) -> None:
        typer.echo(path)
