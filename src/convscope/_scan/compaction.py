"""From the parts of all shards to one summary, a layer at a time, in the order of the shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from convscope._atlas.folder import SUMMARY, Spool, part_path, writing
from convscope._layers import file_name
from convscope._scan.layer import LayerSummary
from convscope._scan.plan import Plan
from convscope._scan.summaries import State


def compact(folder: Path, plan: Plan) -> None:
    """Write ``summary.safetensors`` (and ``pooled/``) from the parts; memory holds one layer."""
    spool = Spool(folder / SUMMARY)
    with spool.filling() as file:
        for path in plan.layers:
            state = _merged(folder, plan, path).state()
            if plan.kept.pooled:
                state["pooled.scale"] = _write_pooled(folder, plan, path)
            spool.add(file, {f"{name}/{path}": value for name, value in state.items()})


def _merged(folder: Path, plan: Plan, path: str) -> LayerSummary:
    kept = replace(plan.kept, pooled=False)  # those are joined on disk
    merged: LayerSummary | None = None
    for shard in range(plan.shards):
        summary = LayerSummary.of(kept, _state(part_path(folder, shard), path))
        if merged is None:
            merged = summary
        else:
            merged.merge(summary)
    assert merged is not None  # a plan has at least one shard
    return merged


def _state(part: Path, path: str) -> State:
    """The arrays of one layer in a part, but for the pooled means."""
    with safe_open(part, "np") as file:
        names = [name for name in file.keys() if name.partition("/")[2] == path]  # noqa: SIM118
        return {
            name.removesuffix(f"/{path}"): file.get_tensor(name)
            for name in names
            if not name.startswith("pooled.")
        }


def _pooled_parts(folder: Path, plan: Plan, path: str) -> Iterator[tuple[Any, Any]]:
    """Images and their means, shard by shard."""
    for shard in range(plan.shards):
        with safe_open(part_path(folder, shard), "np") as file:
            yield tuple(file.get_tensor(f"pooled.{name}/{path}") for name in ("image", "mean"))


def _write_pooled(folder: Path, plan: Plan, path: str) -> Any:
    """The means of all images as ``(C, N)`` float16; what they are to be multiplied by."""
    channels = plan.channels[plan.layers.index(path)]
    largest = max(
        float(np.abs(means[np.isfinite(means)]).max(initial=0))
        for _, means in _pooled_parts(folder, plan, path)
    )
    scale = 2.0 ** np.ceil(np.log2(largest / 32768)) if largest > 32768 else 1.0
    (folder / "pooled").mkdir(exist_ok=True)
    with writing(folder / "pooled" / f"{file_name(path)}.npy") as file:
        whole = np.lib.format.open_memmap(
            file.name, "w+", np.dtype(np.float16), (channels, plan.images)
        )
        if hasattr(os, "posix_fallocate"):  # else a full disk would end the process
            os.posix_fallocate(file.fileno(), 0, Path(file.name).stat().st_size)
        whole[:] = np.nan
        for images, means in _pooled_parts(folder, plan, path):
            whole[:, images] = (means / scale).T
        whole.flush()
    return np.array(scale)


def parts_of(folder: Path) -> Iterator[Path]:
    """Every part there is."""
    yield from sorted(folder.glob("part-*.safetensors"))


def remove_parts(folder: Path) -> None:
    """All is in the summary: the parts are no longer needed."""
    for part in parts_of(folder):
        part.unlink(missing_ok=True)
