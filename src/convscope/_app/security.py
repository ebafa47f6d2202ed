"""Which requests are served, and what browsers may do with the answers.

The server binds the loopback, but any page that is open in the same browser can send requests to
it: under a name of its own that resolves to 127.0.0.1 (DNS rebinding; the Host header shows it), or
from another origin (the Origin header shows it). Images are limited in bytes and in pixels, and
nothing of a request is used as a path or unpickled.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from convscope._errors import ImageError
from convscope._images import DecodedImage, decode, pixels_of

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_BYTES = 32 << 20
MAX_PIXELS = 50_000_000
_MAX_JSON_BYTES = 64 << 10

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[int, str], App]


class TooLarge(Exception):
    """A request's body is longer than the limit."""


class SecurityHeaders:
    """Middleware that adds headers that restrict what a browser does with a response.

    Args:
        app: The app it wraps.
        policy: The Content-Security-Policy.
    """

    def __init__(self, app: App, policy: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RequestGuard:
    """Middleware that refuses requests for another host, and from the pages of other origins.

    Args:
        app: The app it wraps.
        refuse: Makes a response of a status and a reason.
        hosts: Names that the server may be called by, besides those of the loopback.
    """

    def __init__(self, app: App, refuse: Refuse, hosts: Iterable[str] = ()) -> None:
        self._app, self._refuse = app, refuse
        self._named = frozenset(host.lower() for host in hosts)
        self._hosts = LOCAL | self._named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._reason(scope) if scope["type"] == "http" else ""
        app = self._refuse(403, reason) if reason else self._app
        await app(scope, receive, send)

    def _reason(self, scope: Scope) -> str:
        """Why this request is refused; empty where it is served."""
        headers = _headers_by_name(scope["headers"])
        if headers is None:
            return "This request names its Host or Origin twice"
        host = headers.get("host", "")
        if _host_name(host) not in self._hosts:
            return (
                f"This server is not {host[:80]!r}. Open it as 127.0.0.1, or start it with "
                "--allow HOST"
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host):
            return f"Pages of {origin[:80]!r} may not send requests to this server"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and (
            headers.get("sec-fetch-mode") != "navigate" or scope["path"].startswith("/api/")
        ):
            return "Pages of other sites may not send requests to this server"
        return ""

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether an origin is the very host and port of the request, or one of ``hosts``."""
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and (
                parts.netloc.lower() == host.lower() or (parts.hostname or "") in self._named
            )
        except ValueError:
            return False


def _headers_by_name(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """Headers by name; ``None`` where Host or Origin occurs twice."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name = key.decode("latin-1").lower()
        if name in ("host", "origin") and name in headers:
            return None
        headers[name] = value.decode("latin-1")
    return headers


def _host_name(host: str) -> str:
    """A host without its port: ``[::1]:80`` is ``::1``."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def read_body(request: Any, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a request's body, no further than the limit. Raises ``TooLarge``."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise TooLarge(_too_large(max_bytes))
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > max_bytes:
            raise TooLarge(_too_large(max_bytes))
        parts.append(part)
    return b"".join(parts)


async def read_json(request: Any) -> bytes:
    """Read a request's body where it is to be JSON: a few lines at most."""
    return await read_body(request, _MAX_JSON_BYTES)


def _too_large(max_bytes: int) -> str:
    size = f"{max_bytes >> 20} MB" if max_bytes >= 1 << 20 else f"{max_bytes >> 10} kB"
    return f"The request is larger than {size}, which is the limit. Reduce the image first"


def decode_upload(data: bytes, name: str) -> DecodedImage:
    """Decode an uploaded image, its size checked first. Raises ``ImageError``."""
    name = display_name(name)
    size = pixels_of(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"{name!r} has {size[0]}×{size[1]} pixels; the limit is {MAX_PIXELS // 10**6} million. "
            "Reduce it first"
        )
    return decode(io.BytesIO(data), name=name)


def display_name(name: str) -> str:
    """The last part of a name from a request, without control characters; it is never opened."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:80].strip(". ") or "image"
