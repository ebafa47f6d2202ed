"""What one server works on: a network, an atlas, input images, and what was computed of them."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, cast

from convscope._app.inputs import (
    InputImage,
    InputSource,
    LayerSummary,
    Size,
    prepare_input,
    summarize_layer,
)
from convscope._app.wire import Floats
from convscope._atlas import Atlas
from convscope._data import Dataset
from convscope._errors import ConvscopeError, ModelError, UnknownLayer, UsageError, one_line
from convscope._feature_maps import record_maps
from convscope._layers import Layer
from convscope._models import Model, ModelLike, load
from convscope._sensitivity import LayerSensitivity

CACHE_BYTES = 512 << 20
"""Bytes of activations that are cached."""

_MAX_INPUTS, _MAX_PENDING, _MAX_RESULTS = 64, 8, 32
_LOAD_PATIENCE = 30.0  # seconds

T = TypeVar("T")


class NotReady(ConvscopeError):
    """The model is still being loaded, or there is none."""


class ModelLoader:
    """Loads a network in a thread of its own, so that the page appears at once.

    Args:
        load_model: Loads the network; ``None`` where there is none to load.
        on_loaded: Called with the loaded network, before anybody else gets it.
    """

    def __init__(
        self, load_model: Callable[[], Model] | None, on_loaded: Callable[[Model], None]
    ) -> None:
        self._load_model, self._on_loaded = load_model, on_loaded
        self._model: Model | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.error = ""

    def start(self) -> None:
        """Begin to load, unless that was done; return at once."""
        if self._done.is_set():
            return
        if self._load_model is None:
            self._done.set()
        else:
            self._thread = threading.Thread(target=self._load, name="convscope-load", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait for the thread: torch may crash where a process ends while it computes."""
        if self._thread is not None:
            self._thread.join(_LOAD_PATIENCE)

    def load_now(self) -> None:
        """Load in this thread. Raises ``UsageError`` where that fails."""
        self._load()
        if self.error:
            raise UsageError(self.error)

    def _load(self) -> None:
        try:
            if self._load_model is not None:
                model = self._load_model()
                _ = model.layers  # traced now, not at the first request
                self._on_loaded(model)
                self._model = model
        except BaseException as error:  # the code of a model may raise anything
            self.error = str(error) if isinstance(error, ConvscopeError) else one_line(error)
        finally:
            self._done.set()

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``failed``, or ``none``."""
        if self._load_model is None:
            return "none"
        if not self._done.is_set():
            return "loading"
        return "ready" if self._model else "failed"

    @property
    def model(self) -> Model:
        """The loaded model. Raises ``NotReady``."""
        if self._model is None:
            reason = {
                "loading": "The model is still being loaded",
                "failed": f"The model could not be loaded: {self.error}",
            }
            raise NotReady(reason.get(self.state, "No model was given. Start it with -m MODEL"))
        return self._model


class ActivationCache:
    """Feature maps by input image and layer; the least recently used go first.

    Args:
        max_bytes: Bytes to hold at most; one entry is held whatever its size.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, int], Floats] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, key: tuple[str, int]) -> Floats | None:
        """The maps of ``(input id, layer index)``, where they are held."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: tuple[str, int], values: Floats) -> None:
        """Hold maps, and let go of others where there is no room."""
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key).nbytes
            self._entries[key] = values
            self._bytes += values.nbytes
            while self._bytes > self.max_bytes and len(self._entries) > 1:
                self._bytes -= self._entries.popitem(last=False)[1].nbytes

    def remove(self, input_id: str) -> None:
        """Let go of all maps of an input image."""
        with self._lock:
            for key in [key for key in self._entries if key[0] == input_id]:
                self._bytes -= self._entries.pop(key).nbytes


class Session:
    """One network (or none yet), one atlas (or none), and the input images.

    Args:
        model: What ``load`` takes, or ``None`` for an atlas alone.
        atlas: The atlas beside it.
        cache_bytes: Bytes of activations to cache.
        load_model: Loads the network, instead of ``model``.
        other: The session of a second network, which is given the same images.
        dataset: What may be scanned. The user named it, never a request.
        folder: Where a scan writes its atlas; without it, in a temporary folder.
    """

    def __init__(
        self,
        model: ModelLike | None = None,
        atlas: Atlas | None = None,
        *,
        cache_bytes: int = CACHE_BYTES,
        load_model: Callable[[], Model] | None = None,
        other: Session | None = None,
        dataset: Dataset | None = None,
        folder: Path | None = None,
    ) -> None:
        self.atlas, self.other, self.dataset, self.folder = atlas, other, dataset, folder
        self.model_name = model if isinstance(model, str) else str(getattr(model, "name", ""))
        self.activations = ActivationCache(cache_bytes)
        self.demos: Mapping[str, Callable[[], InputSource]] = {}
        self.sensitivities: dict[str, LayerSensitivity] = {}
        self.mismatch = ""  # between model and atlas, in words
        if load_model is None and model is not None:
            load_model = partial(load, model)
        self._loader = ModelLoader(load_model, self._compare_with_atlas)
        self._order, self._numbers = dict[str, int](), itertools.count()
        self._inputs: OrderedDict[str, InputImage] = OrderedDict()
        self._not_drawable: dict[int, str] = {}  # layers that failed, and why
        self._summaries: dict[str, list[LayerSummary]] = {}
        self._results: OrderedDict[Hashable, object] = OrderedDict()
        self._pending: deque[tuple[InputSource, Size, str]] = deque(maxlen=_MAX_PENDING)
        self._rejected: dict[str, str] = {}
        self._temporary: TemporaryDirectory[str] | None = None
        self._computing, self._adding = threading.RLock(), threading.Lock()
        self._summarizing = threading.Lock()  # requests for maps do not wait for summaries
        self._lock = threading.Lock()

    # The network

    def start(self) -> None:
        """Begin to load the models; return at once."""
        self._loader.start()
        if self.other is not None:
            self.other.start()

    def load_now(self) -> Session:
        """Load the model in this thread. Raises what ``load`` raises."""
        self._loader.load_now()
        return self

    def _compare_with_atlas(self, model: Model) -> None:
        atlas = self.atlas
        same = atlas is None or atlas.manifest["model"]["fingerprint"] == model.fingerprint()
        name = "" if atlas is None else atlas.model
        self.mismatch = "" if same else f"the atlas is of other weights than this model: {name}"

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``failed``, or ``none``."""
        return self._loader.state

    @property
    def error(self) -> str:
        """Why the model could not be loaded."""
        return self._loader.error

    @property
    def model(self) -> Model:
        """The loaded model. Raises ``NotReady``."""
        return self._loader.model

    @property
    def layers(self) -> Sequence[Layer]:
        """The model's layers, or where there is no model those of the atlas."""
        if self.state == "ready":
            return self._model_layers
        if self.atlas is not None and self.state != "loading":
            return self._atlas_layers
        return self.model.layers

    @cached_property
    def _model_layers(self) -> Sequence[Layer]:
        return tuple(self.model.layers)

    @cached_property
    def _atlas_layers(self) -> Sequence[Layer]:
        layers = self.atlas.layers if self.atlas is not None else ()
        return tuple(Layer(la.path, la.kind, la.shape, families=la.families) for la in layers)

    def layer(self, index: int) -> Layer:
        """The layer of that index. Raises ``UnknownLayer``."""
        if not 0 <= index < len(self.layers):
            raise UnknownLayer(f"No layer {index}: there are {len(self.layers)}, from 0")
        return self.layers[index]

    def set_atlas(self, atlas: Atlas) -> None:
        """Take an atlas that a scan wrote."""
        self.atlas = atlas
        self._compare_with_atlas(self.model)

    def temporary_folder(self) -> Path:
        """A folder for an atlas where none was named; ``close`` removes it."""
        self._temporary = self._temporary or TemporaryDirectory(prefix="convscope-atlas-")
        return Path(self._temporary.name)

    def close(self) -> None:
        """End the threads and remove temporary files."""
        if self.other is not None:
            self.other.close()
        self._loader.join()
        if self._temporary is not None:
            self._temporary.cleanup()

    # Input images

    def inputs(self) -> list[InputImage]:
        """Input images in the order in which they were added."""
        with self._lock:
            return sorted(self._inputs.values(), key=lambda image: self._order[image.id])

    def input(self, id: str) -> InputImage:
        """The input image of that id. Raises ``UnknownLayer`` where there is none (any more)."""
        with self._lock:
            if id in self._inputs:
                self._inputs.move_to_end(id)
                return self._inputs[id]
        _ = self.model  # is loaded
        self._add_pending()
        if id in self._inputs:
            return self._inputs[id]
        raise UnknownLayer(
            self._rejected.get(id) or f"No image {id[:40]!r} here (any more). Upload it again"
        )

    def add_input(self, source: InputSource, size: Size = None) -> InputImage:
        """Add an input image, also to the second network; equal ones are one."""
        image = prepare_input(self.model, source, size)
        with self._lock:
            image = self._inputs.setdefault(image.id, image)
            self._order.setdefault(image.id, next(self._numbers))
            self._inputs.move_to_end(image.id)
            surplus = range(len(self._inputs) - _MAX_INPUTS)
            removed = [self._inputs.popitem(last=False)[0] for _ in surplus]
            for id in removed:
                del self._order[id]
        for id in removed:
            self.activations.remove(id)
            self._summaries.pop(id, None)
        if self.other is not None:
            self.other._add_later(source, size, image.id)
        return image

    def _add_later(self, source: InputSource, size: Size, id: str) -> None:
        """Add what another network was given: now, or as soon as this one is loaded."""
        self._pending.append((source, size, id))
        if self.state == "ready":
            self._add_pending()

    def _add_pending(self) -> None:
        with self._adding:
            while self._pending:
                source, size, id = self._pending.popleft()
                try:
                    self.add_input(source, size)
                except ConvscopeError as error:  # not every network takes every image
                    latest = dict(list(self._rejected.items())[-_MAX_INPUTS:])
                    self._rejected = {**latest, id: str(error)}

    # What is computed of them

    @property
    def layers_with_maps(self) -> list[int]:
        """Indices of the layers that have maps (or features, which are maps of one position)."""
        return [k for k, layer in enumerate(self.layers) if layer.shape and not layer.refusal]

    def maps(self, image: InputImage, index: int) -> Floats:
        """Feature maps ``(C, H, W)`` of a layer; one pass captures as many layers as fit."""
        key = (image.id, self._check_maps(index))
        maps = self.activations.get(key)
        if maps is None:
            with self._computing:
                maps = self.activations.get(key)  # another thread may have computed them
                if maps is None:
                    group = next(g for g in self._groups(image) if index in g)
                    captured = self._capture(image, group)
                    if index not in captured:
                        raise ModelError(self._not_drawable[index])
                    maps = captured[index]
        return maps

    def layer_summaries(self, image: InputImage) -> list[LayerSummary]:
        """All layers of an input image in brief."""
        with self._summarizing:
            if image.id not in self._summaries:
                self._summaries[image.id] = [
                    summarize_layer(index, maps)
                    for group in self._groups(image)
                    for index, maps in self._maps_of(image, group).items()
                ]
            return self._summaries[image.id]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a result once; the last few are kept."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return cast(T, self._results[key])
        result = compute()
        with self._lock:
            self._results[key] = result
            while len(self._results) > _MAX_RESULTS:
                self._results.popitem(last=False)
        return result

    def _check_maps(self, index: int) -> int:
        layer = self.layer(index)
        if layer.refusal:
            raise UnknownLayer(f"{layer.path!r} is not drawable: {layer.refusal}")
        return index

    def _groups(self, image: InputImage) -> Iterator[list[int]]:
        """Layers to capture in one pass: all, or as many as the cache holds."""
        height, width = image.batch.size
        own = self.model.input.size or image.batch.size
        growth = height * width / (own[0] * own[1])
        group: list[int] = []
        room = float(self.activations.max_bytes)
        for index in self.layers_with_maps:
            need = 4 * prod(self.layers[index].shape or ()) * growth
            if group and need > room:
                yield group
                group, room = [], float(self.activations.max_bytes)
            group.append(index)
            room -= need
        yield group

    def _maps_of(self, image: InputImage, group: Sequence[int]) -> dict[int, Floats]:
        with self._computing:
            cached = {index: self.activations.get((image.id, index)) for index in group}
            maps = {index: values for index, values in cached.items() if values is not None}
            known = len(maps) + len(self._not_drawable.keys() & cached.keys())
            return maps if maps and known == len(cached) else self._capture(image, group)

    def _capture(self, image: InputImage, group: Sequence[int]) -> dict[int, Floats]:
        """Run one pass and cache what it computes."""
        index_of = {self.layers[index].path: index for index in group}
        layers = self.model.layers.select(list(index_of))
        captured = record_maps(self.model, image.batch, layers)
        maps = {index_of[path]: result.values for path, result in captured.items()}
        for path, why in captured.not_drawable.items():
            self._not_drawable[index_of[path]] = f"{path!r} is not drawable: {why}"
        for index, values in maps.items():
            self.activations.put((image.id, index), values)
        return maps
