"""``cs.export`` and ``cs.show``: the app with its data as one HTML file, and in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from convscope._app.collecting import Collected
from convscope._app.live import Live
from convscope._app.microscope import Microscope
from convscope._app.session import Session
from convscope._app.slides import given
from convscope._atlas import Atlas, open_atlas
from convscope._errors import UsageError
from convscope._models import load

MOST_BYTES = 15_000_000
"""What a page weighs at most, unless told otherwise."""


def export(
    atlas: Atlas | str | Path | None = None,
    output: str | Path | None = None,
    *,
    model: Any = None,
    images: Iterable[Any] = (),
    size: int | tuple[int, int] | None = None,
    most: int = MOST_BYTES,
    on_step: Callable[[str], object] = lambda what: None,
) -> Microscope:
    """The microscope with its data as one HTML file, which opens from disk with no server.

    - ``atlas``: an atlas or the folder of one; ``model``: a network. One of them, or both; pictures
      need the network.
    - ``images``: pictures to look at in it; ``size``: the size at which the network sees them.
    - ``output``: where to write it.
    - ``most``: bytes; maps are drawn smaller, then exemplars and layers left out, to stay below.
    - ``on_step``: told what is being done.

    What was left out is said. Raises ``UsageError``, ``AtlasError``, ``ImageError``.
    """
    pictures = list(images) if isinstance(images, (list, tuple)) else [images]
    pictures = [] if images == () else pictures
    opened = atlas if isinstance(atlas, Atlas) or atlas is None else open_atlas(atlas)
    if opened is None and model is None:
        raise UsageError("An export shows an atlas, or a model, or both; neither was given")
    if model is None and pictures:
        raise UsageError("Pictures need the network to look at them: model=, or -m MODEL")
    if model is not None and opened is None and not pictures:
        raise UsageError("A model alone shows nothing. Give pictures: images=, or --image FILE")
    on_step("loading")
    session = Session(model, opened).ready()
    for source in pictures:
        session.show(given(source), size)
    made = Collected(session, most, on_step).microscope()
    if output is not None:
        made.save(output)
    return made


def show(
    model: Any,
    image: Any,
    *,
    size: int | tuple[int, int] | None = None,
    atlas: Any = None,
    live: bool = False,
) -> Microscope | Live:
    """The microscope on one picture (or a list of them), for a notebook: draws in the page itself.

    Needs no server and no extension. ``model`` is a loaded model or anything ``load`` takes.
    Everything but what needs a running network works in it. With ``live`` a server is started
    beside it (the extra ``app``), and a browser that can reach it is shown that instead, with all
    that the app can do; another one, as of a notebook on a remote machine, is shown the page.
    """
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    loaded = load(model)
    made = export(atlas, model=loaded, images=images, size=size)
    return Live.beside(made, loaded, images, size, atlas) if live else made
