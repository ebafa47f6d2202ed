"""The ASGI app: the page, lookups, uploads, jobs and their events; errors as RFC 9457 JSON."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from convscope._app import input_api, page, security
from convscope._app.atlas_api import AtlasApi
from convscope._app.inputs import InputImage
from convscope._app.jobs import Jobs, TooManyJobs
from convscope._app.routes import Parameters, lookups
from convscope._app.session import NotReady, Session
from convscope._app.wire import Payload, json_payload
from convscope._errors import (
    ConvscopeError,
    ImageError,
    UnknownLayer,
    UsageError,
    is_out_of_memory,
    one_line,
)
from convscope._images import decode

_POLL, _KEEP_ALIVE = 0.1, 15.0  # seconds: between looks at a job; between comments in a stream
_SIZE_RANGE = (8, 1024)  # pixels a side

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (security.TooLarge, 413),
    (TooManyJobs, 429),
    (NotReady, 503),
    (UnknownLayer, 404),
    (ImageError, 415),
    (UsageError, 400),
    (ConvscopeError, 422),
)
_TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


def make_app(session: Session, *, hosts: Iterable[str] = ()) -> Starlette:
    """Make the ASGI app of a session.

    Args:
        session: What it serves.
        hosts: Names that it may be called by, besides those of the loopback.

    Returns:
        The app; ``state.leaving`` is an event that ends its streams.
    """
    handlers = _Handlers(session)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        session.start()
        yield
        await run_in_threadpool(handlers.jobs.close)
        await run_in_threadpool(session.close)

    app = Starlette(
        routes=handlers.routes(), lifespan=lifespan, exception_handlers=_exception_handlers()
    )
    app.state.leaving = handlers.leaving
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)
    app.add_middleware(security.SecurityHeaders, policy=page.policy())
    app.add_middleware(security.RequestGuard, refuse=problem, hosts=tuple(hosts))
    return app


class _Handlers:
    """What the routes share: the session, its atlas, its jobs."""

    def __init__(self, session: Session) -> None:
        self.session, self.jobs = session, Jobs(session)
        self.atlas = AtlasApi(session)
        self.leaving = threading.Event()  # set when the server is to end, which streams would hold

    def routes(self) -> list[Route]:
        table = lookups(self.session, self.atlas, self.jobs)
        return [
            Route("/", _index),
            Route("/static/{name}", _static),
            Route("/api/inputs", self._add_input, methods=["POST"]),
            Route("/api/jobs", self._submit_job, methods=["POST"]),
            Route("/api/jobs/{id}", self._cancel_job, methods=["DELETE"]),
            Route("/api/jobs/{id}/events", self._job_events),
            *(Route(f"/api/{path}", _lookup_route(look_up)) for path, look_up in table.items()),
        ]

    async def _add_input(self, request: Request) -> Response:
        """Add an input image: uploaded, a demo image, or one of the atlas."""
        parameters = Parameters(request)
        data = await security.read_body(request)

        def add() -> Payload:
            return json_payload(input_api.input_facts(self._input(parameters, data)), 201)

        return await run_in_threadpool(_respond_safely, add, request)

    def _input(self, parameters: Parameters, data: bytes) -> InputImage:
        size = parameters.number("size")
        if size is not None and not _SIZE_RANGE[0] <= size <= _SIZE_RANGE[1]:
            raise UsageError(f"size={size} is out of range: {_SIZE_RANGE[0]} to {_SIZE_RANGE[1]}")
        _ = self.session.model  # is loaded
        demo, index = parameters.text("demo", ""), parameters.number("atlas")
        if demo:
            if demo not in self.session.demos:
                known = ", ".join(self.session.demos) or "none"
                raise UnknownLayer(f"No demo image {demo[:40]!r}. Known: {known}")
            return self.session.add_input(self.session.demos[demo](), size)
        if index is not None:
            thumbnail, id = self.atlas.thumbnail(index)
            image = decode(thumbnail, name=f"{security.display_name(id)} (thumbnail)")
            return self.session.add_input(image, size)
        if not data:
            raise UsageError("No image was sent. Send its bytes as the body")
        upload = security.decode_upload(data, parameters.text("name", "image"))
        return self.session.add_input(upload, size)

    async def _submit_job(self, request: Request) -> Response:
        data = await security.read_json(request)
        try:
            task = json.loads(data)
        except (ValueError, RecursionError):
            raise UsageError("The body is not JSON") from None
        job, new = await run_in_threadpool(self.jobs.submit, task)
        return _response(json_payload(job.to_dict(), 201 if new else 200), request)

    async def _cancel_job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        job.cancel()
        return _response(json_payload(job.to_dict()), request)

    async def _job_events(self, request: Request) -> Response:
        """The states of a job, as server-sent events."""
        job = self.jobs.get(request.path_params["id"])

        async def stream() -> AsyncIterator[bytes]:
            sent, quiet = -1, 0.0
            while not self.leaving.is_set():
                if job.revision != sent:
                    sent, quiet, ended = job.revision, 0.0, job.ended
                    yield b"event: job\ndata: " + json_payload(job.to_dict()).body + b"\n\n"
                    if ended:
                        return
                elif quiet >= _KEEP_ALIVE:
                    quiet = 0.0
                    yield b": keep-alive\n\n"
                await asyncio.sleep(_POLL)
                quiet += _POLL

        # No buffering in a proxy, and no compression, which would hold events back.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _index(_: Request) -> Response:
    return Response(page.index(), media_type="text/html", headers={"Cache-Control": "no-cache"})


def _static(request: Request) -> Response:
    """A file of the app, by its name alone: only those that were there at the start."""
    name = request.path_params["name"]
    file = page.static_files().get(name)
    if file is None:
        raise HTTPException(404, "No such file")
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.body, media_type=file.media_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(page.compressed(name), media_type=file.media_type, headers=headers)


# Payloads as responses


def _lookup_route(look_up: Callable[[Parameters], Payload]) -> Callable[[Request], Response]:
    """A handler that runs in a thread, so that no other request waits for it."""

    def handle(request: Request) -> Response:
        return _respond_safely(lambda: look_up(Parameters(request)), request)

    return handle


def _respond_safely(make: Callable[[], Payload], request: Request) -> Response:
    """Respond with a payload, or with one line where a model's own code raises anything."""
    try:
        return _response(make(), request)
    except tuple(kind for kind, _ in _STATUS):
        raise
    except BaseException as error:  # even ``SystemExit``
        return _unforeseen(request, error)


