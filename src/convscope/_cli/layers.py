"""``convscope layers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._cli import options as opt
from convscope._errors import ModelError, UsageError
from convscope._layers import COLUMNS

if TYPE_CHECKING:
    from rich.table import Table

    from convscope._layers import Layer
    from convscope._models import Model, ReceptiveField


def layers(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Images for --check.")
    ] = None,
    model: opt.ModelName = "demo",
    select: opt.Layers = None,
    weights: opt.Weights = None,
    input_shape: opt.InputShape = None,
    preprocess: opt.Preprocessing = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compare each layer with a plain forward hook on an untouched copy, with IMAGES "
            "or with noise.",
        ),
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """List the layers of a network: path, kind, output shape, parameters, receptive field.

    With --check: also whether convscope records what the network computes.
    """
    if images and not check:
        raise UsageError(f"What is {images[0]} for? To check layers with it: --check {images[0]}")
    loaded = opt.load_model(model, weights, preprocess, input_shape=input_shape)
    selected = loaded.layers.select(select) if select else list(loaded.layers)
    fields = _fields(loaded)
    found = loaded.check(list(images) if images else None, select or "*") if check else None
    if as_json:
        rows = [_as_dict(layer, fields.get(layer.path), found) for layer in selected]
        print(json.dumps(rows, indent=1))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    if not console.is_terminal:  # output to a file or a pipe is not cut
        console.width = 1000
    console.print(_table(selected, fields, nested=not select))
    next_layer = loaded.layers.representative()[-1].path
    shape = f" --input {input_shape}" if input_shape else ""
    console.print(
        f"\n{model}: {len(selected)} of {len(loaded.layers)} layers. "
        f"Next: convscope maps IMAGE -m {model}{shape} -l '{next_layer}'",
        highlight=False,
    )
    if loaded.input.note:
        opt.note(loaded.input.note)
    if found is not None:
        _print_check(found, selected)


def _fields(model: Model) -> Mapping[str, ReceptiveField]:
    try:
        return model.receptive_fields()
    except ModelError as error:  # the rest of the table does not need them
        opt.note(str(error))
        return {}


def _table(selected: list[Layer], fields: Mapping[str, ReceptiveField], nested: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        justify: Any = "right" if column.numeric else "left"
        table.add_column(column.title, justify=justify, no_wrap=column.title != "kind")
    for layer in selected:
        style = "dim" if layer.function else "bold" if layer.container else ""
        path, kind, *rest = (column.text(layer, fields.get(layer.path)) for column in COLUMNS)
        indent = "  " * (layer.depth if nested else 0)
        table.add_row(Text(indent + path, style), Text(kind, style), *rest)
    return table


def _print_check(found: Mapping[str, str], selected: list[Layer]) -> None:
    """What was compared; exit code 1 where something differs."""
    wrong = {path: text for path, text in found.items() if text}
    refused = [layer for layer in selected if layer.refusal and layer.path not in wrong]
    for path, text in wrong.items():
        typer.echo(f"differs: {path}: {text}")
    for layer in refused:
        typer.echo(f"not drawable: {layer.path}: {layer.refusal}")
    equal = len(found) - len(wrong)
    typer.echo(f"Checked: {equal} of {len(found)} layers are what the network computes.")
    if wrong:
        raise typer.Exit(1)


def _as_dict(
    layer: Layer, field: ReceptiveField | None, found: Mapping[str, str] | None
) -> dict[str, object]:
    described = field and {"size": field.size, "stride": field.stride, "text": field.describe()}
    checked = {} if found is None else {"check": found.get(layer.path, layer.refusal)}
    return {**layer.to_dict(), "receptive_field": described, **checked}
