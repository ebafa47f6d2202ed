"""``convscope layers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from convscope._cli import options as opt
from convscope._errors import ModelError

if TYPE_CHECKING:
    from rich.table import Table

    from convscope._layers import Layer
    from convscope._models import Model, ReceptiveField


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
    next_layer = loaded.layers.representative()[-1].path
    told = f" --input {input_shape}" if input_shape else ""
    console.print(
        f"\n{model}: {len(found)} of {len(loaded.layers)} layers. "
        f"Next: convscope maps IMAGE -m {model}{told} -l '{next_layer}'",
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
        "path": layer.path,
        "kind": layer.kind,
        "shape": layer.shape,
        "parameters": layer.parameters,
        "depth": layer.depth,
        "function": layer.function,
        "receptive_field": field
        and {"size": field.size, "stride": field.stride, "text": field.describe()},
    }
