"""From the parts of all shards to one summary, a layer at a time, in the order of the shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from convscope.atlas.folder import SUMMARY, Spool, part_path, writing
from convscope.layers import file_name
from convscope.scanning.layer import LayerSummary
from convscope.scanning.plan import Plan
from convscope.scanning.summaries import State


def compact(folder: Path, plan: Plan) -> None:
    """Write ``summary.safetensors`` (and ``pooled/``) from the parts; memory holds one layer."""
    spool = Spool(folder / SUMMARY)
    with spool.filling() as file:
        for path in plan.layers:
            state = _merged(folder, plan, path).state()
            if plan.kept.pooled:
                state["pooled.scale"] = _write_pooled(folder, plan, path, state)
            spool.add(file, {f"{name}/{path}": value for name, value in state.items()})


def _merged(folder: Path, plan: Plan, path: str) -> LayerSummary:
    merged: LayerSummary | None = None
    for shard in range(plan.shards):
        summary = LayerSummary.of(plan.kept, _state(part_path(folder, shard), path))
        if merged is None:
            merged = summary
        else:
            merged.merge(summary)
    assert merged is not None  # a plan has at least one shard
    return merged


def _state(part: Path, path: str) -> State:
    with safe_open(part, "np") as file:
        return {name.removesuffix(f"/{path}"): file.get_tensor(name)
                for name in file.keys() if name.partition("/")[2] == path}  # fmt: skip


def _write_pooled(folder: Path, plan: Plan, path: str, state: State) -> Any:
    """The means of all images as ``(C, N)`` float16; what they are to be multiplied by."""
    images, means = state.pop("pooled.image"), state.pop("pooled.mean")
    finite = np.abs(means[np.isfinite(means)])
    largest = float(finite.max(initial=0))
    scale = 2.0 ** np.ceil(np.log2(largest / 32768)) if largest > 32768 else 1.0
    (folder / "pooled").mkdir(exist_ok=True)
    whole = np.full((means.shape[1], plan.images), np.nan, np.float16)
    whole[:, images] = (means / scale).T
    with writing(folder / "pooled" / f"{file_name(path)}.npy") as file:
        np.save(file, whole)
    return np.array(scale)


def parts_of(folder: Path) -> Iterator[Path]:
    """Every part there is."""
    yield from sorted(folder.glob("part-*.safetensors"))


def remove_parts(folder: Path) -> None:
    """All is in the summary: the parts are no longer needed."""
    with ExitStack():
        for part in parts_of(folder):
            part.unlink(missing_ok=True)
