"""Long tasks, one after another in a thread of their own: progress, preview, cancel."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from convscope._app.session import Session
from convscope._app.tasks import Task, parse_task
from convscope._errors import ConvscopeError, ModelError, UnknownLayer, one_line
from convscope._models import Model

MAX_WAITING, MAX_JOBS = 8, 64
_PREVIEW_INTERVAL, _PATIENCE = 0.5, 10.0  # seconds
_ENDED = frozenset({"done", "failed", "canceled"})


class TooManyJobs(ConvscopeError):
    """As many jobs are waiting as may."""


class _Canceled(BaseException):
    """A ``BaseException``, so that no task catches it as a failure of its own."""


@dataclass(eq=False)
class Job:
    """A task, how far it is, and what came of it; its task reports to it as ``Progress``.

    Attributes:
        revision: Counts changes, for those who follow the job.
        previews: Number of previews so far.
    """

    id: str
    task: Task
    title: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    message: str = ""
    previews: int = 0
    image: bytes = b""
    result: dict[str, Any] | None = None
    revision: int = 0
    canceling: threading.Event = field(default_factory=threading.Event)
    next_preview: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or canceled."""
        return self.state in _ENDED

    def to_dict(self) -> dict[str, Any]:
        """The job and its task, for JSON."""
        return {
            **asdict(self.task),
            "id": self.id,
            "kind": self.task.kind,
            "title": self.title,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "message": self.message,
            "previews": self.previews,
            "result": self.result,
        }

    def cancel(self) -> None:
        """End it at its next report; a job that has ended stays as it is."""
        self.canceling.set()
        if self.state == "waiting":
            self.end("canceled")

    def end(self, state: str, message: str = "") -> None:
        """Set the final state."""
        self.state, self.message = state, message
        self.revision += 1

    # As ``Progress``

    def report(self, done: int, total: int, message: str = "") -> None:
        """Say how far it is; ends the task where the job was canceled."""
        if self.canceling.is_set():
            raise _Canceled
        self.done, self.total, self.message = done, total, message
        self.revision += 1

    def preview_due(self) -> bool:
        """Whether it is time for another preview."""
        return time.monotonic() >= self.next_preview

    def preview(self, png: bytes) -> None:
        """Show an image of how it stands."""
        self.next_preview = time.monotonic() + _PREVIEW_INTERVAL
        self.image = png
        self.previews += 1
        self.revision += 1


class Jobs:
    """The jobs of one server.

    They run on a copy of the network: an optimization occupies it for its whole duration, and
    requests for maps must not wait for it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs: dict[str, Job] = {}
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._model_copy: Model | None = None

    def all(self) -> list[Job]:
        """All jobs that are remembered, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def get(self, id: str) -> Job:
        """The job of that id. Raises ``UnknownLayer``."""
        with self._lock:
            if id in self._jobs:
                return self._jobs[id]
        raise UnknownLayer(f"No job {id[:40]!r}")

    def submit(self, request: object) -> tuple[Job, bool]:
        """The job of a requested task, and whether it is a new one: equal tasks are one job."""
        task = parse_task(request, self._session)
        title = task.title(self._session)
        with self._lock:
            for job in self._jobs.values():
                valid = job.state not in ("failed", "canceled") and not job.canceling.is_set()
                if job.task == task and valid:
                    return job, False
            if sum(job.state == "waiting" for job in self._jobs.values()) >= MAX_WAITING:
                raise TooManyJobs(
                    f"{MAX_WAITING} jobs are waiting already. Cancel one, or wait for it"
                )
            return self._begin(task, title), True

    def _begin(self, task: Task, title: str) -> Job:
        job = Job(str(next(self._numbers)), task, title, total=getattr(task, "steps", 0))
        self._jobs[job.id] = job
        ended = [old.id for old in self._jobs.values() if old.ended]
        for id in ended[: len(self._jobs) - MAX_JOBS]:
            del self._jobs[id]
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="convscope-jobs", daemon=True)
            self._worker.start()
        self._queue.put(job)
        return job

    def close(self) -> None:
        """Cancel all, and wait for the thread: torch may crash where a process ends in mid-step."""
        for job in self.all():
            job.cancel()
        self._queue.put(None)
        if self._worker is not None:
            self._worker.join(_PATIENCE)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.ended:
                continue
            job.state = "running"
            job.revision += 1
            try:
                job.result = job.task.run(self._session, self._model(), job)
                job.end("done")
            except _Canceled:
                job.end("canceled")
            except BaseException as error:  # the code of a model may raise anything
                self._model_copy = None  # its state is unknown
                known = isinstance(error, ConvscopeError)
                job.end("failed", str(error) if known else one_line(error))

    def _model(self) -> Model:
        if self._model_copy is None:
            try:
                self._model_copy = self._session.model.randomized([])
            except ModelError:  # what cannot be copied is used as it is
                self._model_copy = self._session.model
        return self._model_copy
