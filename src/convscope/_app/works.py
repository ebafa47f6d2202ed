"""The kinds of long work that the app can ask for, each with the limits of what may be asked.

A work is a frozen wish (equal wishes are one job) that knows its ``title``, checks itself and
runs on a copy of the network. It tells its progress to a ``Teller``, which ends it where that was
asked.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from PIL import Image

from convscope._app import reasons
from convscope._app.answers import short
from convscope._app.counting import counted
from convscope._app.session import Session
from convscope._atlas import Atlas
from convscope._attribution.methods import select_methods
from convscope._data import Dataset
from convscope._errors import ConvscopeError, UnknownLayer, UsageError
from convscope._models import Model
from convscope._optvis import OptimizationStep, OptimizedImage, channel, maximize
from convscope._optvis.animation import to_uint8
from convscope._scan import ScanProgress, scan

_MOST_STEPS, _LARGEST, _LONGEST = 2048, 512, 64
_STRIP, _CELL = 8, 96


class Teller(Protocol):
    """Who is told how far a work is; raises where it is to end."""

    def far(self, done: int, of: int, detail: str = "") -> None:
        """So many of so many steps are done."""

    def preview_due(self) -> bool:
        """Whether it is time for another preview."""

    def preview(self, png: bytes) -> None:
        """A picture of how it stands."""


@dataclass(frozen=True)
class Work(ABC):
    """A wish."""

    kind: ClassVar[str]

    @abstractmethod
    def title(self, session: Session) -> str:
        """What is done, in a few words."""

    @abstractmethod
    def check(self, session: Session) -> None:
        """Raises ``ConvscopeError`` where this cannot be asked."""

    @abstractmethod
    def run(self, session: Session, model: Model, teller: Teller) -> dict[str, Any]:
        """Do it; what came of it, for JSON."""


@dataclass(frozen=True)
class Climb(Work):
    """What a unit would like to see, or like least."""

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
            "steps": 1 <= self.steps <= _MOST_STEPS,
            "size": self.size is None or 8 <= self.size <= _LARGEST,
            "seed": 0 <= self.seed < 2**31,
        }
        for name, right in limits.items():
            if not right:
                raise UsageError(
                    f"{name}={getattr(self, name)} is out of range: sign 1 or -1, steps 1 to "
                    f"{_MOST_STEPS}, size 8 to {_LARGEST}, seed from 0"
                )
        layer = session.layer(self.layer)
        if not 0 <= self.channel < layer.channels:
            raise UnknownLayer(
                f"No channel {self.channel} in {layer.path!r}: it has {layer.channels}, from 0"
            )

    def run(self, session: Session, model: Model, teller: Teller) -> dict[str, Any]:
        path = session.layer(self.layer).path
        what = channel(path, self.channel)
        found: OptimizedImage = maximize(
            model,
            what if self.sign > 0 else -what,
            steps=self.steps,
            size=self.size,
            seed=self.seed,
            images=_compared(session, path) if self.sign > 0 else None,
            on_step=lambda step: _climbed(step, teller),
        )
        teller.preview(_png(Image.fromarray(found.image)))
        return {
            "objective": found.objective,
            "activation": found.activation,
            "ratio": found.ratio,
            "sentence": found.sentence(),
            "lines": found.about.lines(),
            "seed": found.about.seed,
            "steps": found.about.steps,
            "size": found.about.size,
            "dead": found.dead,
        }


def _climbed(step: OptimizationStep, teller: Teller) -> None:
    teller.far(step.done, step.of)
    if teller.preview_due():
        (values,) = to_uint8(step.images()[:1])
        pixels = values.transpose(1, 2, 0) if len(values) == 3 else values[0]
        teller.preview(_png(Image.fromarray(pixels)))


def _compared(session: Session, path: str) -> Atlas | None:
    """The atlas, where it knows the layer's highest activations."""
    atlas = session.atlas
    if atlas is None or session.note or atlas.model != session.model.title:
        return None
    return atlas if any(layer.path == path for layer in atlas.layers) else None


@dataclass(frozen=True)
class Explanation(Work):
    """Where in a picture an answer, or a unit's activation, comes from."""

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
        return f"{self.method} on {session.slide(self.input).name}"

    def check(self, session: Session) -> None:
        if (self.layer is None) != (self.channel is None):
            raise UsageError("A unit is a layer and a channel")
        session.slide(self.input)
        select_methods(self.method)
        reasons.target_of(session, self.target, self.unit)

    def run(self, session: Session, model: Model, teller: Teller) -> dict[str, Any]:
        teller.far(0, 0)
        with _followed(session, model, teller):  # it is kept, and asked for at its own address
            found = reasons.explained(
                session, model, self.input, self.method, self.target, self.unit
            )
        return {"sentence": found.maps[0].sentence(found.score)}


