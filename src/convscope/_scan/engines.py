"""Where shards are scanned: in this process, or as tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from convscope._data import Dataset
from convscope._models import Model
from convscope._scan.plan import Plan
from convscope._scan.shards import OnImages, Part, scan_shards


class Engine(Protocol):
    """Scans shards, in whatever order they come."""

    def parts(
        self, model: Model, dataset: Dataset, plan: Plan, shards: Sequence[int], on_images: OnImages
    ) -> Iterator[Part]:
        """One part for each of ``shards``."""


class Local:
    """This process; ``workers`` threads decode."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def parts(
        self, model: Model, dataset: Dataset, plan: Plan, shards: Sequence[int], on_images: OnImages
    ) -> Iterator[Part]:
        return scan_shards(model, dataset, plan, shards, self._workers, on_images)
