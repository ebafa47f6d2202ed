"""A request's parameters, each checked as it is read."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from convscope._errors import UsageError


class Asked:
    """A request's parameters."""

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

    def unit(self) -> tuple[int, int] | None:
        """A layer and a channel, where something is asked of a unit."""
        layer, channel = self.number("layer"), self.number("channel")
        if (layer is None) != (channel is None):
            raise UsageError("A unit is ?layer=INDEX&channel=NUMBER")
        return None if layer is None else (layer, channel)