@dataclass(frozen=True)
class Measurement(Work):
    """What the channels of a layer follow, and ignore."""

    layer: int
    kind: ClassVar[str] = "sensitivity"

    def title(self, session: Session) -> str:
        return f"sensitivity of {session.layer(self.layer).path}"

    def check(self, session: Session) -> None:
        layer = session.layer(self.layer)
        if not layer.shape:
            raise UnknownLayer(f"{layer.path!r} returns no tensor of numbers, so it has no maps")

    def run(self, session: Session, model: Model, teller: Teller) -> dict[str, Any]:
        with _followed(session, model, teller):
            found = reasons.measure(session, model, self.layer)
        session.felt[found.layer.path] = found
        return {"sentence": f"mean invariance {found.mean_invariance:.2f}"}


def _followed(session: Session, model: Model, teller: Teller) -> AbstractContextManager[None]:
    """Tell of every pass, where the model is a copy of one's own."""
    if model is session.model:
        return nullcontext()
    return counted(model, lambda k: teller.far(k, 0, f"{k} passes"))


@dataclass(frozen=True)
class Survey(Work):
    """A scan of the dataset that the user named when the server was started, and of no other."""

    kind: ClassVar[str] = "scan"

    def title(self, session: Session) -> str:
        return f"scan of {short(_named(session).name)}"

    def check(self, session: Session) -> None:
        _named(session)

    def run(self, session: Session, model: Model, teller: Teller) -> dict[str, Any]:
        data = _named(session)
        folder = session.folder or session.scratch()

        def on_progress(now: ScanProgress) -> None:
            teller.far(now.done, now.total, now.stage)
            if teller.preview_due() and now.stage == "scanning" and now.done:
                teller.preview(_png(_seen_last(data, now.done)))

        found = scan(model, data, folder, progress=on_progress)
        session.adopt(found)
        skipped = f", {len(found.skipped)} could not be read" if found.skipped else ""
        return {"sentence": f"{found.images:,} pictures were scanned{skipped}"}


def _named(session: Session) -> Dataset:
    if session.data is None:
        raise UsageError("No dataset was named. Start it with --data DATASET")
    return session.data


def _seen_last(data: Dataset, done: int) -> Image.Image:
    """The pictures that were scanned last, side by side."""
    row = Image.new("RGB", (_STRIP * _CELL, _CELL), (128, 128, 128))
    for place, index in enumerate(range(max(0, done - _STRIP), done)):
        try:
            item = data.image(index)
        except ConvscopeError:  # it is counted among the skipped
            continue
        if not isinstance(item, Image.Image):  # numbers are drawn once they are scanned
            continue
        one = item.convert("RGB")
        one.thumbnail((_CELL, _CELL))
        at = (place * _CELL + (_CELL - one.width) // 2, (_CELL - one.height) // 2)
        row.paste(one, at)
    return row


KINDS: Mapping[str, type[Work]] = {
    one.kind: one for one in (Climb, Explanation, Measurement, Survey)
}


def work_of(told: Any, session: Session) -> Work:
    """The work that a request asks for. Raises ``UsageError``, ``UnknownLayer``."""
    kind = told.get("kind") if isinstance(told, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f'A job is {{"kind": …}}, one of {", ".join(KINDS)}')
    known = {field.name: str(field.type) for field in fields(KINDS[kind])}
    given = {key: value for key, value in told.items() if key != "kind"}
    for key, value in given.items():
        if key not in known or not _fits(value, known[key]):
            raise UsageError(f"{key[:40]!r} of a job is not understood. Known: {sorted(known)}")
    try:
        work = KINDS[kind](**given)
    except TypeError:
        needed = "a layer and a channel" if kind == "maximize" else ", ".join(known)
        raise UsageError(f"A job of this kind needs {needed}") from None
    _ = session.model  # there is one
    work.check(session)
    return work


def _fits(value: Any, kind: str) -> bool:
    """Whether a value from the network is of a field's kind, and of a size that makes sense."""
    if value is None:
        return kind.endswith("None")
    if kind == "str":
        return isinstance(value, str) and len(value) <= _LONGEST
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png", compress_level=1)
    return stream.getvalue()


__all__ = [
    "KINDS",
    "Climb",
    "Explanation",
    "Measurement",
    "Survey",
    "Teller",
    "Work",
    "work_of",
]
