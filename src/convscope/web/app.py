"""The app: routes to answers, errors as RFC 9457 JSON."""

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

from convscope.errors import (
    ConvscopeError,
    ImageError,
    UnknownLayer,
    UsageError,
    is_out_of_memory,
    one_line,
)
from convscope.images import decode
from convscope.web import answers, page, safety
from convscope.web.answers import Answer
from convscope.web.evidence import Evidence
from convscope.web.jobs import Jobs, TooMany
from convscope.web.session import NotReady, Session, Slide

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (safety.TooLarge, 413), (TooMany, 429), (NotReady, 503), (UnknownLayer, 404),
    (ImageError, 415), (UsageError, 400), (ConvscopeError, 422),
)  # fmt: skip
_TITLES = {
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
    429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
    507: "Insufficient Storage",
}  # fmt: skip
_BEAT, _QUIET = 0.1, 15.0  # seconds: between looks at a job; after which a stream shows it lives


def make_app(session: Session, *, hosts: Iterable[str] = ()) -> Starlette:
    """The ASGI app of a session; ``hosts``: names it may be called by besides the loopback's."""
    told = _Told(session)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        session.start()
        yield
        told.jobs.close()

    app = Starlette(
        routes=told.routes(), lifespan=lifespan,
        exception_handlers={HTTPException: _http_problem, Exception: _unforeseen,
                            **{kind: _problem for kind, _ in _STATUS}},
    )  # fmt: skip
    app.state.leaving = told.leaving
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)
    app.add_middleware(_Headers, policy=page.policy())
    app.add_middleware(safety.Gate, refuse=_refusal, hosts=tuple(hosts))
    return app


