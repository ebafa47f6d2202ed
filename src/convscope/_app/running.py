"""A server in a thread of its own, for notebooks."""

from __future__ import annotations

import html
import threading
from dataclasses import dataclass
from socket import socket
from types import TracebackType
from typing import Any

from convscope._app.microscope import FRAME
from convscope._app.session import Session

_PATIENCE = 10.0  # seconds


@dataclass(frozen=True, eq=False)
class Prepared:
    """A server that listens and has not begun to answer."""

    server: Any
    listening: socket
    leaving: threading.Event
    session: Session

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}/"

    def run(self) -> None:
        """Answer until it is told to end."""
        self.server.run(sockets=[self.listening])


class Running:
    """The microscope while it runs beside a notebook: ``address``, ``close()``; draws the app.

    It ends with the process, with ``close()`` and as a context manager.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.address, self.session = prepared.address, prepared.session
        self._prepared = prepared
        self._thread = threading.Thread(target=self._serve, name="convscope-serve", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._prepared.listening:
            self._prepared.run()

    def close(self) -> None:
        """End it; twice does no harm."""
        self._prepared.leaving.set()
        self._prepared.server.should_exit = True
        self._thread.join(_PATIENCE)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        address = html.escape(self.address, quote=True)
        return f'<iframe src="{address}" title="convscope" style="{FRAME}"></iframe>'

    def __repr__(self) -> str:
        state = "running" if self._thread.is_alive() else "ended"
        return f"Running({self.address}, {state})"
