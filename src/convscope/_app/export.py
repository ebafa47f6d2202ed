"""``cs.export`` and ``cs.show``: the app with its data as one HTML file, and in a notebook."""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal, overload

from convscope._app import input_api, model_api, page, wire
from convscope._app.atlas_api import AtlasApi
from convscope._app.inputs import Size, list_images, read_input
from convscope._app.page import FRAME_STYLE, ExportedPage
from convscope._app.server import AppServer, start
from convscope._app.session import Session
from convscope._app.wire import MAX_SIDE, Payload, json_payload
from convscope._atlas import Atlas, open_atlas
from convscope._errors import ConvscopeError, UsageError
from convscope._images import ImageLike, ImagesLike
from convscope._models import Model, ModelLike, load

MAX_BYTES = 15_000_000
"""Size of a page in bytes at most, unless another limit is given."""

_MAX_FILTER_BYTES = 256 << 10
_SIDES = (MAX_SIDE, 28, 14)  # maps are pooled further where a page would grow too large
_ENTRY_BYTES = 120  # of the index, besides the path
_NUMBERS = itertools.count(1)

# Only the browser can find out whether it reaches the server: a notebook's kernel may be on another
# machine. The server refuses requests of other pages, but a refusal is an answer, too; where
# nothing listens, ``fetch`` fails.
_PROBE = """<script>
fetch({address} + "api/model", {{mode: "no-cors"}}).then(function () {{
  var frame = document.getElementById({id});
  frame.removeAttribute("srcdoc");
  frame.src = {address};
}}, function () {{}});
</script>"""


def export(
    atlas: Atlas | str | Path | None = None,
    output: str | Path | None = None,
    *,
    model: ModelLike | None = None,
    images: ImagesLike = (),
    size: Size = None,
    max_bytes: int = MAX_BYTES,
    on_step: Callable[[str], object] = lambda step: None,
) -> ExportedPage:
    """Export the app with its data as one HTML file, which opens from disk without a server.

    Args:
        atlas: An atlas or the folder of one. Either it or ``model`` is needed, or both.
        output: The file to write; without it the page is only returned.
        model: A loaded model, or anything ``load`` takes. Images need it.
        images: One input image, or a list of them.
        size: The size at which the network is given the images: a side, or height and width in
            pixels (default: the network's own).
        max_bytes: Size of the page at most. To stay below, maps are drawn smaller, then dataset
            examples and layers are left out.
        on_step: Called with the name of each step.

    Returns:
        The page; its ``left_out`` names what did not fit.

    Raises:
        UsageError: Neither atlas nor model was given, images without a model, or a limit too small
            for the images.
        AtlasError: ``atlas`` is no atlas.
        ImageError: An image cannot be decoded.
    """
    sources = list_images(images)
    opened = atlas if isinstance(atlas, Atlas) or atlas is None else open_atlas(atlas)
    if opened is None and model is None:
        raise UsageError("An export shows an atlas, or a model, or both; neither was given")
    if model is None and sources:
        raise UsageError("Images need the network to compute their maps: model=, or -m MODEL")
    if model is not None and opened is None and not sources:
        raise UsageError("A model alone shows nothing. Give images: images=, or --image FILE")
    on_step("loading")
    session = Session(model, opened).load_now()
    for source in sources:
        session.add_input(read_input(source), size)
    exported = _PageBuilder(session, max_bytes, on_step).build()
    if output is not None:
        exported.save(output)
    return exported


