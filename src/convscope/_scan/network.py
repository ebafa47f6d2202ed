"""What a reader of the atlas needs of the model, so that it needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope._atlas.folder import NETWORK, write_arrays, writing
from convscope._errors import ModelError, UnknownLayer
from convscope._models import Batch, Model, ReceptiveField
from convscope._models.neighbors import wiring
from convscope._scan.plan import Plan
from convscope._scan.summaries import State

_MOST_CHANNELS = 4096  # a matrix of 32 MB


def describe_layers(model: Model, plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """The manifest's entries for the layers; writes ``network.safetensors``."""
    fields, shapes = _fields(model, plan), _shapes(model, plan)
    wires = wiring(model, plan.layers, plan.size)
    arrays: State = {}
    entries = []
    for path in plan.layers:
        layer, field = model.layers[path], fields.get(path)
        shape = shapes[path]
        entries.append(
            {
                "path": path,
                "kind": layer.kind,
                "shape": shape,
                "families": list(layer.families),
                "field": _about(field),
                **wires[path],
            }
        )
        if field is not None and _fits(field, shape):
            arrays[f"field.rows/{path}"] = field.local_rows.astype(np.int32)
            arrays[f"field.columns/{path}"] = field.local_columns.astype(np.int32)
        kernels = _kernels(model, wires[path]["kernel"])
        arrays |= {f"{name}/{path}": value for name, value in kernels.items()}
    with writing(folder / NETWORK) as file:
        write_arrays(file, arrays)
    return entries


def _fields(model: Model, plan: Plan) -> dict[str, ReceptiveField]:
    try:
        return dict(model.receptive_fields(plan.size))
    except ModelError:  # no torch: crops are the whole image
        return {}


def _shapes(model: Model, plan: Plan) -> dict[str, list[int]]:
    """Of the outputs at the size of the scan, which need not be the model's own."""
    found: dict[str, list[int]] = {}

    def note(path: str, activation: Tensor) -> None:
        found[path] = list(activation.shape[1:])

    nothing = torch.zeros(1, model.input.channels, *plan.size)
    model.stream(Batch(nothing, None, ("nothing",), single=True), plan.layers, note)
    return found


def _fits(field: ReceptiveField, shape: list[int]) -> bool:
    height, width = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
    return (len(field.local_rows), len(field.local_columns)) == (height, width)


def _about(field: ReceptiveField | None) -> dict[str, Any] | None:
    if field is None:
        return None
    return {
        "text": field.describe(),
        "size": list(field.size),
        "stride": list(field.stride),
        "known": field.known,
        "gated": field.gated,
    }


def _kernels(model: Model, path: str | None) -> State:
    if path is None:
        return {}
    try:
        kernel = model.weights(path)
    except UnknownLayer:
        return {}
    flat = kernel.reshape(len(kernel), -1)
    if len(flat) != model.layers[path].channels or len(flat) > _MOST_CHANNELS:
        return {}
    norm = np.linalg.norm(flat, axis=1)
    unit = flat / np.maximum(norm, 1e-30)[:, None]
    return {"kernel.cosine": (unit @ unit.T).astype(np.float16), "kernel.norm": norm}
