"""``cs.serve``: the app on 127.0.0.1."""

from __future__ import annotations

import asyncio
import html
import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from convscope._app.inputs import demo_images
from convscope._app.page import FRAME_STYLE
from convscope._app.session import CACHE_BYTES, Session
from convscope._atlas import Atlas, open_atlas
from convscope._data import DatasetLike, open_dataset
from convscope._errors import AtlasError, MissingDependency, UsageError
from convscope._images import ImageLike
from convscope._models import Model, ModelLike

PORT = 8765
_PATIENCE = 10.0  # seconds
_LIBRARIES = ("torchvision:", "timm:", "keras:")


def serve(
    model: ModelLike | None = None,
    *,
    other: ModelLike | None = None,
    atlas: Atlas | str | Path | None = None,
    images: Iterable[ImageLike] = (),
    data: DatasetLike | None = None,
    port: int = PORT,
    open: bool = False,
    allow: Iterable[str] = (),
    cache_bytes: int = CACHE_BYTES,
    load_models: Sequence[Callable[[], Model]] = (),
    on_ready: Callable[[str], object] = print,
) -> AppServer | None:
    """Serve the app on 127.0.0.1 until Ctrl-C; in a notebook, in the background.

    Needs the extra ``app``.

    Args:
        model: A loaded model, or anything ``load`` takes (default: that of the atlas where its
            name alone is enough to load it, without an atlas ``demo``).
        other: A second network to compare with.
        atlas: An atlas or the folder of one, for dataset examples and statistics.
        images: Images to offer beside the demo images.
        data: A dataset that may be scanned from the app, into the folder ``atlas`` where that
            does not exist yet, else into a temporary folder.
        port: Port; 0 takes any that is free.
        open: Whether to open the app in the browser.
        allow: Host names that a reverse proxy may use, besides those of the loopback.
        cache_bytes: Bytes of activations to cache.
        load_models: Functions that load the networks, instead of ``model`` and ``other``.
        on_ready: Called with the URL once the server listens.

    Returns:
        Inside a running event loop, as in a notebook, the server, which runs in a thread;
        elsewhere ``None``, when the server has ended.

    Raises:
        UsageError: The port is taken.
        MissingDependency: The extra ``app`` is not installed.
        AtlasError: ``atlas`` is no atlas, and there is no ``data`` to scan.
    """
    session = make_session(
        model,
        atlas,
        images,
        other=other,
        data=data,
        cache_bytes=cache_bytes,
        load_models=load_models,
    )
    bound = _bind(port, allow, session)
    on_ready(bound.address)
    if open:
        webbrowser.open(bound.address)
    if _in_event_loop():
        return AppServer(bound)
    with bound.socket, suppress(KeyboardInterrupt):  # the usual way to end it
        bound.run()
    return None


