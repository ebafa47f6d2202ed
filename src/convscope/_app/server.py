"""``cs.serve``: the microscope on 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any

from convscope._app.captured import BOUND
from convscope._app.offered import demos
from convscope._app.running import Prepared, Running
from convscope._app.session import Session
from convscope._atlas import Atlas, open_atlas
from convscope._data import open_dataset
from convscope._errors import AtlasError, MissingDependency, UsageError
from convscope._models import Model

PORT = 8765
_LIBRARIES = ("torchvision:", "timm:", "keras:")


def serve(
    model: Any = None,
    *,
    other: Any = None,
    atlas: Atlas | str | Path | None = None,
    images: Iterable[Any] = (),
    data: Any = None,
    port: int = PORT,
    open: bool = False,
    allow: Iterable[str] = (),
    memory: int = BOUND,
    opening: Sequence[Callable[[], Model]] = (),
    on_ready: Callable[[str], object] = print,
) -> Running | None:
    """Open the microscope: a page on 127.0.0.1 in which a network is walked through. Ctrl-C ends.

    - ``model``: a loaded model, or anything ``load`` takes; by default that of the atlas, where it
      can be had without running a file of somebody's, else ``demo``.
    - ``other``: a second network, likewise, to compare the first one with.
    - ``atlas``: the folder of one, or an atlas: exemplars and statistics beside every unit.
    - ``images``: pictures that are offered; ``port``: 0 takes any that is free.
    - ``data``: a dataset that may be scanned from the app, into the folder ``atlas`` where that is
      not there yet, else into one that goes when the process ends.
    - ``open``: open it in the browser; ``on_ready``: told the address.
    - ``allow``: names that a reverse proxy may call it by, besides the loopback's.
    - ``memory``: bytes of activations that are kept.
    - ``opening``: functions that load the networks, instead of ``model`` and ``other``.

    In a notebook (inside a running event loop) it does not wait: it returns a ``Running``, which
    draws the app and has ``.address`` and ``.close()``. Needs the extra ``app``. Raises
    ``UsageError`` where the port is taken.
    """
    made = _prepared(
        port,
        allow,
        make_session(model, atlas, images, other=other, data=data, memory=memory, opening=opening),
    )
    on_ready(made.address)
    if open:
        import webbrowser

        webbrowser.open(made.address)
    if _in_a_loop():
        return Running(made)
    with made.listening, suppress(KeyboardInterrupt):  # that is how it ends
        made.run()
    return None


def start(model: Any, *, atlas: Any = None) -> Running:
    """A server in a thread of its own, on a free port; its model is loaded here and now."""
    session = make_session(model, atlas).ready()
    return Running(_prepared(0, (), session))


def _prepared(port: int, allow: Iterable[str], session: Session) -> Prepared:
    """A server that listens and has not begun to answer."""
    uvicorn, make_app = _needed()
    listening = _listen(port)
    cap_threads()
    app = make_app(session, hosts=allow)
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=2,
        log_config=None,  # its own would close the handlers of a notebook's other libraries
    )
    server = uvicorn.Server(config)
    server.handle_exit = _parting(server.handle_exit, app.state.leaving)
    return Prepared(server, listening, app.state.leaving, session)


def _in_a_loop() -> bool:
    """Whether this thread runs an event loop already, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _parting(leave: Callable[..., None], leaving: Event) -> Callable[..., None]:
    """What a signal calls: streams end by themselves, then the server."""

    def handle(*told: Any) -> None:
        leaving.set()
        leave(*told)

    return handle


def make_session(
    model: Any = None,
    atlas: Atlas | str | Path | None = None,
    images: Iterable[Any] = (),
    *,
    other: Any = None,
    data: Any = None,
    memory: int = BOUND,
    opening: Sequence[Callable[[], Model]] = (),
) -> Session:
    """What ``serve`` serves; nothing is loaded yet but the atlas."""
    dataset = None if data is None else open_dataset(data)
    known = opened(atlas, data)
    named = None if atlas is None or isinstance(atlas, Atlas) else Path(atlas).expanduser()
    if model is None and not opening:
        model = "demo" if known is None else model_of(known)
    second = None
    if other is not None or len(opening) > 1:
        memory //= 2
        second = Session(other, bound=memory, opening=opening[1] if opening else None)
    session = Session(
        model,
        known,
        bound=memory,
        opening=opening[0] if opening else None,
        other=second,
        data=dataset,
        folder=named,
    )
    session.demos = demos(images)
    return session


def opened(atlas: Atlas | str | Path | None, data: Any = None) -> Atlas | None:
    """The atlas, where there is one; where ``data`` may be scanned it need not be there yet."""
    if atlas is None or isinstance(atlas, Atlas):
        return atlas
    try:
        return open_atlas(atlas)
    except AtlasError:
        if data is None:
            raise
        return None


def model_of(atlas: Atlas) -> str | None:
    """The network of an atlas where its name alone is enough, and no file is run for it."""
    name, title = str(atlas.manifest["model"]["name"]), atlas.model
    plain = name == "demo" or name.startswith(_LIBRARIES)
    return name if plain and title == name else None


def cap_threads() -> None:
    """Leave a core to whoever else works here; a network gains little from the last one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (cores or 2) - 1)))


def _needed() -> tuple[Any, Any]:
    try:
        return import_module("uvicorn"), import_module("convscope._app.app").make_app
    except ModuleNotFoundError as error:
        name = (error.name or "starlette").partition(".")[0]
        raise MissingDependency(name, "The app", "app") from None


def _listen(port: int) -> socket.socket:
    """A socket on the loopback, and nowhere else."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)  # from here on a browser waits instead of being turned away
    except (OSError, OverflowError):
        listening.close()
        raise UsageError(
            f"Port {port} of 127.0.0.1 is taken, or may not be. Try --port {port + 1}, or "
            "--port 0 for any that is free"
        ) from None
    return listening
