"""``cs.serve``: the microscope on 127.0.0.1."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any

from convscope.atlas import Atlas, open_atlas
from convscope.errors import MissingDependency, UsageError
from convscope.images import Picture, decode
from convscope.models import Model
from convscope.web.session import BOUND, Session

PORT = 8765
_PHOTOGRAPHS = ("cat", "coffee", "rocket")  # of scikit-image, where it is installed
_SHAPES = 3
_LIBRARIES = ("torchvision:", "timm:", "keras:")


def serve(
    model: Any = None,
    *,
    atlas: Atlas | str | Path | None = None,
    images: Iterable[Any] = (),
    port: int = PORT,
    open: bool = False,
    allow: Iterable[str] = (),
    memory: int = BOUND,
    opening: Callable[[], Model] | None = None,
    on_ready: Callable[[str], object] = print,
) -> None:
    """Open the microscope: a page on 127.0.0.1 in which a network is walked through. Ctrl-C ends.

    - ``model``: a loaded model, or anything ``load`` takes; by default that of the atlas, where it
      can be had without running a file of somebody's, else ``demo``.
    - ``atlas``: the folder of one, or an atlas: exemplars and statistics beside every unit.
    - ``images``: pictures that are offered; ``port``: 0 takes any that is free.
    - ``open``: open it in the browser; ``on_ready``: told the address.
    - ``allow``: names that a reverse proxy may call it by, besides the loopback's.
    - ``memory``: bytes of activations that are kept.
    - ``opening``: a function that loads the model, instead of ``model``.

    Needs the extra ``app``. Raises ``UsageError`` where the port is taken.
    """
    uvicorn, make_app = _needed()
    listening = _listen(port)
    session = make_session(model, atlas, images, memory=memory, opening=opening)
    cap_threads()
    app = make_app(session, hosts=allow)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    on_ready(address)
    if open:
        import webbrowser

        webbrowser.open(address)
    server = uvicorn.Server(config)
    server.handle_exit = _parting(server.handle_exit, app.state.leaving)
    with listening, suppress(KeyboardInterrupt):  # that is how it ends
        server.run(sockets=[listening])


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
    memory: int = BOUND,
    opening: Callable[[], Model] | None = None,
) -> Session:
    """What ``serve`` serves; nothing is loaded yet but the atlas."""
    opened = atlas if isinstance(atlas, Atlas) or atlas is None else open_atlas(atlas)
    if model is None and opening is None:
        model = "demo" if opened is None else model_of(opened)
    session = Session(model, opened, bound=memory, opening=opening)
    session.demos = demos(images)
    return session


def model_of(atlas: Atlas) -> str | None:
    """The network of an atlas where its name alone is enough, and no file is run for it."""
    name, title = str(atlas.manifest["model"]["name"]), atlas.model
    plain = name == "demo" or name.startswith(_LIBRARIES)
    return name if plain and title == name else None


def demos(images: Iterable[Any] = ()) -> Mapping[str, Callable[[], Picture]]:
    """Pictures that are offered: those given, photographs, drawn shapes."""
    given = {picture.name: partial(decode, picture) for picture in map(decode, images)}
    return {**given, **_photographs(), **_shapes()}


def _photographs() -> dict[str, Callable[[], Picture]]:
    try:
        data = import_module("skimage.data")
    except ModuleNotFoundError:
        return {}

    def photograph(name: str) -> Picture:
        return decode(getattr(data, name)(), name=name)

    return {name: partial(photograph, name) for name in _PHOTOGRAPHS}


def _shapes() -> dict[str, Callable[[], Picture]]:
    from convscope.data import open_dataset

    drawn = open_dataset("shapes")

    def shape(name: str, index: int) -> Picture:
        return decode(drawn.picture(index), name=name)

    names = [f"shape {k + 1}" for k in range(_SHAPES)]
    return {name: partial(shape, name, k) for k, name in enumerate(names)}


def cap_threads() -> None:
    """Leave a core to whoever else works here; a network gains little from the last one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (cores or 2) - 1)))


def _needed() -> tuple[Any, Any]:
    try:
        return import_module("uvicorn"), import_module("convscope.web.app").make_app
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
