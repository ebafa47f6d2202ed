"""Scanning a shard: the one loop that every engine runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from convscope._atlas.folder import part_path, write_arrays, writing
from convscope._data import Dataset
from convscope._models import Batch, Model
from convscope._scan.layer import LayerSummary
from convscope._scan.loading import Loaded, load_batches
from convscope._scan.plan import Plan
from convscope._scan.readings import read
from convscope._scan.summaries import State

OnImages = Callable[[int, int], None]
"""Called after each batch with how many images were looked at and how many skipped."""


@dataclass
class Part:
    """What one shard gave: the state of each layer's summaries, and what was skipped."""

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
        about = json.dumps({"skipped": self.skipped, "images": self.images}, ensure_ascii=False)
        with writing(part_path(folder, self.shard)) as file:
            write_arrays(file, arrays, about)


def about_part(folder: Path, shard: int) -> dict[str, Any] | None:
    """How many images a finished shard has, and which were skipped; ``None`` where it is not."""
    try:
        with safe_open(part_path(folder, shard), "np") as file:
            return dict(json.loads(file.metadata()["convscope"]))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None


def scan_shards(
    model: Model,
    dataset: Dataset,
    plan: Plan,
    shards: Sequence[int],
    workers: int | None = None,
    on_images: OnImages | None = None,
) -> Iterator[Part]:
    """Each shard in turn; decoding runs ahead across their borders."""
    batches = (indices for shard in shards for indices in plan.batches(shard))
    loaded = load_batches(model, dataset, plan.size, batches, workers)
    with closing(loaded), model.at_rest():  # type: ignore[type-var]
        for shard in shards:
            yield _scan_shard(model, dataset, plan, shard, loaded, on_images)


def _scan_shard(
    model: Model,
    dataset: Dataset,
    plan: Plan,
    shard: int,
    loaded: Iterator[Loaded],
    on_images: OnImages | None,
) -> Part:
    layers = {
        path: LayerSummary(plan.kept, channels)
        for path, channels in zip(plan.layers, plan.channels, strict=True)
    }
    part = Part(shard, {})
    for _ in plan.batches(shard):
        batch = next(loaded)
        part.skipped += batch.skipped
        part.images += len(batch.images)
        if len(batch.images):
            _look(model, dataset, plan, batch, layers)
        if on_images:
            on_images(len(batch.images), len(batch.skipped))
    part.states = {path: layer.state() for path, layer in layers.items()}
    return part


def _look(
    model: Model, dataset: Dataset, plan: Plan, batch: Loaded, layers: dict[str, LayerSummary]
) -> None:
    labels = (
        dataset.labels[batch.images] if plan.kept.labeled and dataset.labels is not None else None
    )

    def consume(path: str, activation: Tensor) -> None:
        layers[path].update(read(batch.images, activation), labels)

    names = tuple(map(str, batch.images))
    model.stream(Batch(batch.values, None, names, single=False), plan.layers, consume)
