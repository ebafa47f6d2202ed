"""``convscope layers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convscope._cli import options as opt
from convscope._errors import ModelError
from convscope._layers import COLUMNS

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
    """List the layers of a network: path, kind, output shape, parameters, receptive field."""
    loaded = opt.load_model(model, weights, input_shape=input_shape)
    selected = loaded.layers.select(select) if select else list(loaded.layers)
    fields = _fields(loaded)
    if as_json:
        print(json.dumps([_as_dict(layer, fields.get(layer.path)) for layer in selected], indent=1))
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


def _as_dict(layer: Layer, field: ReceptiveField | None) -> dict[str, object]:
    described = field and {"size": field.size, "stride": field.stride, "text": field.describe()}
    return {**layer.to_dict(), "receptive_field": described}
