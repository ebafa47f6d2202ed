"""What one server knows: a network, an atlas, the pictures it was shown, what was seen of them."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convscope._app.captured import BOUND, Captured, Floats
from convscope._app.opening import Opening
from convscope._app.slides import Given, Glance, Slide, make_glance, make_slide
from convscope._atlas import Atlas
from convscope._data import Dataset
from convscope._errors import ConvscopeError, UnknownLayer
from convscope._feature_maps import record_maps
from convscope._layers import Layer
from convscope._models import Model, load
from convscope._sensitivity import LayerSensitivity

_SLIDES, _EXPECTED, _FOUND = 64, 8, 32


class Session:
    """One network (or none yet), one atlas (or none), and the pictures looked at.

    ``model`` is anything ``cs.load`` takes, or ``None`` for an atlas alone; it is loaded in a
    thread of its own, so that nobody waits for it before anything is on the screen. ``other`` is
    the session of a second network, which is shown the same pictures. ``data`` is what may be
    scanned, into ``folder``: what the user named, never a request.
    """

    def __init__(
        self,
        model: Any = None,
        atlas: Atlas | None = None,
        *,
        bound: int = BOUND,
        opening: Callable[[], Model] | None = None,
        other: Session | None = None,
        data: Dataset | None = None,
        folder: Path | None = None,
    ) -> None:
        self.atlas, self.other, self.data, self.folder = atlas, other, data, folder
        self.named = model if isinstance(model, str) else getattr(model, "name", "")
        self.captured = Captured(bound)
        self.demos: Mapping[str, Callable[[], Given]] = {}
        self.note = ""
        wanted = opening if model is None or opening else lambda: load(model)
        self._opening = Opening(wanted, self._compare)
        self._shown, self._numbers = dict[str, int](), itertools.count()
        self._slides: OrderedDict[str, Slide] = OrderedDict()
        self._glances: dict[str, list[Glance]] = {}
        self._found: OrderedDict[Any, Any] = OrderedDict()
        self._expected: deque[tuple[Given, Any, str]] = deque(maxlen=_EXPECTED)
        self._refused: dict[str, str] = {}
        self._scratch: TemporaryDirectory[str] | None = None
        self.felt: dict[str, LayerSensitivity] = {}
        self._looking, self._catching = threading.RLock(), threading.Lock()
        self._summing = threading.Lock()  # who waits for maps does not wait for summaries
        self._guard = threading.Lock()

    # The network

    def start(self) -> None:
        """Begin to load the models; returns at once."""
        self._opening.start()
        if self.other is not None:
            self.other.start()

    def ready(self) -> Session:
        """Load the model here and now. Raises what ``load`` raises."""
        self._opening.ready()
        return self

    def _compare(self, model: Model) -> None:
        """Note where the atlas is of other weights than the model."""
        atlas = self.atlas
        same = atlas is None or atlas.manifest["model"]["fingerprint"] == model.fingerprint()
        told = "" if atlas is None else atlas.model
        self.note = "" if same else f"the atlas is of other weights than this model: {told}"

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``failed``, or ``none``."""
        return self._opening.state

    @property
    def error(self) -> str:
        return self._opening.error

    @property
    def model(self) -> Model:
        """The loaded model. Raises ``NotReady``."""
        return self._opening.model

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

    def adopt(self, atlas: Atlas) -> None:
        """Take an atlas that was made meanwhile."""
        self.atlas = atlas
        self._compare(self.model)

    def scratch(self) -> Path:
        """A folder for an atlas where none was named; gone with ``close``."""
        self._scratch = self._scratch or TemporaryDirectory(prefix="convscope-atlas-")
        return Path(self._scratch.name)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.other is not None:
            self.other.close()
        self._opening.see_off()
        if self._scratch is not None:
            self._scratch.cleanup()

    # Pictures

    def slides(self) -> list[Slide]:
        """In the order in which they were first shown."""
        with self._guard:
            return sorted(self._slides.values(), key=lambda slide: self._shown[slide.id])

    def slide(self, id: str) -> Slide:
        """A picture that was shown. Raises ``UnknownLayer`` where it is not (any more) there."""
        with self._guard:
            if id in self._slides:
                self._slides.move_to_end(id)
                return self._slides[id]
        _ = self.model  # is there
        self._catch_up()
        if id in self._slides:
            return self._slides[id]
        raise UnknownLayer(
            self._refused.get(id) or f"No picture {id[:40]!r} here (any more). Show it again"
        )

    def show(self, picture: Given, size: int | tuple[int, int] | None = None) -> Slide:
        """Put a picture under the microscope; the same one twice is one slide."""
        slide = make_slide(self.model, picture, size)
        with self._guard:
            slide = self._slides.setdefault(slide.id, slide)
            self._shown.setdefault(slide.id, next(self._numbers))
            self._slides.move_to_end(slide.id)
            old = [self._slides.popitem(last=False)[0] for _ in range(len(self._slides) - _SLIDES)]
            for id in old:
                del self._shown[id]
        for id in old:
            self.captured.forget(id)
            self._glances.pop(id, None)
        if self.other is not None:
            self.other.expect(picture, size, slide.id)
        return slide

    def expect(self, picture: Given, size: Any, id: str) -> None:
        """Be shown what another network is shown: now, or as soon as this one is loaded."""
        self._expected.append((picture, size, id))
        if self.state == "ready":
            self._catch_up()

    def _catch_up(self) -> None:
        with self._catching:
            while self._expected:
                picture, size, id = self._expected.popleft()
                try:
                    self.show(picture, size)
                except ConvscopeError as error:  # it is not every network's kind of picture
                    self._refused = {**dict(list(self._refused.items())[-_SLIDES:]), id: str(error)}

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
                    group = next(g for g in self._groups(slide) if index in g)
                    found = self._look(slide, group)[index]
        return found

    def glances(self, slide: Slide) -> list[Glance]:
        """All layers of a picture in brief."""
        with self._summing:
            if slide.id not in self._glances:
                self._glances[slide.id] = [
                    make_glance(index, values)
                    for group in self._groups(slide)
                    for index, values in self._all(slide, group).items()
                ]
            return self._glances[slide.id]

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What took work, made once; the last few are kept."""
        with self._guard:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._guard:
            self._found[key] = made
            while len(self._found) > _FOUND:
                self._found.popitem(last=False)
        return made

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

    def _all(self, slide: Slide, group: Sequence[int]) -> dict[int, Floats]:
        with self._looking:  # somebody else may be looking
            kept = {index: self.captured.get((slide.id, index)) for index in group}
            found = {index: values for index, values in kept.items() if values is not None}
            return found if len(found) == len(kept) else self._look(slide, group)

    def _look(self, slide: Slide, group: Sequence[int]) -> dict[int, Floats]:
        """One pass; what was computed is kept."""
        by_path = {self.layers[index].path: index for index in group}
        seen = record_maps(self.model, slide.batch, self.model.layers.select(list(by_path)))
        found = {by_path[path]: maps.values for path, maps in seen.items()}
        for index, values in found.items():
            self.captured.put((slide.id, index), values)
        return found
