"""``cs.scan``: one pass over a dataset that writes an atlas, and resumes where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from convscope._atlas import Atlas
from convscope._atlas.files import (
    LISTING,
    MANIFEST,
    NETWORK,
    read_manifest,
    shard_path,
    shard_paths,
    write_manifest,
    writer_lock,
)
from convscope._data import DatasetLike, open_dataset
from convscope._errors import AtlasError, DatasetError, is_out_of_memory
from convscope._models import Model, ModelLike, load
from convscope._scan.engines import Engine, make_engine
from convscope._scan.manifest import describe_differences, identify, new_manifest
from convscope._scan.plan import ScanJob, ScanPlan, make_plan
from convscope._scan.shards import merge_shards, read_shard_counts
from convscope._scan.summaries import SummarySettings
from convscope._scan.thumbnails import write_thumbnails

_MAX_NAMED = 10_000  # skipped images that the manifest names


@dataclass(frozen=True)
class ScanProgress:
    """How far a scan is.

    Attributes:
        stage: ``"scanning"``, ``"merging"`` or ``"thumbnails"``.
        done: The number of images done in this stage.
        total: The number of images of this stage.
        skipped: The number of images done that could not be read.
        new: The number of images done by this process, not by an earlier one.
    """

    stage: str
    done: int
    total: int
    skipped: int = 0
    new: int = 0


def scan(
    model: ModelLike,
    dataset: DatasetLike,
    out: str | PathLike[str],
    layers: str | Sequence[str] | None = None,
    *,
    top: int = 9,
    size: int | tuple[int, int] | None = None,
    split: str | None = None,
    sample: int = 512,
    seed: int = 0,
    pooled: bool = False,
    batch: int | None = None,
    shard: int | None = None,
    workers: int | None = None,
    engine: str | Engine = "local",
    address: str | None = None,
    progress: Callable[[ScanProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Atlas:
    """Find what every channel responds to in a dataset, in one pass, and write it as an atlas.

    The same call resumes a scan that was stopped, by Ctrl-C or worse. Images that cannot be read
    are skipped, counted, and named in the manifest.

    Args:
        model: A loaded model, or anything ``cs.load`` takes.
        dataset: Anything ``cs.open_dataset`` takes.
        out: The folder of the atlas.
        layers: Paths, globs or kinds; by default every convolution, and in networks with
            normalization every ReLU.
        top: The number of images in each list of the highest and lowest.
        size: The input size, if not the model's own: one side, or ``(height, width)``.
        split: ``"train"`` or ``"test"``, for data with both; by default all images.
        sample: The number of random images of which the mean and peak of every channel are kept.
        seed: Which random images.
        pooled: Keep the mean of every channel for every image: 2 bytes each.
        batch: The number of images that enter the network together; chosen by default.
        shard: The number of images after which finished work is safe on disk; chosen by default.
        workers: The number of decoding threads; by default the available cores, at most 8.
        engine: ``"local"``, or ``"ray"`` for a Ray cluster.
        address: The address of the Ray cluster; by default one is started on this machine.
        progress: Called after each batch.
        on_note: Called with each message for the user.

    Returns:
        The atlas, opened.

    Raises:
        AtlasError: ``out`` holds another scan or other files, another process is writing there, or
            the disk is full.
        DatasetError: No image could be read.
        UsageError: A number is out of range, or there is no such engine.
    """
    loaded = model if isinstance(model, Model) else load(model)
    data = open_dataset(dataset, split=split)
    summary = SummarySettings(top=top, sample=sample, seed=seed, pooled=pooled)
    plan = make_plan(loaded, data, layers, size, summary, batch, shard)
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise AtlasError(f"{str(folder)!r} is a file. Give a folder for the atlas: -o")
    with writer_lock(folder):
        run = _ScanRun(ScanJob(loaded, data, plan), folder, progress, on_note)
        run.begin(fixed_batch=batch is not None, fixed_shard=shard is not None)
        run.finish(make_engine(engine, address, workers))
    return Atlas(folder)


class _ScanRun:
    """A scan in progress."""

    def __init__(
        self,
        job: ScanJob,
        folder: Path,
        progress: Callable[[ScanProgress], None] | None,
        on_note: Callable[[str], None] | None,
    ) -> None:
        self._job, self._folder = job, folder
        self._progress = progress or (lambda report: None)
        self._on_note = on_note or (lambda text: None)
        self._done = self._skipped = self._new = 0
        self._manifest: dict[str, Any] = {}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return identify(self._job.model, self._job.dataset)

    def begin(self, fixed_batch: bool, fixed_shard: bool) -> None:
        """Read the manifest of a scan to resume, or write a new one."""
        if not (self._folder / MANIFEST).exists():
            self._check_empty()
            self._manifest = new_manifest(self._job, self._identity, self._folder)
            write_manifest(self._folder, self._manifest)
            return
        self._manifest = read_manifest(self._folder)
        settings = self._manifest["settings"]
        if not fixed_batch:
            self._replan(batch=settings["batch"])
        if not fixed_shard:
            self._replan(shard=settings["shard"])
        now = self._identity | {"settings": self._plan.settings()}
        differences = describe_differences(now, self._manifest)
        if differences:
            raise AtlasError(
                f"{str(self._folder)!r} holds another scan: {differences}. Give another folder "
                "(-o), or remove this one"
            )

    @property
    def _plan(self) -> ScanPlan:
        return self._job.plan

    def _replan(self, **changes: Any) -> None:
        self._job = replace(self._job, plan=replace(self._plan, **changes))

    def _check_empty(self) -> None:
        """Do not mix the user's files with an atlas."""
        ours = (LISTING, NETWORK)  # of a scan that was killed before it had a manifest
        others = [
            path.name
            for path in self._folder.iterdir()
            if not path.name.startswith(".") and path.name not in ours
        ]
        if others:
            raise AtlasError(
                f"{str(self._folder)!r} holds other files ({sorted(others)[0]!r}). Give a new "
                "folder for the atlas: -o"
            )

    def finish(self, engine: Engine) -> None:
        """Scan the missing shards, merge all, and make the thumbnails."""
        if not self._manifest["state"]["complete"]:
            while not self._scan_missing(engine):
                pass
            self._merge()
        for path in shard_paths(self._folder):
            path.unlink(missing_ok=True)
        write_thumbnails(
            self._job,
            self._folder,
            lambda done, total: self._progress(ScanProgress("thumbnails", done, total)),
        )

    def _scan_missing(self, engine: Engine) -> bool:
        """Scan the missing shards; false where memory ran out, and the batch was halved."""
        missing = self._missing_shards()
        self._report("scanning")
        try:
            results = engine.scan_shards(self._job, missing, self._count_images)
            with closing(results):  # type: ignore[type-var]
                for result in results:
                    result.save(self._folder)
        except Exception as error:
            if not is_out_of_memory(error) or self._plan.batch == 1:
                raise
            self._halve_batch()
            return False
        return True

    def _missing_shards(self) -> list[int]:
        """Shards that are not finished; counts the images of those that are."""
        self._done = self._skipped = self._new = 0
        missing = []
        for shard in range(self._plan.shards):
            counts = read_shard_counts(self._folder, shard)
            if counts is None:
                missing.append(shard)
            else:
                self._done += counts["images"] + len(counts["skipped"])
                self._skipped += len(counts["skipped"])
        return missing

    def _halve_batch(self) -> None:
        """Halve the batch; this may change the last bits, so all shards are scanned again."""
        self._on_note(
            f"out of memory with batches of {self._plan.batch}: starting again with batches of "
            f"{self._plan.batch // 2}"
        )
        for path in shard_paths(self._folder):
            path.unlink()
        self._replan(batch=self._plan.batch // 2)
        self._manifest["settings"] = self._plan.settings()
        write_manifest(self._folder, self._manifest)

    def _count_images(self, images: int, skipped: int) -> None:
        self._done += images + skipped
        self._new += images + skipped
        self._skipped += skipped
        self._report("scanning")

    def _report(self, stage: str) -> None:
        self._progress(ScanProgress(stage, self._done, self._plan.images, self._skipped, self._new))

    def _merge(self) -> None:
        """Merge the shards, and complete the manifest."""
        self._report("merging")
        images, skipped = self._finished_images()
        if not images:
            raise DatasetError(
                f"None of the {self._plan.images:,} images of {self._job.dataset.name} could be "
                f"read; the first: {skipped[0][1]}"
            )
        merge_shards(self._folder, self._plan)
        self._manifest["state"] = {
            "complete": True,
            "shards": self._plan.shards,
            "done": self._plan.shards,
            "images": images,
            "skipped": len(skipped),
        }
        self._manifest["skipped"] = [
            {"index": index, "id": self._job.dataset.ids[index], "reason": reason}
            for index, reason in skipped[:_MAX_NAMED]
        ]
        write_manifest(self._folder, self._manifest)

    def _finished_images(self) -> tuple[int, list[tuple[int, str]]]:
        """The number of images of all shards, and index and reason of those skipped."""
        images, skipped = 0, list[tuple[int, str]]()
        for shard in range(self._plan.shards):
            counts = read_shard_counts(self._folder, shard)
            if counts is None:
                raise AtlasError(
                    f"{str(shard_path(self._folder, shard))!r} is gone. Run the same command again"
                )
            images += counts["images"]
            skipped += [(int(index), reason) for index, reason in counts["skipped"]]
        return images, skipped
