"""What a page carries: answers, the most useful first, until it is full."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod

from convscope._app import network, page, pictures, wire
from convscope._app.answers import THUMB, Answer, as_json
from convscope._app.evidence import Evidence
from convscope._app.microscope import Microscope
from convscope._app.session import Session
from convscope._errors import ConvscopeError, UsageError

_SMALL_KERNEL = 256 << 10
_SIDES = (THUMB, 28, 14)  # maps are pooled further where a page would grow too large


class Collected:
    """Answers for a page, the most useful first, until it is full."""

    def __init__(self, session: Session, most: int, on_step: Callable[[str], object]) -> None:
        self._session, self._most, self._tell = session, most, on_step
        self._evidence = Evidence(session)
        self._found: dict[str, page.Block] = {}
        self._held: dict[bytes, page.Block] = {}
        self._sides: dict[int, int] = {}
        self._left_out: dict[str, None] = {}
        self._bytes = sum(len(file.body) * 4 // 3 for file in page.static().values())

    def microscope(self) -> Microscope:
        """The page."""
        title = f"{self._title()} · convscope"
        steps = (
            self._basics,
            self._pictures,
            self._layers,
            self._maps,
            self._kernels,
            self._channels,
            self._rest,
        )
        for step in steps:
            step()
        self._tell("writing")
        return Microscope(title, page.inlined(self._found, title), tuple(self._left_out))

    def _title(self) -> str:
        atlas = self._session.atlas
        return (
            self._session.model.title
            if self._session.state == "ready"
            else str(atlas.model if atlas else "")
        )

    def _put(self, path: str, answer: Answer) -> bool:
        """Add an answer where there is room for it."""
        digest = hashlib.sha256(answer.body).digest()
        known = self._held.get(digest)  # equal bodies are written once
        block = known or page.block(answer)
        need = len(path) + 120 + (0 if known else len(block.text))
        if self._bytes + need > self._most:
            return False
        self._found[path] = self._held[digest] = block
        self._bytes += need
        return True

    def _need(self, path: str, answer: Answer) -> None:
        if not self._put(path, answer):
            raise UsageError(
                f"A page of {self._most / 1e6:.1f} MB has no room for this. Allow more, or show "
                "fewer pictures"
            )

    def _try(self, path: str, what: str, answer: Callable[[], Answer]) -> bool:
        """Add an answer, or note that ``what`` was left out; what there is none of is no matter."""
        try:
            made = answer()
        except ConvscopeError:
            return True
        if self._put(path, made):
            return True
        self._left_out[what] = None
        return False

    def _basics(self) -> None:
        session = self._session
        self._need("api/model", network.model(session, exported=True))
        self._need("api/layers", network.layers(session))
        shown = [pictures.about(slide) for slide in session.slides()]
        self._need("api/inputs", as_json({"inputs": shown, "demos": []}))

    def _pictures(self) -> None:
        session = self._session
        for slide in session.slides():
            self._tell(f"looking at {slide.name}")
            base = f"api/inputs/{slide.id}"
            for view in ("original", "model"):
                self._need(f"{base}/image?view={view}", pictures.image(session, slide.id, view))
            self._need(f"{base}/predictions", pictures.predictions(session, slide.id))
            self._need(f"{base}/layers", pictures.glances(session, slide.id))
            self._need(f"{base}/thumbnails", pictures.thumbnails(session, slide.id))
            for k in session.mapped:
                self._try(
                    f"{base}/fields/{k}",
                    "some receptive fields",
                    partial(pictures.field, session, slide.id, k),
                )

    def _layers(self) -> None:
        """What an atlas knows of layers as a whole."""
        if self._session.atlas is not None:
            self._tell("reading the atlas")
            self._try("api/atlas/findings", "findings", self._evidence.findings)
        for k in self._scanned():
            self._try(
                f"api/atlas/layers/{k}",
                "statistics of some layers",
                partial(self._evidence.layer, k),
            )

    def _kernels(self) -> None:
        """Filters that are small enough to be looked at."""
        if self._session.state == "ready":
            for k, layer in enumerate(self._session.layers):
                if "conv" in layer.families:
                    self._kernel(k)

    def _kernel(self, index: int) -> None:
        try:
            made = network.kernels(self._session, index)
        except ConvscopeError:
            return
        if len(made.body) <= _SMALL_KERNEL and not self._put(f"api/kernels/{index}", made):
            self._left_out["some filters"] = None

    def _maps(self) -> None:
        """Maps of the layers that say most; a third of the room is left to the atlas."""
        session = self._session
        if not session.slides():
            return
        self._tell("drawing maps")
        room = (self._most - self._bytes) * (2 / 3 if session.atlas is not None else 1)
        first, _ = _by_weight(session)
        self._sides = self._fitting(room, first)
        least = min(self._sides.values(), default=THUMB)
        if least < THUMB:
            self._left_out[f"maps of some layers at more than {least}×{least}"] = None
        self._draw(first)

    def _rest(self) -> None:
        """Maps of the other layers, where there is room."""
        if self._session.slides():
            self._draw(_by_weight(self._session)[1])

    def _draw(self, layers: Sequence[int]) -> None:
        session, least = self._session, min(self._sides.values(), default=THUMB)
        for k in layers:
            side = self._sides.get(k, least)
            for slide in session.slides():
                path = f"api/inputs/{slide.id}/maps/{k}?max={THUMB}"
                self._try(
                    path, "maps of some layers", partial(pictures.maps, session, slide.id, k, side)
                )

    def _fitting(self, room: float, layers: Sequence[int]) -> dict[int, int]:
        """Sides at which these maps are likely to fit: the largest layers shrink first."""
        shapes = {
            one.layer: one.shape
            for slide in self._session.slides()
            for one in self._session.glances(slide)
            if one.layer in layers
        }
        room /= max(1, len(self._session.slides()))
        sides = dict.fromkeys(shapes, THUMB)
        costs = {k: _cost(shape, THUMB) for k, shape in shapes.items()}
        while sum(costs.values()) > room:
            large = [k for k in sides if sides[k] > _SIDES[-1] and max(shapes[k][1:]) > _SIDES[-1]]
            if not large:
                break
            k = max(large, key=lambda k: costs[k])
            sides[k] = _SIDES[_SIDES.index(sides[k]) + 1]
            costs[k] = _cost(shapes[k], sides[k])
        return sides

    def _channels(self) -> None:
        """Units of the atlas: of every layer the pictures first, then every channel."""
        self._tell("exemplars")
        for k in self._scanned():
            self._try(
                f"api/atlas/layers/{k}/icons",
                "exemplars of some layers",
                partial(self._evidence.icons, k),
            )
        for k, channel in self._units():
            base = f"api/atlas/layers/{k}/channels/{channel}"
            fits = self._try(
                base, "exemplars of some channels", partial(self._evidence.channel, k, channel)
            )
            fits = fits and self._try(
                f"{base}/sprite?list=top.mean&view=crop",
                "exemplars of some channels",
                partial(self._evidence.sprite, k, channel, "top.mean", "crop"),
            )
            if not fits:
                return

    def _units(self) -> Iterator[tuple[int, int]]:
        """Units in turn through all layers, so that what is left out is left out evenly."""
        of = {k: self._session.layers[k].channels for k in self._scanned()}
        for channel in range(max(of.values(), default=0)):
            for k, count in of.items():
                if channel < count:
                    yield k, channel

    def _scanned(self) -> Sequence[int]:
        if self._session.atlas is None:
            return []
        known = {layer.path for layer in self._session.atlas.layers}
        return [k for k, la in enumerate(self._session.layers) if la.path in known]


def _by_weight(session: Session) -> tuple[list[int], list[int]]:
    """Layers with maps: convolutions, what the atlas has and sums of branches; then the rest."""
    scanned = {la.path for la in session.atlas.layers} if session.atlas is not None else set()
    first, then = list[int](), list[int]()
    for k in session.mapped:
        layer = session.layers[k]
        joins = layer.function and not layer.path.endswith("/relu")
        weighty = "conv" in layer.families or layer.path in scanned or joins
        (first if weighty else then).append(k)
    return first, then


def _cost(shape: tuple[int, int, int], side: int) -> float:
    """Characters that maps take in a page: 8 bits hardly shrink, and base64 adds a third."""
    channels, *size = shape
    return channels * (prod(wire.pooled_size(size, side)) + 13) * 4 / 3