class AppServer:
    """The app served from a thread; the last line of a notebook cell shows it.

    It ends with the process, with ``close()``, and at the end of a ``with`` block.

    Args:
        bound: The server that listens already.
    """

    def __init__(self, bound: BoundServer) -> None:
        self._bound = bound
        self._address = bound.address  # a closed socket has none
        self._thread = threading.Thread(target=self._run, name="convscope-serve", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """URL of the app."""
        return self._address

    @property
    def session(self) -> Session:
        """The networks, the atlas and the input images."""
        return self._bound.session

    def _run(self) -> None:
        with self._bound.socket:
            self._bound.run()

    def close(self) -> None:
        """Stop the server; calling it again does nothing."""
        self._bound.leaving.set()
        self._bound.server.should_exit = True
        self._thread.join(_PATIENCE)

    def __enter__(self) -> AppServer:
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
        return f'<iframe src="{address}" title="convscope" style="{FRAME_STYLE}"></iframe>'

    def __repr__(self) -> str:
        state = "running" if self._thread.is_alive() else "stopped"
        return f"AppServer({self.address}, {state})"


@dataclass(frozen=True, eq=False)
class BoundServer:
    """A server that listens but does not answer yet.

    Attributes:
        server: The ``uvicorn.Server``.
        socket: The socket it listens on.
        leaving: An event that ends the streams of the app.
        session: What it serves.
    """

    server: Any
    socket: socket.socket
    leaving: threading.Event
    session: Session

    @property
    def address(self) -> str:
        """URL of the app."""
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/"

    def run(self) -> None:
        """Answer requests until the server is to end."""
        self.server.run(sockets=[self.socket])


def start(model: ModelLike, *, atlas: Atlas | str | Path | None = None) -> AppServer:
    """Start a server in a thread, on a free port, with a model that is loaded first."""
    session = make_session(model, atlas).load_now()
    return AppServer(_bind(0, (), session))


def _bind(port: int, hosts: Iterable[str], session: Session) -> BoundServer:
    uvicorn, make_app = _import_dependencies()
    listening = _listen(port)
    limit_threads()
    app = make_app(session, hosts=hosts)
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=2,
        log_config=None,  # its own would close the handlers of a notebook's other libraries
    )
    server = uvicorn.Server(config)
    server.handle_exit = _leave_first(server.handle_exit, app.state.leaving)
    return BoundServer(server, listening, app.state.leaving, session)


def _in_event_loop() -> bool:
    """Whether this thread runs an event loop already, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _leave_first(handle_exit: Callable[..., None], leaving: threading.Event) -> Callable[..., None]:
    """A signal handler that ends the streams before the server waits for them."""

    def handle(*args: Any) -> None:
        leaving.set()
        handle_exit(*args)

    return handle


def make_session(
    model: ModelLike | None = None,
    atlas: Atlas | str | Path | None = None,
    images: Iterable[ImageLike] = (),
    *,
    other: ModelLike | None = None,
    data: DatasetLike | None = None,
    cache_bytes: int = CACHE_BYTES,
    load_models: Sequence[Callable[[], Model]] = (),
) -> Session:
    """Make the session of ``serve``; nothing is loaded yet but the atlas."""
    dataset = None if data is None else open_dataset(data)
    opened = open_existing(atlas, data)
    folder = None if atlas is None or isinstance(atlas, Atlas) else Path(atlas).expanduser()
    if model is None and not load_models:
        model = "demo" if opened is None else model_name(opened)
    second = None
    if other is not None or len(load_models) > 1:
        cache_bytes //= 2
        loader = load_models[1] if load_models else None
        second = Session(other, cache_bytes=cache_bytes, load_model=loader)
    session = Session(
        model,
        opened,
        cache_bytes=cache_bytes,
        load_model=load_models[0] if load_models else None,
        other=second,
        dataset=dataset,
        folder=folder,
    )
    session.demos = demo_images(images)
    return session


def open_existing(
    atlas: Atlas | str | Path | None, data: DatasetLike | None = None
) -> Atlas | None:
    """Open the atlas; where ``data`` may be scanned it need not exist yet."""
    if atlas is None or isinstance(atlas, Atlas):
        return atlas
    try:
        return open_atlas(atlas)
    except AtlasError:
        if data is None:
            raise
        return None


def model_name(atlas: Atlas) -> str | None:
    """The network of an atlas, where its name alone is enough and no Python file is run for it."""
    name, title = str(atlas.manifest["model"]["name"]), atlas.model
    plain = name == "demo" or name.startswith(_LIBRARIES)
    return name if plain and title == name else None


def limit_threads() -> None:
    """Leave a core to other programs; a network gains little from the last one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (cores or 2) - 1)))


def _import_dependencies() -> tuple[Any, Any]:
    """uvicorn and ``make_app``: the extra ``app``, which ``export`` and ``show`` do not need."""
    try:
        return import_module("uvicorn"), import_module("convscope._app.asgi").make_app
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
            f"Port {port} of 127.0.0.1 is taken, or not permitted. Try --port {port + 1}, or "
            "--port 0 for any that is free"
        ) from None
    return listening