@overload
def show(
    model: ModelLike,
    image: ImagesLike,
    *,
    size: Size = None,
    atlas: Atlas | str | Path | None = None,
    live: Literal[False] = False,
) -> ExportedPage: ...
@overload
def show(
    model: ModelLike,
    image: ImagesLike,
    *,
    size: Size = None,
    atlas: Atlas | str | Path | None = None,
    live: Literal[True],
) -> LivePage: ...
def show(
    model: ModelLike,
    image: ImagesLike,
    *,
    size: Size = None,
    atlas: Atlas | str | Path | None = None,
    live: bool = False,
) -> ExportedPage | LivePage:
    """Show the app on one image, or a list of them, in a notebook cell.

    Without ``live`` it needs no server and no extension, and offers all that needs no running
    network.

    Args:
        model: A loaded model, or anything ``load`` takes.
        image: One input image, or a list of them.
        size: The size at which the network is given the images: a side, or height and width in
            pixels (default: the network's own).
        atlas: An atlas or the folder of one, for dataset examples and statistics.
        live: Also start a server (the extra ``app``). A browser that reaches it shows the live
            app; another one, as for a notebook on a remote machine, shows the page.

    Returns:
        The page, or with ``live`` a page with a server beside it.

    Raises:
        UsageError: The images do not fit into one page.
        AtlasError: ``atlas`` is no atlas.
        ImageError: An image cannot be decoded.
    """
    loaded = load(model)
    exported = export(atlas, model=loaded, images=image, size=size)
    if not live:
        return exported
    return LivePage.start(exported, loaded, list_images(image), size, atlas)


class LivePage:
    """An exported page with a server beside it; the last line of a notebook cell shows it.

    Args:
        page: The page, for browsers that do not reach the server.
        server: The server.
    """

    def __init__(self, page: ExportedPage, server: AppServer) -> None:
        self.page, self._server = page, server

    @classmethod
    def start(
        cls,
        page: ExportedPage,
        model: Model,
        images: Iterable[ImageLike],
        size: Size = None,
        atlas: Atlas | str | Path | None = None,
    ) -> LivePage:
        """Start a server on a free port, with the images of the page.

        Args:
            page: The page beside it.
            model: The network of the page.
            images: The input images of the page.
            size: The size at which the network is given them.
            atlas: The atlas of the page.

        Returns:
            The page and the running server.
        """
        server = start(model, atlas=atlas)
        for image in images:
            server.session.add_input(read_input(image), size)
        return cls(page, server)

    @property
    def address(self) -> str:
        """URL of the server."""
        return self._server.address

    def save(self, path: str | Path) -> Path:
        """Write the page, which needs no server.

        Args:
            path: The file to write; missing folders are made.

        Returns:
            The path.
        """
        return self.page.save(path)

    def close(self) -> None:
        """Stop the server; the page stays."""
        self._server.close()

    def _repr_html_(self) -> str:
        name = f"convscope-live-{next(_NUMBERS)}-{threading.get_ident()}"
        frame = (
            f'<iframe id="{name}" srcdoc="{html.escape(self.page.html, quote=True)}" '
            f'title="{html.escape(self.page.title, quote=True)}" style="{FRAME_STYLE}"></iframe>'
        )
        return frame + _PROBE.format(address=json.dumps(self.address), id=json.dumps(name))

    def __repr__(self) -> str:
        return f"LivePage({self.address}; {self.page.sentence()})"


