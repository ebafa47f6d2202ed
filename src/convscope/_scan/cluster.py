"""Shards as tasks on a Ray cluster: the same loop, elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from convscope._data import Dataset
from convscope._errors import ConvscopeError, MissingDependency, ModelError, one_line
from convscope._models import Model
from convscope._scan.plan import Plan
from convscope._scan.shards import OnImages, Part, scan_shards

_RETRIES = 3
_held: dict[str, Any] = {}  # what this worker process scans with, unpacked once


class Ray:
    """A cluster by its ``address``, or, without one, this machine.

    Each task scans one shard with as many threads as this process would and, where the network is
    on a GPU, with a GPU; a task whose worker dies is tried again three times. Parts come back to
    this process, which alone writes: the workers need to read the data, not to see the atlas.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address = address
        self._workers = workers

    def parts(
        self, model: Model, dataset: Dataset, plan: Plan, shards: Sequence[int], on_images: OnImages
    ) -> Iterator[Part]:
        ray = _ray()
        started = self._connect(ray)
        waiting: dict[Any, int] = {}
        try:
            submit = self._submitting(ray, model, dataset, plan)
            rest = iter(shards)
            most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // _threads())
            while True:
                while len(waiting) < most and (shard := next(rest, None)) is not None:
                    waiting[submit(shard)] = shard
                if not waiting:
                    return
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                part = _fetched(ray, ready, waiting.pop(ready))
                on_images(part.images, len(part.skipped))
                yield part
        finally:
            for task in waiting:
                ray.cancel(task, force=True)
            if started:
                ray.shutdown()

    def _connect(self, ray: Any) -> bool:
        """Connect, or start a cluster of this machine; whether there was none before."""
        if ray.is_initialized():
            return False
        try:
            ray.init(
                address=self._address,
                include_dashboard=False if not self._address else None,
                logging_level="ERROR",
                log_to_driver=False,
            )
        except Exception as error:  # whatever Ray raises where nobody answers
            raise ConvscopeError(
                f"No Ray cluster at {self._address or 'this machine'}: {one_line(error, 120)}. "
                "See: ray status"
            ) from None
        return True

    def _submitting(self, ray: Any, model: Model, dataset: Dataset, plan: Plan) -> Any:
        """A function that submits one shard."""
        _by_value(ray, model)
        try:
            held = ray.put((model, dataset, plan, self._workers, _threads()))
        except Exception as error:  # a lock, an open file, a lambda in the network or the data
            raise ModelError(
                f"{model.name} and {dataset.name} cannot be sent to Ray's workers: "
                f"{one_line(error, 120)}"
            ) from None
        on_gpu = _on_gpu(model)
        task = ray.remote(num_cpus=_threads(), num_gpus=int(on_gpu), max_retries=_RETRIES)(_scan)
        return lambda shard: task.remote([held], held.hex(), shard)


def _scan(held: list[Any], key: str, shard: int) -> Part:
    """One shard, on a worker."""
    if key not in _held:
        _held.clear()
        _held[key] = _ray().get(held[0])
    model, dataset, plan, workers, threads = _held[key]
    torch.set_num_threads(threads)  # equal threads, equal bits
    (part,) = scan_shards(model, dataset, plan, [shard], workers)
    return part


def _fetched(ray: Any, task: Any, shard: int) -> Part:
    try:
        return ray.get(task)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, Exception) else error) from error
    except ray.exceptions.RayError as error:
        raise ConvscopeError(
            f"Shard {shard} failed {_RETRIES + 1} times on Ray: {one_line(error, 120)}. What is "
            "finished is kept: run the same command again"
        ) from error


def _threads() -> int:
    return torch.get_num_threads()


def _on_gpu(model: Model) -> bool:
    module: Any = getattr(model, "module", None)
    found = next(iter(module.parameters()), None) if hasattr(module, "parameters") else None
    return found is not None and found.device.type == "cuda"


def _by_value(ray: Any, model: Model) -> None:
    """Code of the user's own travels along: the workers could not import it."""
    parts: Any = getattr(model, "module", None)
    kinds = {type(part) for part in parts.modules()} if hasattr(parts, "modules") else set()
    for name in {kind.__module__ for kind in kinds}:
        module = sys.modules.get(name)
        file = str(getattr(module, "__file__", None) or "")
        if module is not None and file and not _installed(file) and name != "__main__":
            ray.cloudpickle.register_pickle_by_value(module)


def _installed(file: str) -> bool:
    here = str(Path(__file__).resolve().parents[1])
    path = str(Path(file).resolve())
    return path.startswith(here) or "site-packages" in path or "dist-packages" in path


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise MissingDependency("ray", "--engine ray", "ray") from None
