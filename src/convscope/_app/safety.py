"""What the server lets in.

It listens on the loopback, but any page that is open in the same browser can send requests there:
by a name of its own that resolves to 127.0.0.1 (DNS rebinding; the Host gives it away), or from
elsewhere (the Origin does). Pictures are limited in bytes and in pixels, and nothing that comes in
is ever taken for a path, or unpickled.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from convscope._errors import ImageError
from convscope._images import Picture, decode, pixels_of

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_BYTES = 32 << 20
MAX_PIXELS = 50_000_000
_JSON_BYTES = 64 << 10

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[int, str], App]


class TooLarge(Exception):
    """A request's body is longer than what is taken."""


class Gate:
    """Turns away requests for another host, and from another page."""

    def __init__(self, app: App, refuse: Refuse, hosts: Iterable[str] = ()) -> None:
        self._app, self._refuse = app, refuse
        self._named = frozenset(host.lower() for host in hosts)
        self._hosts = LOCAL | self._named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wrong = self._wrong(scope) if scope["type"] == "http" else ""
        app = self._refuse(403, wrong) if wrong else self._app
        await app(scope, receive, send)

    def _wrong(self, scope: Scope) -> str:
        """Why this request is not served; empty where it is."""
        headers = _single(scope["headers"])
        if headers is None:
            return "This request names its Host or Origin twice"
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            return (
                f"This server is not {host[:80]!r}. Open it as 127.0.0.1, or start it with "
                "--allow HOST"
            )
        origin = headers.get("origin")
        if origin is not None and not self._own(origin, host):
            return f"A page of {origin[:80]!r} may not ask this server"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and (
            headers.get("sec-fetch-mode") != "navigate" or scope["path"].startswith("/api/")
        ):
            return "Another page may not ask this server"
        return ""

    def _own(self, origin: str, host: str) -> bool:
        """Whether a page is ours: of the very host and port it asks, or of a name told."""
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and (
                parts.netloc.lower() == host.lower() or (parts.hostname or "") in self._named
            )
        except ValueError:
            return False


def _single(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """Headers by name; ``None`` where one that decides is there twice."""
    found: dict[str, str] = {}
    for key, value in raw:
        name = key.decode("latin-1").lower()
        if name in ("host", "origin") and name in found:
            return None
        found[name] = value.decode("latin-1")
    return found


def _name(host: str) -> str:
    """A host without its port: ``[::1]:80`` is ``::1``."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def body_of(request: Any, most: int = MAX_BYTES) -> bytes:
    """A request's body, read no further than is taken. Raises ``TooLarge``."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > most:
        raise TooLarge(_too_large(most))
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > most:
            raise TooLarge(_too_large(most))
        parts.append(part)
    return b"".join(parts)


async def json_of(request: Any) -> bytes:
    """A request's body where it is to be JSON: a few lines at most."""
    return await body_of(request, _JSON_BYTES)


def _too_large(most: int) -> str:
    size = f"{most >> 20} MB" if most >= 1 << 20 else f"{most >> 10} kB"
    return f"More than {size} were sent; that much is not taken. Reduce the picture first"


def picture_of(data: bytes, name: str) -> Picture:
    """An uploaded picture, decoded after a look at its size. Raises ``ImageError``."""
    name = shown_name(name)
    size = pixels_of(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"{name!r} is {size[0]}×{size[1]} pixels; more than {MAX_PIXELS // 10**6} million are "
            "not taken. Reduce it first"
        )
    return decode(io.BytesIO(data), name=name)


def shown_name(name: str) -> str:
    """A name from the network as it is shown, never opened: its last part, without controls."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:80].strip(". ") or "picture"
