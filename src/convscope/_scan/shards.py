"""Shards: scanning one (the loop that every engine runs), its file, and merging all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convscope._atlas.files import SUMMARY, array_writer, durable_file, shard_path, write_arrays
from convscope._layers import file_name
from convscope._loading import PreparedBatch, prefetch_batches
from convscope._models import Batch
from convscope._scan.layer_batch_stats import compute_batch_stats
from convscope._scan.plan import ScanJob, ScanPlan
from convscope._scan.summaries import LayerSummary, State

OnImages = Callable[[int, int], None]
"""Called after each batch with the number of images scanned and the number skipped."""
_FLOAT16_SAFE = 32768  # larger means are scaled down, to stay clear of float16's maximum


@dataclass
class ShardResult:
    """The summaries of one shard.

    Attributes:
        shard: The index of the shard.
        states: The state of each layer's summary, by path.
        skipped: Index and reason of each image that could not be read.
        images: The number of images scanned.
    """

    shard: int
    states: dict[str, State]
    skipped: list[tuple[int, str]] = field(default_factory=list)
    images: int = 0

    def save(self, folder: Path) -> None:
        """Write it into the atlas, as a whole or not at all."""
        arrays = {
            f"{name}/{path}": value
            for path, state in self.states.items()
            for name, value in state.items()
        }
        counts = json.dumps({"skipped": self.skipped, "images": self.images}, ensure_ascii=False)
        write_arrays(shard_path(folder, self.shard), arrays, counts)


def read_shard_counts(folder: Path, shard: int) -> dict[str, Any] | None:
    """``images`` and ``skipped`` of a finished shard; ``None`` where it is not finished."""
    try:
        with safe_open(shard_path(folder, shard), "np") as file:
            return dict(json.loads(file.metadata()["convscope"]))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None


def scan_shards(
    job: ScanJob,
    shards: Sequence[int],
    workers: int | None = None,
    on_images: OnImages | None = None,
) -> Iterator[ShardResult]:
    """Scan each shard in turn; images are decoded ahead, beyond the end of a shard too."""
    indices = (batch for shard in shards for batch in job.plan.batches(shard))
    batches = prefetch_batches(job.model, job.dataset, job.plan.size, indices, workers)
    with closing(batches), job.model.eval_frozen():  # type: ignore[type-var]
        for shard in shards:
            yield _scan_shard(job, shard, batches, on_images)


def _scan_shard(
    job: ScanJob, shard: int, batches: Iterator[PreparedBatch], on_images: OnImages | None
) -> ShardResult:
    plan = job.plan
    summaries = {
        path: LayerSummary(plan.summary, channels)
        for path, channels in zip(plan.layers, plan.channels, strict=True)
    }
    result = ShardResult(shard, {})
    for _ in plan.batches(shard):
        batch = next(batches)
        result.skipped += batch.skipped
        result.images += len(batch.images)
        if len(batch.images):
            _scan_batch(job, batch, summaries)
        if on_images:
            on_images(len(batch.images), len(batch.skipped))
    result.states = {path: summary.state() for path, summary in summaries.items()}
    return result


def _scan_batch(job: ScanJob, batch: PreparedBatch, summaries: dict[str, LayerSummary]) -> None:
    labels = None if job.dataset.labels is None else job.dataset.labels[batch.images]

    def consume(path: str, activation: Tensor) -> None:
        summaries[path].update(compute_batch_stats(batch.images, activation), labels)

    names = tuple(map(str, batch.images))
    job.model.stream(Batch(batch.values, None, names, single=False), job.plan.layers, consume)


def merge_shards(folder: Path, plan: ScanPlan) -> None:
    """Write ``summary.safetensors`` (and ``pooled/``) from the files of all shards.

    Layer by layer, so that memory holds one; in the order of the shards, so that sums are the same
    to the last bit whatever order the shards were scanned in.
    """
    with array_writer(folder / SUMMARY) as add:
        for path in plan.layers:
            state = _merged_summary(folder, plan, path).state()
            if plan.summary.pooled:
                state["pooled.scale"] = _write_pooled(folder, plan, path)
            add({f"{name}/{path}": value for name, value in state.items()})


def _merged_summary(folder: Path, plan: ScanPlan, path: str) -> LayerSummary:
    settings = replace(plan.summary, pooled=False)  # image means are joined on disk
    states = (_read_state(shard_path(folder, shard), path) for shard in range(plan.shards))
    merged = LayerSummary.from_state(settings, next(states))
    for state in states:  # one at a time in memory
        merged.merge(LayerSummary.from_state(settings, state))
    return merged


def _read_state(file_path: Path, path: str) -> State:
    """The arrays of one layer in the file of a shard, except the image means."""
    with safe_open(file_path, "np") as file:
        names = [name for name in file.keys() if name.partition("/")[2] == path]  # noqa: SIM118
        return {
            name.removesuffix(f"/{path}"): file.get_tensor(name)
            for name in names
            if not name.startswith("pooled.")
        }


def _pooled_shards(folder: Path, plan: ScanPlan, path: str) -> Iterator[tuple[Any, Any]]:
    """Images and their means, shard by shard."""
    for shard in range(plan.shards):
        with safe_open(shard_path(folder, shard), "np") as file:
            yield tuple(file.get_tensor(f"pooled.{name}/{path}") for name in ("image", "mean"))


def _write_pooled(folder: Path, plan: ScanPlan, path: str) -> Any:
    """Write the means of all images as ``(C, N)`` float16; what they are to be multiplied by."""
    channels = plan.channels[plan.layers.index(path)]
    largest = max(
        float(np.abs(means[np.isfinite(means)]).max(initial=0))
        for _, means in _pooled_shards(folder, plan, path)
    )
    scale = 2.0 ** np.ceil(np.log2(largest / _FLOAT16_SAFE)) if largest > _FLOAT16_SAFE else 1.0
    with durable_file(folder / "pooled" / f"{file_name(path)}.npy") as file:
        pooled = np.lib.format.open_memmap(
            file.name, "w+", np.dtype(np.float16), (channels, plan.images)
        )
        if hasattr(os, "posix_fallocate"):  # else a full disk would end the process
            os.posix_fallocate(file.fileno(), 0, Path(file.name).stat().st_size)
        pooled[:] = np.nan
        for images, means in _pooled_shards(folder, plan, path):
            pooled[:, images] = (means / scale).T
        pooled.flush()
    return np.array(scale)
