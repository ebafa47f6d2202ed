"""What one server knows: a network, an atlas, the pictures it was shown, what was seen of them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope.atlas import Atlas
from convscope.errors import ConvscopeError, UnknownLayer, UsageError, one_line
from convscope.images import Picture
from convscope.layers import Layer
from convscope.maps import feature_maps
from convscope.models import Batch, Model, load
from convscope.specimen import look_at
from convscope.web import wire

Floats = NDArray[np.float32]

BOUND = 512 << 20
"""Bytes of activations that are kept."""
_SLIDES = 64
_SHOWN = 1280  # an original is shown with at most so many pixels a side


class NotReady(ConvscopeError):
    """The model is still being loaded, or there is none."""


@dataclass(frozen=True, eq=False)
class Slide:
    """A picture under the microscope.

    - ``id``: a checksum of its bytes and of the size it is seen at
    - ``batch``: as the model takes it; ``original``: height and width of the picture that was given
    - ``shown``: that picture, reduced where it is large; ``seen``: ``(h, w, 3)`` uint8
    - ``lines``: what was done to it
    """

    id: str
    name: str
    batch: Batch
    original: tuple[int, int]
    shown: Image.Image
    seen: NDArray[np.uint8]
    scale: tuple[float, float]
    offset: tuple[float, float]
    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Glance:
    """A layer on one picture, in brief: its mean map, and what its channels are."""

    layer: int
    shape: tuple[int, int, int]
    mean: Floats
    zero: int
    constant: int
    odd: int
    low: float
    high: float


class Captured:
    """Feature maps of the pictures looked at last, by picture and layer, within a bound."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._held: OrderedDict[tuple[str, int], Floats] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: tuple[str, int]) -> Floats | None:
        with self._guard:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[str, int], values: Floats) -> None:
        """Keep it; what was not looked at for longest goes where there is no room."""
        with self._guard:
            if key in self._held:
                self._bytes -= self._held.pop(key).nbytes
            self._held[key] = values
            self._bytes += values.nbytes
            while self._bytes > self.bound and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes

    def forget(self, slide: str) -> None:
        """Drop all of one picture."""
        with self._guard:
            for key in [key for key in self._held if key[0] == slide]:
                self._bytes -= self._held.pop(key).nbytes


@dataclass
class _Loading:
    model: Model | None = None
    error: str = ""
    done: threading.Event = field(default_factory=threading.Event)