class _PageBuilder:
    """Adds payloads to a page, the most useful first, until it is full."""

    def __init__(self, session: Session, max_bytes: int, on_step: Callable[[str], object]) -> None:
        self._session, self._max_bytes, self._on_step = session, max_bytes, on_step
        self._atlas = AtlasApi(session)
        self._blocks: dict[str, page.Block] = {}
        self._by_digest: dict[bytes, page.Block] = {}
        self._sides: dict[int, int] = {}
        self._left_out: dict[str, None] = {}
        self._bytes = sum(len(file.body) * 4 // 3 for file in page.static_files().values())

    def build(self) -> ExportedPage:
        """Build the page."""
        title = f"{self._title()} · convscope"
        steps = (
            self._add_facts,
            self._add_inputs,
            self._add_layer_statistics,
            self._add_important_maps,
            self._add_filters,
            self._add_units,
            self._add_other_maps,
        )
        for step in steps:
            step()
        self._on_step("writing")
        html_text = page.inline_page(self._blocks, title)
        return ExportedPage(title, html_text, tuple(self._left_out))

    def _title(self) -> str:
        atlas = self._session.atlas
        return (
            self._session.model.title
            if self._session.state == "ready"
            else str(atlas.model if atlas else "")
        )

    def _put(self, path: str, payload: Payload) -> bool:
        """Add a payload where there is room for it."""
        digest = hashlib.sha256(payload.body).digest()
        known = self._by_digest.get(digest)  # equal bodies are written once
        block = known or page.make_block(payload)
        need = len(path) + _ENTRY_BYTES + (0 if known else len(block.text))
        if self._bytes + need > self._max_bytes:
            return False
        self._blocks[path] = self._by_digest[digest] = block
        self._bytes += need
        return True

    def _require(self, path: str, payload: Payload) -> None:
        if not self._put(path, payload):
            raise UsageError(
                f"A page of {self._max_bytes / 1e6:.1f} MB has no room for this. Raise the limit, "
                "or give fewer images"
            )

    def _try(self, path: str, what: str, make: Callable[[], Payload]) -> bool:
        """Add a payload, or note that ``what`` was left out; skip what does not exist."""
        try:
            payload = make()
        except ConvscopeError:
            return True
        if self._put(path, payload):
            return True
        self._left_out[what] = None
        return False

    def _add_facts(self) -> None:
        session = self._session
        self._require("api/model", model_api.model(session, exported=True))
        self._require("api/layers", model_api.layers(session))
        listed = [input_api.input_facts(image) for image in session.inputs()]
        self._require("api/inputs", json_payload({"inputs": listed, "demos": []}))

    def _add_inputs(self) -> None:
        session = self._session
        for image in session.inputs():
            self._on_step(f"computing maps of {image.name}")
            base = f"api/inputs/{image.id}"
            for stage in ("original", "preprocessed"):
                path = f"{base}/image?stage={stage}"
                self._require(path, input_api.pixels(session, image.id, stage))
            self._require(f"{base}/predictions", input_api.predictions(session, image.id))
            self._require(f"{base}/layers", input_api.layer_summaries(session, image.id))
            self._require(f"{base}/thumbnails", input_api.thumbnails(session, image.id))
            for k in session.layers_with_maps:
                self._try(
                    f"{base}/receptive_fields/{k}",
                    "some receptive fields",
                    partial(input_api.receptive_fields, session, image.id, k),
                )

    def _add_layer_statistics(self) -> None:
        """Statistics of layers as a whole, from the atlas."""
        if self._session.atlas is not None:
            self._on_step("reading the atlas")
            self._try("api/atlas/health", "channel health", self._atlas.health)
        for k in self._scanned():
            self._try(
                f"api/atlas/layers/{k}",
                "statistics of some layers",
                partial(self._atlas.layer, k),
            )

    def _add_filters(self) -> None:
        """Filters of convolutions that are small enough to be drawn."""
        if self._session.state == "ready":
            for k, layer in enumerate(self._session.layers):
                if "conv" in layer.families:
                    self._add_filters_of(k)

    def _add_filters_of(self, index: int) -> None:
        try:
            payload = model_api.layer_filters(self._session, index)
        except ConvscopeError:
            return
        small = len(payload.body) <= _MAX_FILTER_BYTES
        if small and not self._put(f"api/filters/{index}", payload):
            self._left_out["some filters"] = None

    def _add_important_maps(self) -> None:
        """Maps of the layers that matter most; a third of the room is left to the atlas."""
        session = self._session
        if not session.inputs():
            return
        self._on_step("drawing maps")
        room = (self._max_bytes - self._bytes) * (2 / 3 if session.atlas is not None else 1)
        important, _ = _by_importance(session)
        self._sides = self._fit_sides(room, important)
        smallest = min(self._sides.values(), default=MAX_SIDE)
        if smallest < MAX_SIDE:
            self._left_out[f"maps of some layers at more than {smallest}×{smallest}"] = None
        self._add_maps(important)

    def _add_other_maps(self) -> None:
        """Maps of the other layers, where there is room."""
        if self._session.inputs():
            self._add_maps(_by_importance(self._session)[1])

    def _add_maps(self, layers: Sequence[int]) -> None:
        session, smallest = self._session, min(self._sides.values(), default=MAX_SIDE)
        for k in layers:
            side = self._sides.get(k, smallest)
            for image in session.inputs():
                self._try(
                    f"api/inputs/{image.id}/maps/{k}?max_side={MAX_SIDE}",
                    "maps of some layers",
                    partial(input_api.maps, session, image.id, k, side),
                )

    def _fit_sides(self, room: float, layers: Sequence[int]) -> dict[int, int]:
        """Sides at which these maps are likely to fit: the largest layers shrink first."""
        shapes = {
            summary.layer: summary.shape
            for image in self._session.inputs()
            for summary in self._session.layer_summaries(image)
            if summary.layer in layers
        }
        room /= max(1, len(self._session.inputs()))
        sides = dict.fromkeys(shapes, MAX_SIDE)
        costs = {k: _cost(shape, MAX_SIDE) for k, shape in shapes.items()}
        while sum(costs.values()) > room:
            large = [k for k in sides if sides[k] > _SIDES[-1] and max(shapes[k][1:]) > _SIDES[-1]]
            if not large:
                break
            k = max(large, key=lambda k: costs[k])
            sides[k] = _SIDES[_SIDES.index(sides[k]) + 1]
            costs[k] = _cost(shapes[k], sides[k])
        return sides

    def _add_units(self) -> None:
        """Units of the atlas: the icons of every layer first, then every channel."""
        self._on_step("dataset examples")
        for k in self._scanned():
            self._try(
                f"api/atlas/layers/{k}/icons",
                "dataset examples of some layers",
                partial(self._atlas.icons, k),
            )
        for k, channel in self._units():
            base = f"api/atlas/layers/{k}/channels/{channel}"
            fits = self._try(
                base, "dataset examples of some channels", partial(self._atlas.channel, k, channel)
            )
            fits = fits and self._try(
                f"{base}/sprite?list=top.mean&view=crop",
                "dataset examples of some channels",
                partial(self._atlas.sprite, k, channel, "top.mean", "crop"),
            )
            if not fits:
                return

    def _units(self) -> Iterator[tuple[int, int]]:
        """One unit of each layer in turn, so that all layers are cut at the same channel."""
        counts = {k: self._session.layers[k].channels for k in self._scanned()}
        for channel in range(max(counts.values(), default=0)):
            for k, count in counts.items():
                if channel < count:
                    yield k, channel

    def _scanned(self) -> Sequence[int]:
        if self._session.atlas is None:
            return []
        paths = {layer.path for layer in self._session.atlas.layers}
        return [k for k, la in enumerate(self._session.layers) if la.path in paths]


def _by_importance(session: Session) -> tuple[list[int], list[int]]:
    """Layers with maps: convolutions, what the atlas has and sums of branches; then the rest."""
    scanned = {la.path for la in session.atlas.layers} if session.atlas is not None else set()
    important, others = list[int](), list[int]()
    for k in session.layers_with_maps:
        layer = session.layers[k]
        joins = layer.function and not layer.path.endswith("/relu")
        matters = "conv" in layer.families or layer.path in scanned or joins
        (important if matters else others).append(k)
    return important, others


def _cost(shape: tuple[int, int, int], side: int) -> float:
    """Characters that maps take in a page: gzip hardly shrinks them, and base64 adds a third."""
    channels, *size = shape
    return channels * (prod(wire.pooled_size(size, side)) + 13) * 4 / 3
