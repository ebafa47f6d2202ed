"""Long work, one after another in a thread of its own: progress, preview, cancel."""

from __future__ import annotations

import io
import itertools
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from convscope.ascent import Optimised, Step, channel, maximize
from convscope.atlas import Atlas
from convscope.errors import ConvscopeError, ModelError, UnknownLayer, UsageError, one_line
from convscope.models import Model
from convscope.web.session import Session

WAITING, KEPT = 8, 64
_MOST_STEPS, _LARGEST = 2048, 512
_PREVIEW_EVERY, _PATIENCE = 0.5, 10.0  # seconds
_OVER = frozenset({"done", "failed", "cancelled"})


class TooMany(ConvscopeError):
    """As many jobs wait as may."""


class _Cancelled(Exception):
    """Asked to stop."""


@dataclass(frozen=True)
class Wish:
    """What is to be optimised, and how; equal wishes have equal pictures."""

    layer: int
    channel: int
    sign: int = 1
    steps: int = 128
    size: int | None = None
    seed: int = 0


@dataclass(eq=False)
class Job:
    """One piece of work; ``changes`` counts what happened to it."""

    id: str
    wish: Wish
    title: str
    state: str = "waiting"
    done: int = 0
    of: int = 0
    detail: str = ""
    previews: int = 0
    picture: bytes = b""
    result: dict[str, Any] | None = None
    changes: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in _OVER

    def card(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.id, "kind": "maximize", "title": self.title, "layer": self.wish.layer,
            "channel": self.wish.channel, "sign": self.wish.sign, "state": self.state,
            "done": self.done, "of": self.of, "detail": self.detail, "preview": self.previews,
            "result": self.result,
        }  # fmt: skip

    def cancel(self) -> None:
        """End it as soon as it looks up; what is over stays as it is."""
        self.stopping.set()
        if self.state == "waiting":
            self.end("cancelled")

    def end(self, state: str, detail: str = "") -> None:
        self.state, self.detail = state, detail
        self.changes += 1


