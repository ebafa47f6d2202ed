"""The kinds of long tasks that the app can ask for, each with the limits of what may be asked.

A task is frozen: equal tasks are one job. It has a title, checks itself, and runs on a copy of the
network. It reports to a ``Progress``, which ends it where its job was canceled.
"""

from __future__ import annotations

import io
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from PIL import Image

from convscope._app import analysis_api
from convscope._app.session import Session
from convscope._app.wire import base_name
from convscope._atlas import Atlas
from convscope._attribution.methods import select_methods
from convscope._data import Dataset
from convscope._errors import ConvscopeError, UnknownLayer, UsageError
from convscope._models import Model
from convscope._optvis import OptimizationStep, OptimizedImage, channel, maximize
from convscope._optvis.animation import to_uint8
from convscope._scan import ScanProgress, scan

_MAX_STEPS, _MAX_SIZE, _MAX_TEXT = 2048, 512, 64
_STRIP_IMAGES, _CELL = 8, 96


class Progress(Protocol):
    """What a task reports to; raises where the task is to end."""

    def report(self, done: int, total: int, message: str = "") -> None:
        """Say how many steps are done; ``total=0``: of an unknown number."""

    def preview_due(self) -> bool:
        """Whether it is time for another preview."""

    def preview(self, png: bytes) -> None:
        """Show an image of how it stands."""


@dataclass(frozen=True)
class Task(ABC):
    """Something long to compute."""

    kind: ClassVar[str]

    @abstractmethod
    def title(self, session: Session) -> str:
        """What is computed, in a few words."""

    @abstractmethod
    def check(self, session: Session) -> None:
        """Raise ``ConvscopeError`` where it cannot be run."""

    @abstractmethod
    def run(self, session: Session, model: Model, progress: Progress) -> dict[str, Any]:
        """Run it, and return its result for JSON."""


@dataclass(frozen=True)
class MaximizeTask(Task):
    """Optimize an image to activate a unit most (``sign=1``) or least (``sign=-1``)."""

    layer: int
    channel: int
    sign: int = 1
    steps: int = 128
    size: int | None = None
    seed: int = 0
    kind: ClassVar[str] = "maximize"

    def title(self, session: Session) -> str:
        path = session.layer(self.layer).path
        return f"{path}:{self.channel} {'+' if self.sign > 0 else '−'}"

    def check(self, session: Session) -> None:
        limits = {
            "sign": self.sign in (-1, 1),
            "steps": 1 <= self.steps <= _MAX_STEPS,
            "size": self.size is None or 8 <= self.size <= _MAX_SIZE,
            "seed": 0 <= self.seed < 2**31,
        }
        for name, valid in limits.items():
            if not valid:
                raise UsageError(
                    f"{name}={getattr(self, name)} is out of range: sign 1 or -1, steps 1 to "
                    f"{_MAX_STEPS}, size 8 to {_MAX_SIZE}, seed from 0"
                )
        layer = session.layer(self.layer)
        if not 0 <= self.channel < layer.channels:
            raise UnknownLayer(
                f"No channel {self.channel} in {layer.path!r}: it has {layer.channels}, from 0"
            )

    def run(self, session: Session, model: Model, progress: Progress) -> dict[str, Any]:
        path = session.layer(self.layer).path
        objective = channel(path, self.channel)
        result: OptimizedImage = maximize(
            model,
            objective if self.sign > 0 else -objective,
            steps=self.steps,
            size=self.size,
            seed=self.seed,
            images=_comparable_atlas(session, path) if self.sign > 0 else None,
            on_step=lambda step: _show_step(step, progress),
        )
        progress.preview(_png(Image.fromarray(result.image)))
        return {
            "objective": result.objective,
            "activation": result.activation,
            "ratio": result.ratio,
            "sentence": result.sentence(),
            "lines": result.run.lines(),
            "seed": result.run.seed,
            "steps": result.run.steps,
            "size": result.run.size,
            "dead": result.dead,
        }


def _show_step(step: OptimizationStep, progress: Progress) -> None:
    progress.report(step.done, step.total)
    if progress.preview_due():
        (values,) = to_uint8(step.images()[:1])
        pixels = values.transpose(1, 2, 0) if len(values) == 3 else values[0]
        progress.preview(_png(Image.fromarray(pixels)))


def _comparable_atlas(session: Session, path: str) -> Atlas | None:
    """The atlas, where it has the layer's highest activations on a dataset."""
    atlas = session.atlas
    if atlas is None or session.mismatch or atlas.model != session.model.title:
        return None
    return atlas if any(layer.path == path for layer in atlas.layers) else None


@dataclass(frozen=True)
class AttributionTask(Task):
    """Attribute a prediction, or the activation of a unit, to the positions of an input image."""

    input: str
    method: str = "gradcam"
    target: int | None = None
    layer: int | None = None
    channel: int | None = None
    kind: ClassVar[str] = "attribute"

    @property
    def unit(self) -> tuple[int, int] | None:
        return None if self.layer is None or self.channel is None else (self.layer, self.channel)

    def title(self, session: Session) -> str:
        return f"{self.method} on {session.input(self.input).name}"

    def check(self, session: Session) -> None:
        if (self.layer is None) != (self.channel is None):
            raise UsageError("A unit is a layer and a channel")
        session.input(self.input)
        select_methods(self.method)
        analysis_api.resolve_target(session, self.target, self.unit)

    def run(self, session: Session, model: Model, progress: Progress) -> dict[str, Any]:
        progress.report(0, 0)
        with _report_passes(
            session, model, progress
        ):  # the result is cached, and requested at its own address
            result = analysis_api.compute_attribution(
                session, model, self.input, self.method, self.target, self.unit
            )
        return {"sentence": result.maps[0].sentence(result.score)}