class _Told:
    """What the routes share: the session, what is asked of its atlas, its jobs."""

    def __init__(self, session: Session) -> None:
        self.session, self.jobs = session, Jobs(session)
        self.evidence = Evidence(session)
        self.leaving = threading.Event()  # set when the server is to end: streams must not hold it

    def routes(self) -> list[Route]:
        s, atlas = self.session, self.evidence
        get: dict[str, Callable[[_Asked], Answer]] = {
            "model": lambda q: answers.model(s),
            "layers": lambda q: answers.layers(s),
            "inputs": lambda q: answers.inputs(s),
            "inputs/{id}": lambda q: answers.as_json(answers.about(s.slide(q.id))),
            "inputs/{id}/image": lambda q: answers.image(s, q.id, q.text("view", "original")),
            "inputs/{id}/predictions": lambda q: answers.predictions(s, q.id),
            "inputs/{id}/layers": lambda q: answers.glances(s, q.id),
            "inputs/{id}/thumbnails": lambda q: answers.thumbnails(s, q.id),
            "inputs/{id}/fields/{layer:int}": lambda q: answers.field(s, q.id, q.layer),
            "inputs/{id}/maps/{layer:int}": lambda q: answers.maps(
                s, q.id, q.layer, q.number("max", answers.THUMB), q.number("channel")
            ),
            "inputs/{id}/values/{layer:int}": lambda q: answers.values(
                s, q.id, q.layer, q.number("channel"), q.position()
            ),
            "inputs/{id}/attribution": lambda q: answers.attribution(
                s, q.id, q.text("method", "gradcam"), q.number("target")
            ),
            "inputs/{id}/attribution/{layer:int}": lambda q: answers.channel_attribution(
                s, q.id, q.layer, q.number("target")
            ),
            "kernels/{layer:int}": lambda q: answers.kernels(s, q.layer, q.number("channel")),
            "atlas/layers/{layer:int}": lambda q: atlas.layer(q.layer),
            "atlas/layers/{layer:int}/icons": lambda q: atlas.icons(q.layer),
            "atlas/layers/{layer:int}/channels/{channel:int}": lambda q: atlas.channel(
                q.layer, q.path("channel")
            ),
            "atlas/layers/{layer:int}/channels/{channel:int}/sprite": lambda q: atlas.sprite(
                q.layer, q.path("channel"), q.text("list", "top.mean"), q.text("view", "crop")
            ),
            "atlas/images": lambda q: atlas.images(q.number("start", 0), q.number("count", 48)),
            "atlas/images/{image:int}": lambda q: atlas.image(q.path("image")),
            "atlas/findings": lambda q: atlas.findings(),
            "jobs": lambda q: answers.as_json({"jobs": [job.card() for job in self.jobs.all()]}),
            "jobs/{id}": lambda q: answers.as_json(self.jobs.get(q.id).card()),
            "jobs/{id}/picture": lambda q: self._picture(q.id),
        }  # fmt: skip
        made = [Route(f"/api/{path}", _answering(answer)) for path, answer in get.items()]
        return [
            Route("/", _index),
            Route("/static/{name}", _static),
            Route("/api/inputs", self._show, methods=["POST"]),
            Route("/api/jobs", self._ask, methods=["POST"]),
            Route("/api/jobs/{id}", self._cancel, methods=["DELETE"]),
            Route("/api/jobs/{id}/events", self._events),
            *made,
        ]

    def _picture(self, id: str) -> Answer:
        job = self.jobs.get(id)
        if not job.picture:
            raise UnknownLayer("There is no picture yet")
        return Answer(job.picture, answers.PNG)

    async def _show(self, request: Request) -> Response:
        """Take a picture: uploaded, one of ours, or one of the atlas."""
        asked = _Asked(request)
        data = await safety.body_of(request)
        return await run_in_threadpool(_safely, lambda: self._shown(asked, data), request)

    def _shown(self, asked: _Asked, data: bytes) -> Answer:
        return answers.as_json(answers.about(self._slide(asked, data)), 201)

    def _slide(self, asked: _Asked, data: bytes) -> Slide:
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
        return _response(answers.as_json(job.card(), 201 if new else 200), request)

    async def _cancel(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        job.cancel()
        return _response(answers.as_json(job.card()), request)

    async def _events(self, request: Request) -> Response:
        """A job as it goes, by server-sent events."""
        job = self.jobs.get(request.path_params["id"])

        async def stream() -> AsyncIterator[bytes]:
            told, quiet = -1, 0.0
            while not self.leaving.is_set():
                if job.changes != told:
                    told, quiet, over = job.changes, 0.0, job.over
                    yield b"event: job\ndata: " + answers.as_json(job.card()).body + b"\n\n"
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


class _Asked:
    """A request's parameters, each checked as it is read."""

    def __init__(self, request: Request) -> None:
        self._path, self._query = request.path_params, request.query_params

    @property
    def id(self) -> str:
        return str(self._path["id"])

    @property
    def layer(self) -> int:
        return self.path("layer")

    def path(self, name: str) -> int:
        return int(self._path[name])

    def text(self, name: str, default: str) -> str:
        return self._query.get(name, default)

    def number(self, name: str, default: Any = None) -> Any:
        """A whole number, or ``default`` where it is not given."""
        text = self._query.get(name)
        if text is None:
            return default
        digits = text[1:] if text.startswith("-") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
            raise UsageError(f"{name}={text[:40]!r} is no whole number")
        return int(text)

    def position(self) -> tuple[int, int] | None:
        y, x = self.number("y"), self.number("x")
        if (y is None) != (x is None):
            raise UsageError("A position is ?y=ROW&x=COLUMN")
        return None if y is None else (y, x)


def _answering(answer: Callable[[_Asked], Answer]) -> Callable[[Request], Response]:
    """A route that answers in a thread, so that no other request waits for it."""

    def handle(request: Request) -> Response:
        return _safely(lambda: answer(_Asked(request)), request)

    return handle


def _safely(answer: Callable[[], Answer], request: Request) -> Response:
    """An answer as a response; what a model's own code raised, be it ``SystemExit``, in a line."""
    try:
        return _response(answer(), request)
    except tuple(kind for kind, _ in _STATUS):
        raise
    except BaseException as error:
        return _unforeseen(request, error)


def _response(answer: Answer, request: Request) -> Response:
    headers = {"Cache-Control": "no-store"}
    if answer.lasting:
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:20]}"'
        headers = {"Cache-Control": "private, max-age=3600", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
    return Response(answer.body, answer.status, headers, media_type=answer.type)


def _index(_: Request) -> Response:
    return Response(page.index(), media_type="text/html", headers={"Cache-Control": "no-cache"})


def _static(request: Request) -> Response:
    """A file of the app: one of those that were there when it started, by its name alone."""
    found = page.static().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "No such file")
    return Response(found.body, media_type=found.type, headers={"Cache-Control": "no-cache"})


def problem(status: int, detail: str) -> JSONResponse:
    """RFC 9457."""
    title = _TITLES.get(status, "Error")
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Cache-Control": "no-store", **({"Retry-After": "1"} if status == 503 else {})}
    return JSONResponse(told, status, headers, media_type="application/problem+json")


def _refusal(status: int, detail: str) -> Any:
    return problem(status, detail)


def _problem(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return problem(status, str(error))


def _http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail)


def _unforeseen(_: Request, error: BaseException) -> Response:
    """What was raised by somebody else's code: said in a line, and the server goes on."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    if is_out_of_memory(error):
        return problem(507, "There is not memory enough for this. Take a smaller picture")
    return problem(500, f"{type(error).__name__}: {one_line(error)}")


class _Headers:
    """What browsers are told to hold every answer to."""

    def __init__(self, app: safety.App, policy: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(
        self, scope: safety.Scope, receive: safety.Receive, send: safety.Send
    ) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, sending)