class Jobs:
    """The jobs of one server. They run on a copy of the network: a climb holds it all the while,
    and the maps of the next picture are not to wait for it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs: dict[str, Job] = {}
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()
        self._worker: threading.Thread | None = None
        self._twin: Model | None = None

    def all(self) -> list[Job]:
        with self._guard:
            return list(self._jobs.values())

    def get(self, id: str) -> Job:
        with self._guard:
            if id in self._jobs:
                return self._jobs[id]
        raise UnknownLayer(f"No job {id[:40]!r}")

    def ask(self, told: Any) -> tuple[Job, bool]:
        """The job of a wish, and whether it is a new one."""
        wish = self._wish(told)
        with self._guard:
            for job in self._jobs.values():
                if job.wish == wish and job.state not in ("failed", "cancelled"):
                    return job, False
            if sum(job.state == "waiting" for job in self._jobs.values()) >= WAITING:
                raise TooMany(f"{WAITING} jobs wait already. Cancel one, or wait for it")
            return self._begin(wish), True

    def _begin(self, wish: Wish) -> Job:
        path = self._session.layer(wish.layer).path
        title = f"{path}:{wish.channel} {'+' if wish.sign > 0 else '−'}"
        job = Job(str(next(self._numbers)), wish, title, of=wish.steps)
        self._jobs[job.id] = job
        for old in [one.id for one in self._jobs.values() if one.over][: len(self._jobs) - KEPT]:
            del self._jobs[old]
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="convscope-jobs", daemon=True)
            self._worker.start()
        self._waiting.put(job)
        return job

    def close(self) -> None:
        """Cancel all, and see the thread off: torch does not bear to be left in mid-step."""
        for job in self.all():
            job.cancel()
        self._waiting.put(None)
        if self._worker is not None:
            self._worker.join(_PATIENCE)

    def _wish(self, told: Any) -> Wish:
        if not isinstance(told, Mapping) or told.get("kind") != "maximize":
            raise UsageError('A job is {"kind": "maximize", "layer": …, "channel": …}')
        known = set(Wish.__dataclass_fields__)
        given = {key: value for key, value in told.items() if key != "kind"}
        for key, value in given.items():
            whole = isinstance(value, int) and not isinstance(value, bool)
            if key not in known or not (whole or (key == "size" and value is None)):
                raise UsageError(f"{key[:40]!r} of a job is not understood. Known: {sorted(known)}")
        if not {"layer", "channel"} <= set(given):
            raise UsageError("A job needs a layer and a channel")
        wish = Wish(**given)
        self._check(wish)
        return wish

    def _check(self, wish: Wish) -> None:
        limits = {
            "sign": wish.sign in (-1, 1), "steps": 1 <= wish.steps <= _MOST_STEPS,
            "size": wish.size is None or 8 <= wish.size <= _LARGEST, "seed": 0 <= wish.seed < 2**31,
        }  # fmt: skip
        for name, right in limits.items():
            if not right:
                raise UsageError(
                    f"{name}={getattr(wish, name)} is out of range: sign 1 or -1, steps 1 to "
                    f"{_MOST_STEPS}, size 8 to {_LARGEST}, seed from 0"
                )
        _ = self._session.model  # there is one
        layer = self._session.layer(wish.layer)
        if not 0 <= wish.channel < layer.channels:
            raise UnknownLayer(
                f"No channel {wish.channel} in {layer.path!r}: it has {layer.channels}, from 0"
            )

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            if job.over:
                continue
            job.state = "running"
            job.changes += 1
            try:
                self._climb(job)
            except _Cancelled:
                job.end("cancelled")
            except BaseException as error:  # the code of a model may raise anything
                self._twin = None  # whatever state it was left in
                known = isinstance(error, ConvscopeError)
                job.end("failed", str(error) if known else one_line(error))

    def _climb(self, job: Job) -> None:
        wish, model = job.wish, self._copy()
        path = self._session.layer(wish.layer).path
        what = channel(path, wish.channel)
        found: Optimised = maximize(
            model, what if wish.sign > 0 else -what, steps=wish.steps, size=wish.size,
            seed=wish.seed, images=self._compared(path) if wish.sign > 0 else None,
            on_step=_Watch(job),
        )  # fmt: skip
        job.picture, job.result = _png(found.picture), _card(found)
        job.previews += 1
        job.end("done")

    def _copy(self) -> Model:
        if self._twin is None:
            try:
                self._twin = self._session.model.shuffled([])
            except ModelError:  # what cannot be copied is used as it is
                self._twin = self._session.model
        return self._twin

    def _compared(self, path: str) -> Atlas | None:
        """The atlas, where it knows the layer's highest activations."""
        atlas = self._session.atlas
        if atlas is None or self._session.note or atlas.model != self._session.model.title:
            return None
        return atlas if any(layer.path == path for layer in atlas.layers) else None


class _Watch:
    """Notes a job's progress, now and then a preview; stops it where that was asked."""

    def __init__(self, job: Job) -> None:
        self._job, self._next = job, 0.0

    def __call__(self, step: Step) -> None:
        job = self._job
        if job.stopping.is_set():
            raise _Cancelled
        job.done, job.of = step.done, step.of
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PREVIEW_EVERY
            values = step.pictures()[0].detach().cpu().clamp(0, 1).mul(255).round().byte().numpy()
            job.picture = _png(values.transpose(1, 2, 0) if len(values) == 3 else values[0])
            job.previews += 1
        job.changes += 1


def _png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    return stream.getvalue()


def _card(found: Optimised) -> dict[str, Any]:
    return {
        "objective": found.objective, "activation": found.activation, "ratio": found.ratio,
        "sentence": found.sentence(), "lines": found.about.lines(), "seed": found.about.seed,
        "steps": found.about.steps, "size": found.about.size, "dead": found.dead,
    }  # fmt: skip
