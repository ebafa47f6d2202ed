"""``cs.scan``: one pass over a dataset that writes an atlas, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from convscope._atlas import Atlas
from convscope._atlas.folder import (
    FORMAT,
    LISTING,
    MANIFEST,
    NETWORK,
    only_writer,
    part_path,
    read_manifest,
    write_manifest,
)
from convscope._atlas.listing import write_listing
from convscope._data import Dataset, open_dataset
from convscope._errors import AtlasError, DatasetError, UsageError, is_out_of_memory
from convscope._models import Model, load
from convscope._scan.compaction import compact, parts_of, remove_parts
from convscope._scan.engines import Engine, Local
from convscope._scan.gallery import make_gallery
from convscope._scan.identity import differences, made_with
from convscope._scan.layer import Kept
from convscope._scan.network import describe_layers
from convscope._scan.plan import Plan, make_plan
from convscope._scan.shards import about_part

_NAMED = 10_000  # skipped images that the manifest names


@dataclass(frozen=True)
class Step:
    """How far a scan is.

    - ``stage``: ``"scanning"``, ``"summing up"`` or ``"thumbnails"``.
    - ``done``, ``of``: images; ``skipped``: of those done, how many could not be read.
    - ``new``: how many of those done were done by this process.
    """

    stage: str
    done: int
    of: int
    skipped: int = 0
    new: int = 0


def scan(
    model: Any,
    dataset: Any,
    out: str | Path,
    layers: Any = None,
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
    on_step: Callable[[Step], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Atlas:
    """What every channel of some layers responds to in a dataset: writes an atlas into ``out``.

    - ``model``: a loaded one, or anything ``cs.load`` takes; ``dataset``: anything
      ``open_dataset`` takes.
    - ``layers``: which; by default every convolution, and of networks that normalize the ReLUs.
    - ``top``: how many images each list holds.
    - ``size``: shows pictures to the network at another size than its own.
    - ``part``: ``"train"`` or ``"test"``, for data that bring both.
    - ``sample``: of so many images, drawn by ``seed``, mean and peak of every channel are kept.
    - ``pooled``: keep the means of all images too, 2 bytes a channel and image.
    - ``batch``, ``shard``: images that enter the network together, and that are lost at most when
      the process is killed; chosen and recorded by default.
    - ``workers``: threads that decode.
    - ``engine``: ``"local"``, or ``"ray"`` with the ``address`` of a cluster.
    - ``on_step`` is called with each ``Step``, ``on_note`` with what a user should hear.

    The same call again goes on where the last one was stopped, by Ctrl-C or worse. Images that
    cannot be read are skipped, counted and named. Raises ``AtlasError`` where ``out`` holds another
    scan, or another process is writing there; ``DatasetError`` where no image could be read.
    """
    loaded = model if isinstance(model, Model) else load(model)
    data = open_dataset(dataset, split=split)
    kept = Kept(top=top, sample=sample, seed=seed, pooled=pooled)
    plan = make_plan(loaded, data, layers, size, kept, batch, shard)
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise AtlasError(f"{str(folder)!r} is a file. Give a folder for the atlas: -o")
    with only_writer(folder):
        sweep = _Sweep(loaded, data, plan, folder, on_step, on_note)
        sweep.begin(fixed_batch=batch is not None, fixed_shard=shard is not None)
        sweep.run(_engine(engine, address, workers))
    return Atlas(folder)


def _engine(engine: str | Engine, address: str | None, workers: int | None) -> Engine:
    if not isinstance(engine, str):
        return engine
    if engine == "ray":
        from convscope._scan.cluster import Ray

        return Ray(address, workers)
    if engine != "local":
        raise UsageError(f"No engine {engine!r}. There are 'local' and 'ray'")
    if address is not None:
        raise UsageError(f"An address {address!r} is a Ray cluster's: --engine ray")
    return Local(workers)


class _Sweep:
    """A scan under way."""

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        plan: Plan,
        folder: Path,
        on_step: Callable[[Step], None] | None,
        on_note: Callable[[str], None] | None,
    ) -> None:
        self.model, self.dataset, self.plan, self.folder = model, dataset, plan, folder
        self._on_step = on_step or (lambda step: None)
        self._on_note = on_note or (lambda text: None)
        self._done = self._skipped = self._new = 0
        self.manifest: dict[str, Any] = {}

    def begin(self, fixed_batch: bool, fixed_shard: bool) -> None:
        """Read the manifest of a scan that has begun, or write a new one."""
        if not (self.folder / MANIFEST).exists():
            self._check_empty()
            self._start()
            return
        self.manifest = read_manifest(self.folder)
        begun = self.manifest["settings"]
        if not fixed_batch:
            self.plan = replace(self.plan, batch=begun["batch"])
        if not fixed_shard:
            self.plan = replace(self.plan, shard=begun["shard"])
        differs = differences(self._identity(), self.manifest)
        if differs:
            raise AtlasError(
                f"{str(self.folder)!r} holds another scan: {differs}. Give another folder (-o), or "
                "remove this one"
            )

    def _check_empty(self) -> None:
        """Files of the user's are not to be mixed with an atlas."""
        ours = (LISTING, NETWORK)  # by a scan that was killed before it had a manifest
        others = [
            path.name
            for path in self.folder.iterdir()
            if not path.name.startswith(".") and path.name not in ours
        ]
        if others:
            raise AtlasError(
                f"{str(self.folder)!r} holds other files ({sorted(others)[0]!r}). Give a new "
                "folder for the atlas: -o"
            )

    def _identity(self) -> dict[str, Any]:
        """What has to be the same for a scan to go on."""
        return {
            "model": {
                "name": self.model.name,
                "title": self.model.title,
                "fingerprint": self._model_checksum,
                "preprocess": self.model.input.preprocess.describe(),
            },
            "dataset": {
                "name": self.dataset.name,
                "images": len(self.dataset),
                "fingerprint": self._data_checksum,
            },
            "settings": self.plan.settings(),
        }

    @cached_property
    def _model_checksum(self) -> str:
        return self.model.fingerprint()

    @cached_property
    def _data_checksum(self) -> str:
        return self.dataset.fingerprint()

    def _start(self) -> None:
        """A new manifest, the listing, and what is known of the network."""
        identity = self._identity()
        shape = self.model.input
        model = identity["model"] | {
            "channels": shape.channels,
            "classes": list(shape.classes),
            "note": shape.note,
            "untrained": self.model.untrained_evidence(),
        }
        dataset = identity["dataset"] | {
            "classes": list(self.dataset.classes),
            "labelled": self.dataset.labels is not None,
            "drawn": self.model.drawing() if self.dataset.numbers else "",
        }
        write_listing(self.folder, self.dataset.ids, self.dataset.labels)
        self.manifest = {
            "convscope_atlas": FORMAT,
            "version": import_module("convscope").__version__,
            "model": model,
            "dataset": dataset,
            "settings": identity["settings"],
            "layers": describe_layers(self.model, self.plan, self.folder),
            "made_with": made_with(),
            "state": {
                "complete": False,
                "shards": self.plan.shards,
                "done": 0,
                "images": 0,
                "skipped": 0,
            },
            "skipped": [],
        }
        write_manifest(self.folder, self.manifest)

    def run(self, engine: Engine) -> None:
        """Scan what is missing, sum up, and make the thumbnails."""
        if not self.manifest["state"]["complete"]:
            while not self._scanned(engine):
                pass
            self._sum_up()
        remove_parts(self.folder)
        make_gallery(
            self.model,
            self.dataset,
            self.plan,
            self.folder,
            lambda done, of: self._on_step(Step("thumbnails", done, of)),
        )

    def _scanned(self, engine: Engine) -> bool:
        """Scan the missing shards; false where memory ran out, and smaller batches are set."""
        todo = self._todo()
        self._tell("scanning")
        try:
            with closing(
                engine.parts(self.model, self.dataset, self.plan, todo, self._on_images)
            ) as parts:  # type: ignore[type-var]
                for part in parts:
                    part.save(self.folder)
        except Exception as error:
            if not is_out_of_memory(error) or self.plan.batch == 1:
                raise
            self._shrink()
            return False
        return True

    def _todo(self) -> list[int]:
        """Shards without a part; what is done is counted."""
        self._done = self._skipped = self._new = 0
        todo = []
        for shard in range(self.plan.shards):
            about = about_part(self.folder, shard)
            if about is None:
                todo.append(shard)
            else:
                self._done += about["images"] + len(about["skipped"])
                self._skipped += len(about["skipped"])
        return todo

    def _shrink(self) -> None:
        """Batches of half the size; bits may differ, so all shards are scanned anew."""
        self._on_note(
            f"memory ran out with batches of {self.plan.batch}: starting again with "
            f"{self.plan.batch // 2}"
        )
        for part in parts_of(self.folder):
            part.unlink()
        self.plan = self.plan.smaller()
        self.manifest["settings"] = self.plan.settings()
        write_manifest(self.folder, self.manifest)

    def _on_images(self, images: int, skipped: int) -> None:
        self._done += images + skipped
        self._new += images + skipped
        self._skipped += skipped
        self._tell("scanning")

    def _tell(self, stage: str) -> None:
        self._on_step(Step(stage, self._done, self.plan.images, self._skipped, self._new))

    def _sum_up(self) -> None:
        self._tell("summing up")
        images, skipped = 0, list[tuple[int, str]]()
        for shard in range(self.plan.shards):
            about = about_part(self.folder, shard)
            if about is None:
                raise AtlasError(
                    f"{str(part_path(self.folder, shard))!r} is gone. Run the same command again"
                )
            images += about["images"]
            skipped += [(int(index), reason) for index, reason in about["skipped"]]
        if not images:
            raise DatasetError(
                f"None of the {len(self.dataset):,} images of {self.dataset.name} could be read; "
                f"the first: {skipped[0][1]}"
            )
        compact(self.folder, self.plan)
        self.manifest["state"] = {
            "complete": True,
            "shards": self.plan.shards,
            "done": self.plan.shards,
            "images": images,
            "skipped": len(skipped),
        }
        self.manifest["skipped"] = [
            {"index": index, "id": self.dataset.ids[index], "reason": reason}
            for index, reason in skipped[:_NAMED]
        ]
        write_manifest(self.folder, self.manifest)
