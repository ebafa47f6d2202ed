"""Pictures decoded ahead of the network that looks at them, by other threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._data import Dataset
from convscope._errors import ImageError
from convscope._models import Model

_AHEAD = 2  # batches that wait; more would only take memory
_CHUNK = 8  # pictures in one go of a thread
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Loaded:
    """One batch: ``values`` float32 ``(n, C, H, W)`` of ``images``, and why others are missing."""

    images: NDArray[np.int64]
    values: Tensor
    skipped: list[tuple[int, str]]


def usual_workers(dataset: Dataset) -> int:
    """Threads that decode: the cores it may use, at most 8; one for a caller's own code."""
    return (
        min(
            8,
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1,
        )
        if dataset.parallel
        else 1
    )


def load_batches(
    model: Model,
    dataset: Dataset,
    size: tuple[int, int],
    batches: Iterable[NDArray[np.int64]],
    workers: int | None = None,
) -> Iterator[Loaded]:
    """The batches in order, each decoded and preprocessed while earlier ones are looked at.

    Pictures that cannot be read are left out and named.
    """

    def load(indices: NDArray[np.int64]) -> list[Tensor | str]:
        return [_values(model, dataset, int(index), size) for index in indices]

    for indices, found in ahead(load, batches, workers or usual_workers(dataset)):
        kept = [k for k, one in enumerate(found) if isinstance(one, Tensor)]
        values = [one for one in found if isinstance(one, Tensor)]
        skipped = [(int(indices[k]), one) for k, one in enumerate(found) if isinstance(one, str)]
        yield Loaded(indices[kept], torch.cat(values) if values else torch.empty(0), skipped)


def _values(model: Model, dataset: Dataset, index: int, size: tuple[int, int]) -> Tensor | str:
    """A picture as it enters the network, or why it cannot."""
    try:
        return model.prepare(dataset.image(index), size=size).values
    except ImageError as error:
        return str(error)


def ahead(
    work: Callable[[NDArray[np.int64]], list[Made]],
    batches: Iterable[NDArray[np.int64]],
    workers: int,
) -> Iterator[tuple[NDArray[np.int64], list[Made]]]:
    """``work`` on each batch, in chunks by several threads, a few batches ahead; in order."""
    with ThreadPoolExecutor(workers, "decode") as pool:
        waiting: deque[tuple[NDArray[np.int64], list[Future[list[Made]]]]] = deque()
        try:
            for indices in batches:
                chunks = range(0, len(indices), _CHUNK)
                begun = [pool.submit(work, indices[k : k + _CHUNK]) for k in chunks]
                waiting.append((indices, begun))
                if len(waiting) > _AHEAD:
                    yield _gathered(*waiting.popleft())
            while waiting:
                yield _gathered(*waiting.popleft())
        finally:  # also where the consumer goes away in the middle
            pool.shutdown(wait=True, cancel_futures=True)


def _gathered(
    indices: NDArray[np.int64], begun: list[Future[list[Made]]]
) -> tuple[NDArray[np.int64], list[Made]]:
    return indices, [one for future in begun for one in future.result()]