@dataclass(frozen=True)
class SensitivityTask(Task):
    """Measure the sensitivity of a layer's channels."""

    layer: int
    kind: ClassVar[str] = "sensitivity"

    def title(self, session: Session) -> str:
        return f"sensitivity of {session.layer(self.layer).path}"

    def check(self, session: Session) -> None:
        layer = session.layer(self.layer)
        if not layer.shape:
            raise UnknownLayer(f"{layer.path!r} returns no tensor of numbers, so it has no maps")

    def run(self, session: Session, model: Model, progress: Progress) -> dict[str, Any]:
        with _report_passes(session, model, progress):
            result = analysis_api.measure_sensitivity(session, model, self.layer)
        session.sensitivities[result.layer.path] = result
        return {"sentence": f"mean invariance {result.mean_invariance:.2f}"}


def _report_passes(
    session: Session, model: Model, progress: Progress
) -> AbstractContextManager[None]:
    """Report every pass, where the model is a copy that nobody else uses."""
    if model is session.model:
        return nullcontext()
    return count_passes(model, lambda k: progress.report(k, 0, f"{k} passes"))


@contextmanager
def count_passes(model: Model, on_pass: Callable[[int], None]) -> Iterator[None]:
    """Call ``on_pass`` with the number of every pass of ``model``, before it begins.

    Only for a copy that nobody else uses: what ``on_pass`` raises ends the pass.
    """
    activations, count = model.activations, itertools.count(1)

    def counted(*args: Any, **options: Any) -> Any:
        on_pass(next(count))
        return activations(*args, **options)

    model.activations = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.activations


@dataclass(frozen=True)
class ScanTask(Task):
    """Scan the dataset that the user named when the server was started, and no other."""

    kind: ClassVar[str] = "scan"

    def title(self, session: Session) -> str:
        return f"scan of {base_name(_dataset(session).name)}"

    def check(self, session: Session) -> None:
        _dataset(session)

    def run(self, session: Session, model: Model, progress: Progress) -> dict[str, Any]:
        dataset = _dataset(session)
        folder = session.folder or session.temporary_folder()

        def on_progress(now: ScanProgress) -> None:
            progress.report(now.done, now.total, now.stage)
            if progress.preview_due() and now.stage == "scanning" and now.done:
                progress.preview(_png(_latest_images(dataset, now.done)))

        atlas = scan(model, dataset, folder, progress=on_progress)
        session.set_atlas(atlas)
        skipped = f", {len(atlas.skipped)} could not be read" if atlas.skipped else ""
        return {"sentence": f"{atlas.images:,} images were scanned{skipped}"}


def _dataset(session: Session) -> Dataset:
    if session.dataset is None:
        raise UsageError("No dataset was named. Start it with --data DATASET")
    return session.dataset


def _latest_images(dataset: Dataset, done: int) -> Image.Image:
    """The images that were scanned last, side by side."""
    row = Image.new("RGB", (_STRIP_IMAGES * _CELL, _CELL), (128, 128, 128))
    for place, index in enumerate(range(max(0, done - _STRIP_IMAGES), done)):
        try:
            item = dataset.image(index)
        except ConvscopeError:  # counted among the skipped
            continue
        if not isinstance(item, Image.Image):  # arrays have no pixels to show
            continue
        one = item.convert("RGB")
        one.thumbnail((_CELL, _CELL))
        at = (place * _CELL + (_CELL - one.width) // 2, (_CELL - one.height) // 2)
        row.paste(one, at)
    return row


TASKS: Mapping[str, type[Task]] = {
    task.kind: task for task in (MaximizeTask, AttributionTask, SensitivityTask, ScanTask)
}


def parse_task(request: object, session: Session) -> Task:
    """The task that a request asks for. Raises ``UsageError``, ``UnknownLayer``."""
    given = dict(request) if isinstance(request, Mapping) else {}
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in TASKS:
        raise UsageError(f'A job is {{"kind": …}}, one of {", ".join(TASKS)}')
    known = {field.name: str(field.type) for field in fields(TASKS[kind])}
    for key, value in given.items():
        if key not in known or not _fits(value, known[key]):
            raise UsageError(f"{key[:40]!r} of a job is not understood. Known: {sorted(known)}")
    try:
        task = TASKS[kind](**given)
    except TypeError:
        needed = "a layer and a channel" if kind == "maximize" else ", ".join(known)
        raise UsageError(f"A job of this kind needs {needed}") from None
    _ = session.model  # is loaded
    task.check(session)
    return task


def _fits(value: Any, kind: str) -> bool:
    """Whether a value from a request has a field's type, and a size that makes sense."""
    if value is None:
        return kind.endswith("None")
    if kind == "str":
        return isinstance(value, str) and len(value) <= _MAX_TEXT
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png", compress_level=1)
    return stream.getvalue()
