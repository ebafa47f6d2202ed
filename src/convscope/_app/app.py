"""The app: the page, what is looked up, pictures that are brought, jobs and their events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from convscope._app import page, pictures, replies, safety
from convscope._app.answers import Answer, as_json
from convscope._app.asked import Asked
from convscope._app.evidence import Evidence
from convscope._app.jobs import Jobs
from convscope._app.routes import lookups
from convscope._app.session import Session
from convscope._app.slides import Slide
from convscope._errors import UnknownLayer, UsageError
from convscope._images import decode

_BEAT, _QUIET = 0.1, 15.0  # seconds: between looks at a job; after which a stream shows it lives


def make_app(session: Session, *, hosts: Iterable[str] = ()) -> Starlette:
    """The ASGI app of a session; ``hosts``: names it may be called by besides the loopback's."""
    told = _Told(session)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        session.start()
        yield
        await run_in_threadpool(told.jobs.close)
        await run_in_threadpool(session.close)

    app = Starlette(routes=told.routes(), lifespan=lifespan, exception_handlers=replies.handlers())
    app.state.leaving = told.leaving
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)
    app.add_middleware(replies.Headers, policy=page.policy())
    app.add_middleware(safety.Gate, refuse=replies.refusal, hosts=tuple(hosts))
    return app


class _Told:
    """What the routes share: the session, what is asked of its atlas, its jobs."""

    def __init__(self, session: Session) -> None:
        self.session, self.jobs = session, Jobs(session)
        self.evidence = Evidence(session)
        self.leaving = threading.Event()  # set when the server is to end: streams must not hold it

    def routes(self) -> list[Route]:
        found = lookups(self.session, self.evidence, self.jobs)
        return [
            Route("/", _index),
            Route("/static/{name}", _static),
            Route("/api/inputs", self._show, methods=["POST"]),
            Route("/api/jobs", self._ask, methods=["POST"]),
            Route("/api/jobs/{id}", self._cancel, methods=["DELETE"]),
            Route("/api/jobs/{id}/events", self._events),
            *(Route(f"/api/{path}", replies.answering(answer)) for path, answer in found.items()),
        ]

    async def _show(self, request: Request) -> Response:
        """Take a picture: uploaded, one of ours, or one of the atlas."""
        asked = Asked(request)
        data = await safety.body_of(request)
        return await run_in_threadpool(replies.safely, lambda: self._shown(asked, data), request)

    def _shown(self, asked: Asked, data: bytes) -> Answer:
        return as_json(pictures.about(self._slide(asked, data)), 201)

    def _slide(self, asked: Asked, data: bytes) -> Slide:
        size = asked.number("size")
        if size is not None and not 8 <= size <= 1024:
            raise UsageError(f"size={size} is out of range: 8 to 1024")
        _ = self.session.model  # there is one
        demo, image = asked.text("demo", ""), asked.number("atlas")
        if demo:
            if demo not in self.session.demos:
                known = ", ".join(self.session.demos) or "none"
                raise UnknownLayer(f"No picture {demo[:40]!r} comes with it. Known: {known}")
            return self.session.show(self.session.demos[demo](), size)
        if image is not None:
            found, name = self.evidence.thumbnail(image)
            picture = decode(found, name=f"{safety.shown_name(name)} (thumbnail)")
            return self.session.show(picture, size)
        if not data:
            raise UsageError("No picture was sent. Send its bytes as the body")
        return self.session.show(safety.picture_of(data, asked.text("name", "picture")), size)

    async def _ask(self, request: Request) -> Response:
        """Begin a job."""
        data = await safety.json_of(request)
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            raise UsageError("The body is not JSON") from None
        job, new = await run_in_threadpool(self.jobs.ask, told)
        return replies.response(as_json(job.to_dict(), 201 if new else 200), request)

    async def _cancel(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        job.cancel()
        return replies.response(as_json(job.to_dict()), request)

    async def _events(self, request: Request) -> Response:
        """A job as it goes, by server-sent events."""
        job = self.jobs.get(request.path_params["id"])

        async def stream() -> AsyncIterator[bytes]:
            told, quiet = -1, 0.0
            while not self.leaving.is_set():
                if job.changes != told:
                    told, quiet, over = job.changes, 0.0, job.over
                    yield b"event: job\ndata: " + as_json(job.to_dict()).body + b"\n\n"
                    if over:
                        return
                elif quiet >= _QUIET:
                    quiet = 0.0
                    yield b": still here\n\n"
                await asyncio.sleep(_BEAT)
                quiet += _BEAT

        # No buffering in a proxy, and no compression, which would hold events back.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _index(_: Request) -> Response:
    return Response(page.index(), media_type="text/html", headers={"Cache-Control": "no-cache"})


def _static(request: Request) -> Response:
    """A file of the app: one of those that were there when it started, by its name alone."""
    name = request.path_params["name"]
    found = page.static().get(name)
    if found is None:
        raise HTTPException(404, "No such file")
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(found.body, media_type=found.type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(page.packed(name), media_type=found.type, headers=headers)
