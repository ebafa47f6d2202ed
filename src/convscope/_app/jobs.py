"""Long work, one after another in a thread of its own: progress, preview, cancel."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from convscope._app.session import Session
from convscope._app.works import Work, work_of
from convscope._errors import ConvscopeError, ModelError, UnknownLayer, one_line
from convscope._models import Model

WAITING, KEPT = 8, 64
_PREVIEW_EVERY, _PATIENCE = 0.5, 10.0  # seconds
_OVER = frozenset({"done", "failed", "cancelled"})


class TooMany(ConvscopeError):
    """As many jobs wait as may."""


class _Cancelled(BaseException):
    """Asked to stop; a ``BaseException``, so that no work takes it for a failure of its own."""


@dataclass(eq=False)
class Job:
    """One piece of work, and who is told of it; ``changes`` counts what happened to it."""

    id: str
    work: Work
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
    next_preview: float = 0.0

    @property
    def over(self) -> bool:
        return self.state in _OVER

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self.work),
            "id": self.id,
            "kind": self.work.kind,
            "title": self.title,
            "state": self.state,
            "done": self.done,
            "of": self.of,
            "detail": self.detail,
            "preview": self.previews,
            "result": self.result,
        }

    def cancel(self) -> None:
        """End it as soon as it looks up; what is over stays as it is."""
        self.stopping.set()
        if self.state == "waiting":
            self.end("cancelled")

    def end(self, state: str, detail: str = "") -> None:
        self.state, self.detail = state, detail
        self.changes += 1

    # As a ``Teller``

    def far(self, done: int, of: int, detail: str = "") -> None:
        if self.stopping.is_set():
            raise _Cancelled
        self.done, self.of, self.detail = done, of, detail
        self.changes += 1

    def preview_due(self) -> bool:
        return time.monotonic() >= self.next_preview

    def preview(self, png: bytes) -> None:
        self.next_preview = time.monotonic() + _PREVIEW_EVERY
        self.picture = png
        self.previews += 1
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
        work = work_of(told, self._session)
        title = work.title(self._session)
        with self._guard:
            for job in self._jobs.values():
                stands = job.state not in ("failed", "cancelled") and not job.stopping.is_set()
                if job.work == work and stands:
                    return job, False
            if sum(job.state == "waiting" for job in self._jobs.values()) >= WAITING:
                raise TooMany(f"{WAITING} jobs wait already. Cancel one, or wait for it")
            return self._begin(work, title), True

    def _begin(self, work: Work, title: str) -> Job:
        job = Job(str(next(self._numbers)), work, title, of=getattr(work, "steps", 0))
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

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            if job.over:
                continue
            job.state = "running"
            job.changes += 1
            try:
                job.result = job.work.run(self._session, self._copy(), job)
                job.end("done")
            except _Cancelled:
                job.end("cancelled")
            except BaseException as error:  # the code of a model may raise anything
                self._twin = None  # whatever state it was left in
                known = isinstance(error, ConvscopeError)
                job.end("failed", str(error) if known else one_line(error))

    def _copy(self) -> Model:
        if self._twin is None:
            try:
                self._twin = self._session.model.randomized([])
            except ModelError:  # what cannot be copied is used as it is
                self._twin = self._session.model
        return self._twin
