"""Where shards are scanned: in this process, or as tasks on a Ray cluster."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from convscope._errors import (
    ConvscopeError,
    MissingDependency,
    ModelError,
    UsageError,
    one_line,
)
from convscope._models import Model
from convscope._scan.plan import ScanJob
from convscope._scan.shards import OnImages, ShardResult, scan_shards

_RETRIES = 3


class Engine(Protocol):
    """Scans shards."""

    def scan_shards(
        self, job: ScanJob, shards: Sequence[int], on_images: OnImages
    ) -> Iterator[ShardResult]:
        """The result of each of ``shards``, in any order."""


def make_engine(name: str | Engine, address: str | None, workers: int | None) -> Engine:
    """The engine of that name; an engine is returned as it is.

    Raises:
        UsageError: There is none of that name, or only Ray takes an address.
    """
    if not isinstance(name, str):
        return name
    if name == "ray":
        return RayEngine(address, workers)
    if name != "local":
        raise UsageError(f"No engine {name!r}. Engines: 'local', 'ray'")
    if address is not None:
        raise UsageError(f"The address {address!r} needs a Ray cluster: --engine ray")
    return LocalEngine(workers)


class LocalEngine:
    """Scans in this process; ``workers`` threads decode."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def scan_shards(
        self, job: ScanJob, shards: Sequence[int], on_images: OnImages
    ) -> Iterator[ShardResult]:
        return scan_shards(job, shards, self._workers, on_images)


class RayEngine:
    """Scans on the Ray cluster at ``address``, or, without one, on this machine.

    Each task scans one shard with as many threads as this process would use and, where the network
    is on a GPU, with a GPU; a task whose worker dies is retried three times. Results come back to
    this process, which alone writes: workers need to read the data, not to see the atlas.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address = address
        self._workers = workers

    def scan_shards(
        self, job: ScanJob, shards: Sequence[int], on_images: OnImages
    ) -> Iterator[ShardResult]:
        ray = _import_ray()
        started = self._connect(ray)
        running: dict[Any, int] = {}
        try:
            submit = self._submitter(ray, job)
            remaining = iter(shards)
            limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // _threads())
            while True:
                while len(running) < limit and (shard := next(remaining, None)) is not None:
                    running[submit(shard)] = shard
                if not running:
                    return
                (ready,), _ = ray.wait(list(running), num_returns=1)
                result = _fetch(ray, ready, running.pop(ready))
                on_images(result.images, len(result.skipped))
                yield result
        finally:
            for task in running:
                ray.cancel(task, force=True)
            if started:
                ray.shutdown()

    def _connect(self, ray: Any) -> bool:
        """Connect, or start a cluster on this machine; whether there was none before."""
        if ray.is_initialized():
            return False
        try:
            ray.init(
                address=self._address,
                include_dashboard=False if not self._address else None,
                logging_level="ERROR",
                log_to_driver=False,
            )
        except Exception as error:  # whatever Ray raises where there is no cluster
            raise ConvscopeError(
                f"No Ray cluster at {self._address or 'this machine'}: {one_line(error, 120)}. "
                "See: ray status"
            ) from None
        return True

    def _submitter(self, ray: Any, job: ScanJob) -> Any:
        """A function that submits one shard."""
        _pickle_user_code(ray, job.model)
        try:
            reference = ray.put((job, self._workers, _threads()))
        except Exception as error:  # a lock, an open file, a lambda in the network or the data
            raise ModelError(
                f"{job.model.name} and {job.dataset.name} cannot be sent to Ray's workers: "
                f"{one_line(error, 120)}"
            ) from None
        options = {"num_cpus": _threads(), "num_gpus": int(_is_on_gpu(job.model))}
        task = ray.remote(max_retries=_RETRIES, **options)(_scan_on_worker)
        return lambda shard: task.remote([reference], reference.hex(), shard)


_worker_cache: dict[str, Any] = {}  # what this worker process scans with, unpickled once


def _scan_on_worker(reference: list[Any], key: str, shard: int) -> ShardResult:
    if key not in _worker_cache:
        _worker_cache.clear()
        _worker_cache[key] = _import_ray().get(reference[0])
    job, workers, threads = _worker_cache[key]
    torch.set_num_threads(threads)  # equal threads, equal bits
    (result,) = scan_shards(job, [shard], workers)
    return result


def _fetch(ray: Any, task: Any, shard: int) -> ShardResult:
    try:
        return ray.get(task)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, Exception) else error) from error
    except ray.exceptions.RayError as error:
        raise ConvscopeError(
            f"Shard {shard} failed {_RETRIES + 1} times on Ray: {one_line(error, 120)}. Finished "
            "shards are kept: run the same command again"
        ) from error


def _threads() -> int:
    return torch.get_num_threads()


def _is_on_gpu(model: Model) -> bool:
    module: Any = getattr(model, "module", None)
    parameter = next(iter(module.parameters()), None) if hasattr(module, "parameters") else None
    return parameter is not None and parameter.device.type == "cuda"


def _pickle_user_code(ray: Any, model: Model) -> None:
    """Pickle the user's own classes by value: workers could not import them."""
    network: Any = getattr(model, "module", None)
    classes = {type(one) for one in network.modules()} if hasattr(network, "modules") else set()
    for name in {cls.__module__ for cls in classes}:
        module = sys.modules.get(name)
        file = str(getattr(module, "__file__", None) or "")
        if module is not None and file and not _is_installed(file) and name != "__main__":
            ray.cloudpickle.register_pickle_by_value(module)


def _is_installed(file: str) -> bool:
    package = str(Path(__file__).resolve().parents[1])
    path = str(Path(file).resolve())
    return path.startswith(package) or "site-packages" in path or "dist-packages" in path


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise MissingDependency("ray", "--engine ray", "ray") from None