def _response(payload: Payload, request: Request) -> Response:
    """Browsers may cache what is immutable; a checksum identifies it."""
    headers = {"Cache-Control": "no-store"}
    if payload.immutable:
        tag = f'"{hashlib.sha256(payload.body).hexdigest()[:20]}"'
        headers = {"Cache-Control": "private, max-age=3600", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
    return Response(payload.body, payload.status, headers, media_type=payload.media_type)


# Errors


def problem(status: int, detail: str) -> Any:
    """An error as a response, after RFC 9457."""
    title = _TITLES.get(status, "Error")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Cache-Control": "no-store", **({"Retry-After": "1"} if status == 503 else {})}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def _exception_handlers() -> dict[Any, Any]:
    known = {kind: _known for kind, _ in _STATUS}
    return {HTTPException: _http_exception, Exception: _unforeseen, **known}


def _known(_: Request, error: Exception) -> Any:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return problem(status, str(error))


def _http_exception(_: Request, error: Exception) -> Any:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail)


def _unforeseen(_: Request, error: BaseException) -> Response:
    """What the code of a model raised, in one line; the server goes on."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    response: Response = (
        problem(507, "Not enough memory for this. Use a smaller image")
        if is_out_of_memory(error)
        else problem(500, f"{type(error).__name__}: {one_line(error)}")
    )
    return response
