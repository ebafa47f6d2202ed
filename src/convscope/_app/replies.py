"""Answers as HTTP has them: caching, errors as RFC 9457 JSON, headers that browsers obey."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from convscope._app import safety
from convscope._app.answers import Answer
from convscope._app.asked import Asked
from convscope._app.jobs import TooMany
from convscope._app.opening import NotReady
from convscope._errors import (
    ConvscopeError,
    ImageError,
    UnknownLayer,
    UsageError,
    is_out_of_memory,
    one_line,
)

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (safety.TooLarge, 413),
    (TooMany, 429),
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


def answering(answer: Callable[[Asked], Answer]) -> Callable[[Request], Response]:
    """A route that answers in a thread, so that no other request waits for it."""

    def handle(request: Request) -> Response:
        return safely(lambda: answer(Asked(request)), request)

    return handle


def safely(answer: Callable[[], Answer], request: Request) -> Response:
    """An answer as a response; what a model's own code raised, be it ``SystemExit``, in a line."""
    try:
        return response(answer(), request)
    except tuple(kind for kind, _ in _STATUS):
        raise
    except BaseException as error:
        return _unforeseen(request, error)


def response(answer: Answer, request: Request) -> Response:
    """What never changes may be kept by the browser, and is told by a checksum."""
    headers = {"Cache-Control": "no-store"}
    if answer.lasting:
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:20]}"'
        headers = {"Cache-Control": "private, max-age=3600", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
    return Response(answer.body, answer.status, headers, media_type=answer.type)


def problem(status: int, detail: str) -> JSONResponse:
    """RFC 9457."""
    title = _TITLES.get(status, "Error")
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Cache-Control": "no-store", **({"Retry-After": "1"} if status == 503 else {})}
    return JSONResponse(told, status, headers, media_type="application/problem+json")


def refusal(status: int, detail: str) -> Any:
    """What the gate answers."""
    return problem(status, detail)


def handlers() -> dict[Any, Any]:
    """What every error is answered with."""
    known = {kind: _problem for kind, _ in _STATUS}
    return {HTTPException: _http_problem, Exception: _unforeseen, **known}


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


class Headers:
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
