"""What the manifest says: of model, dataset and settings, which a resumed scan must share, and of
layers, which spares a reader of the atlas the model."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convscope._atlas.files import FORMAT, NETWORK, write_arrays, write_listing
from convscope._data import Dataset
from convscope._errors import ModelError, UnknownLayer
from convscope._models import Batch, Model, ReceptiveField
from convscope._models.layer_roles import find_relus_and_kernels
from convscope._scan.plan import ScanJob, ScanPlan
from convscope._scan.summaries import State

_MAX_KERNELS = 4096  # a matrix of 32 MB
_WORDS = {
    "name": "the {section}'s name",
    "title": "the {section}",
    "fingerprint": "the {section}'s contents",
    "preprocess": "the preprocessing",
    "images": "the number of images",
}


def identify(model: Model, dataset: Dataset) -> dict[str, Any]:
    """What has to be the same for a scan to be resumed, besides its settings."""
    return {
        "model": {
            "name": model.name,
            "title": model.title,
            "fingerprint": model.fingerprint(),
            "preprocess": model.input.preprocess.describe(),
        },
        "dataset": {
            "name": dataset.name,
            "images": len(dataset),
            "fingerprint": dataset.fingerprint(),
        },
    }


def describe_differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """How a scan differs from the one begun: ``top 9, not 5``; empty where it does not."""
    differences = []
    for section in ("model", "dataset", "settings"):
        for key, value in now[section].items():
            old = before.get(section, {}).get(key)
            if old == value:
                continue
            if key == "name" and section == "dataset":
                continue  # a folder may be reached by another path: its contents decide
            if key == "layers":
                differences.append(_layer_difference(value, old or ()))
            else:
                differences.append(
                    f"{_WORDS.get(key, key).format(section=section)} {old}, not {value}"
                )
    return "; ".join(differences)


def _layer_difference(now: Any, before: Any) -> str:
    if len(before) == len(now):
        return "other layers"
    return f"{len(before)} layers, not {len(now)} as requested now"


def new_manifest(job: ScanJob, identity: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest of a scan that begins; writes the listing and ``network.safetensors``."""
    model, dataset, plan = job.model, job.dataset, job.plan
    write_listing(folder, dataset.ids, dataset.labels)
    described_model = {
        "channels": model.input.channels,
        "classes": list(model.input.classes),
        "note": model.input.note,
        "untrained": model.untrained_evidence(),
    }
    described_dataset = {
        "classes": list(dataset.classes),
        "labelled": dataset.labels is not None,
        "drawn": model.describe_drawing() if dataset.preprocessed else "",
    }
    return {
        "convscope_atlas": FORMAT,
        "version": import_module("convscope").__version__,
        "model": identity["model"] | described_model,
        "dataset": identity["dataset"] | described_dataset,
        "settings": plan.settings(),
        "layers": _describe_layers(model, plan, folder),
        "made_with": _environment(),
        "state": {"complete": False, "shards": plan.shards, "done": 0, "images": 0, "skipped": 0},
        "skipped": [],
    }


def _environment() -> dict[str, Any]:
    """What the bits of a scan may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def _describe_layers(model: Model, plan: ScanPlan, folder: Path) -> list[dict[str, Any]]:
    """The manifest's entries for the layers; writes ``network.safetensors``."""
    fields, shapes = _receptive_fields(model, plan), _output_shapes(model, plan)
    neighbors = find_relus_and_kernels(model, plan.layers, plan.size)
    arrays: State = {}
    entries = []
    for path in plan.layers:
        layer, field, shape = model.layers[path], fields.get(path), shapes[path]
        entries.append(
            {
                "path": path,
                "kind": layer.kind,
                "shape": shape,
                "families": list(layer.families),
                "field": _describe_field(field),
                **neighbors[path],
            }
        )
        if field is not None and _covers(field, shape):
            arrays[f"field.rows/{path}"] = field.local_rows.astype(np.int32)
            arrays[f"field.columns/{path}"] = field.local_columns.astype(np.int32)
        kernels = _kernel_arrays(model, neighbors[path]["kernel"])
        arrays |= {f"{name}/{path}": value for name, value in kernels.items()}
    write_arrays(folder / NETWORK, arrays)
    return entries


def _receptive_fields(model: Model, plan: ScanPlan) -> dict[str, ReceptiveField]:
    try:
        return dict(model.receptive_fields(plan.size))
    except ModelError:  # no torch: crops are the whole image
        return {}


def _output_shapes(model: Model, plan: ScanPlan) -> dict[str, list[int]]:
    """Shapes at the input size of the scan, which need not be the model's own."""
    shapes: dict[str, list[int]] = {}

    def record(path: str, activation: Tensor) -> None:
        shapes[path] = list(activation.shape[1:])

    zeros = torch.zeros(1, model.input.channels, *plan.size)
    model.stream(Batch(zeros, None, ("zeros",), single=True), plan.layers, record)
    return shapes


def _covers(field: ReceptiveField, shape: list[int]) -> bool:
    """Whether there is an interval for each row and column of the feature map."""
    grid = (1, 1, *shape[1:])[-2:] if len(shape) < 4 else (1, 1)  # a line has one row
    return (len(field.local_rows), len(field.local_columns)) == grid


def _describe_field(field: ReceptiveField | None) -> dict[str, Any] | None:
    if field is None:
        return None
    return {
        "text": field.describe(),
        "size": list(field.size),
        "stride": list(field.stride),
        "known": field.known,
        "gated": field.gated,
    }


def _kernel_arrays(model: Model, path: str | None) -> State:
    """Similarity and norms of the kernels that compute a layer's channels."""
    if path is None:
        return {}
    try:
        kernels = model.weights(path)
    except UnknownLayer:
        return {}
    flat = kernels.reshape(len(kernels), -1)
    if len(flat) != model.layers[path].channels or len(flat) > _MAX_KERNELS:
        return {}
    norm = np.linalg.norm(flat, axis=1)
    unit = flat / np.maximum(norm, 1e-30)[:, None]
    return {"kernel.cosine": (unit @ unit.T).astype(np.float16), "kernel.norm": norm}