class Session:
    """One network (or none yet), one atlas (or none), and the pictures looked at.

    ``model`` is anything ``cs.load`` takes, or ``None`` for an atlas alone; it is loaded in a
    thread of its own, so that nobody waits for it before anything is on the screen.
    """

    def __init__(
        self,
        model: Any = None,
        atlas: Atlas | None = None,
        *,
        bound: int = BOUND,
        opening: Callable[[], Model] | None = None,
    ) -> None:
        self.atlas = atlas
        self.named = model if isinstance(model, str) else getattr(model, "name", "")
        self.captured = Captured(bound)
        self.demos: Mapping[str, Callable[[], Picture]] = {}
        self._open = opening or (lambda: load(model))
        self._wanted = model is not None or opening is not None
        self._loading = _Loading()
        self._slides: OrderedDict[str, Slide] = OrderedDict()
        self._glances: dict[str, list[Glance]] = {}
        self._looking = threading.RLock()
        self._guard = threading.Lock()
        self.note = ""

    # The network

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        if not self._wanted:
            self._loading.done.set()
            return
        threading.Thread(target=self._load, name="convscope-load", daemon=True).start()

    def ready(self) -> Session:
        """Load the model here and now. Raises what ``load`` raises."""
        if self._wanted:
            self._load()
        self._loading.done.set()
        if self._loading.error:
            raise UsageError(self._loading.error)
        return self

    def _load(self) -> None:
        try:
            model = self._open()
            _ = model.layers  # traced now, not when somebody waits for it
            self.note = self._difference(model)
            self._loading.model = model
        except BaseException as error:  # the code of a model may raise anything
            self._loading.error = (
                str(error) if isinstance(error, ConvscopeError) else one_line(error)
            )
        finally:
            self._loading.done.set()

    def _difference(self, model: Model) -> str:
        """Where the atlas is of other weights than the model."""
        if self.atlas is None or self.atlas.manifest["model"]["fingerprint"] == model.fingerprint():
            return ""
        return f"the atlas is of other weights than this model: {self.atlas.model}"

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``failed``, or ``none``."""
        if not self._wanted:
            return "none"
        if not self._loading.done.is_set():
            return "loading"
        return "ready" if self._loading.model else "failed"

    @property
    def error(self) -> str:
        return self._loading.error

    @property
    def model(self) -> Model:
        """The loaded model. Raises ``NotReady``."""
        if self._loading.model is None:
            what = {
                "loading": "The model is still being loaded",
                "failed": f"The model could not be loaded: {self.error}",
            }
            raise NotReady(what.get(self.state, "No model was given. Start it with -m MODEL"))
        return self._loading.model

    @property
    def layers(self) -> Sequence[Layer]:
        """The model's layers, or where there is no model those of the atlas."""
        if self.state == "ready":
            return self._of_model
        if self.atlas is not None and self.state != "loading":
            return self._of_atlas
        return self.model.layers

    @cached_property
    def _of_model(self) -> Sequence[Layer]:
        return tuple(self.model.layers)

    @cached_property
    def _of_atlas(self) -> Sequence[Layer]:
        layers = self.atlas.layers if self.atlas is not None else ()
        return tuple(Layer(la.path, la.kind, la.shape, families=la.families) for la in layers)

    def layer(self, index: int) -> Layer:
        """The layer of that index. Raises ``UnknownLayer``."""
        if not 0 <= index < len(self.layers):
            raise UnknownLayer(f"No layer {index}: there are {len(self.layers)}, from 0")
        return self.layers[index]

    # Pictures

    def slides(self) -> list[Slide]:
        with self._guard:
            return list(self._slides.values())

    def slide(self, id: str) -> Slide:
        """A picture that was shown. Raises ``UnknownLayer`` where it is not (any more) there."""
        with self._guard:
            if id in self._slides:
                self._slides.move_to_end(id)
                return self._slides[id]
        raise UnknownLayer(f"No picture {id[:40]!r} here (any more). Show it again")

    def show(self, picture: Picture, size: int | tuple[int, int] | None = None) -> Slide:
        """Put a picture under the microscope; the same one twice is one slide."""
        batch = self.model.prepare(picture, size=size)
        slide = _slide(self.model, batch, picture)
        with self._guard:
            slide = self._slides.setdefault(slide.id, slide)
            self._slides.move_to_end(slide.id)
            old = [self._slides.popitem(last=False)[0]
                   for _ in range(len(self._slides) - _SLIDES)]  # fmt: skip
        for id in old:
            self.captured.forget(id)
            self._glances.pop(id, None)
        return slide

    # What is seen of them

    @property
    def mapped(self) -> list[int]:
        """Indices of the layers that have maps (or features, which are maps of one position)."""
        return [k for k, layer in enumerate(self.layers) if layer.shape]

    def maps(self, slide: Slide, index: int) -> Floats:
        """``(C, H, W)`` of a layer, from one pass for all layers where memory holds them."""
        key = (slide.id, self._with_maps(index))
        found = self.captured.get(key)
        if found is None:
            with self._looking:
                found = self.captured.get(key)  # somebody else may have looked meanwhile
                if found is None:
                    found = self._look(slide, next(g for g in self._groups(slide) if index in g))[
                        index
                    ]
        return found

    def glances(self, slide: Slide) -> list[Glance]:
        """All layers of a picture in brief."""
        with self._looking:
            if slide.id not in self._glances:
                self._glances[slide.id] = [
                    _glance(index, values)
                    for group in self._groups(slide)
                    for index, values in self._all(slide, group).items()
                ]
            return self._glances[slide.id]

    def _with_maps(self, index: int) -> int:
        layer = self.layer(index)
        if not layer.shape:
            raise UnknownLayer(f"{layer.path!r} returns no tensor of numbers, so it has no maps")
        return index

    def _groups(self, slide: Slide) -> Iterator[list[int]]:
        """Layers that are captured together: all, or as many as the bound holds."""
        height, width = slide.batch.size
        usual = self.model.input.size or slide.batch.size
        larger = height * width / (usual[0] * usual[1])
        group: list[int] = []
        room = float(self.captured.bound)
        for index in self.mapped:
            need = 4 * prod(self.layers[index].shape or ()) * larger
            if group and need > room:
                yield group
                group, room = [], float(self.captured.bound)
            group.append(index)
            room -= need
        yield group

    def _all(self, slide: Slide, group: Iterable[int]) -> dict[int, Floats]:
        kept = {index: self.captured.get((slide.id, index)) for index in group}
        found = {index: values for index, values in kept.items() if values is not None}
        return found if len(found) == len(kept) else self._look(slide, list(kept))

    def _look(self, slide: Slide, group: Sequence[int]) -> dict[int, Floats]:
        """One pass; what was computed is kept."""
        by_path = {self.layers[index].path: index for index in group}
        seen = feature_maps(self.model, slide.batch, list(by_path))
        found = {by_path[path]: maps.values for path, maps in seen.items()}
        for index, values in found.items():
            self.captured.put((slide.id, index), values)
        return found


def _slide(model: Model, batch: Batch, picture: Picture) -> Slide:
    specimen = look_at(model, batch)
    assert batch.views is not None  # it is a picture
    view = batch.views[0]
    shown = picture.image.convert("RGB")
    if max(shown.size) > _SHOWN:
        shown.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
    light = replace(view, original=replace(picture, image=shown))  # a large original is let go
    digest = hashlib.sha256(f"{picture.image.mode} {picture.image.size} {batch.size}".encode())
    digest.update(picture.image.tobytes())
    return Slide(
        digest.hexdigest()[:16], picture.name, replace(batch, views=(light,)),
        (picture.image.height, picture.image.width), shown, specimen.seen, view.scale, view.offset,
        specimen.lines,
    )  # fmt: skip


def _glance(index: int, values: Floats) -> Glance:
    low, high, state = wire.extremes(values)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(0, dtype=np.float64).astype(np.float32)
    return Glance(
        index, (values.shape[0], values.shape[1], values.shape[2]), wire.pooled(mean[None], 24)[0],
        int((state == wire.ZERO).sum()), int((state == wire.CONSTANT).sum()),
        int((state >= wire.HOLDS_NAN).sum()), float(low.min()), float(high.max()),
    )  # fmt: skip
