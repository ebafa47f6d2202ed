"""``watch``: looks at one picture through a network every so many steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

from convscope._errors import UnknownLayer, UsageError
from convscope._feature_maps import FeatureMaps, LayerMaps, record_maps
from convscope._layers import Layer
from convscope._models import Batch, Model, load
from convscope._plot import Range, Theme
from convscope._watch import callbacks
from convscope._watch.frame import Frame, Style
from convscope._watch.writers import Frames


class Writer(Protocol):
    """Where frames go."""

    def write(self, frame: Frame, style: Style) -> None:
        """Take one more."""

    def close(self) -> None:
        """There are no more, for now: ``write`` may be called again."""


class Watch:
    """A network under observation; made by ``watch``.

    ``step()`` after each step or epoch, and ``close()`` at the end; or use it in a ``with``, or as
    a callback: ``keras()``, ``lightning()``.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        layers: Sequence[Layer],
        *,
        every: int,
        first: int | None,
        channels: Sequence[int] | None,
        style: Style,
        writers: Sequence[Writer],
    ) -> None:
        self.layers = tuple(layer.path for layer in layers)
        self.number = 0
        self.every = every
        self._model, self._batch = model, batch
        self._first, self._channels = first, channels
        self._style, self._writers = style, writers

    def __repr__(self) -> str:
        picture = self._batch.names[0]
        return f"Watch({picture} in {', '.join(self.layers)} of {self._model.name})"

    def step(self, label: str = "", *, number: int | None = None) -> bool:
        """Count one step; at the first and every ``every``-th, look. Says whether it looked.

        ``label`` is written over the picture: ``"epoch 3, accuracy 97 %"``. ``number`` is that of
        the step, where a training goes on that was begun before.
        """
        self.number = self.number + 1 if number is None else number
        if self.number != 1 and self.number % self.every:
            return False
        maps = record_maps(self._model, self._batch, self._model.layers.select(self.layers))
        for path in self.layers:
            frame = self._frame(maps, maps[path], label)
            for writer in self._writers:
                writer.write(frame, self._style)
        return True

    def close(self) -> None:
        """Let the writers finish: animations are written now."""
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def keras(self) -> Any:
        """A ``keras.callbacks.Callback`` that steps after each epoch: ``fit(callbacks=[…])``."""
        return callbacks.keras(self)

    def lightning(self) -> Any:
        """A Lightning ``Callback`` that steps after each epoch: ``Trainer(callbacks=[…])``."""
        return callbacks.lightning(self)

    def _frame(self, maps: FeatureMaps, found: LayerMaps, label: str) -> Frame:
        count = len(found.values)
        chosen = tuple(range(min(self._first or count, count)))
        if self._channels is not None:
            chosen = tuple(self._channels)
        kind = f"{found.layer.kind} {'×'.join(map(str, found.values.shape))}"
        part = f" · {len(chosen)} of {count} channels" if len(chosen) < count else ""
        lines = (f"{kind} · model {self._model.name}{part}", *maps.input.lines)
        name, path = maps.input.name, found.layer.path
        return Frame(self.number, label, path, name, lines, chosen, found.values[list(chosen)])


def watch(
    model: Any,
    image: Any,
    layers: str | Iterable[str] | None = None,
    *,
    every: int = 1,
    to: str | Path | Writer | Sequence[str | Path | Writer] = "watch",
    first: int | None = 16,
    channels: Sequence[int] | None = None,
    columns: int | None = None,
    cmap: str = "viridis",
    range: Range = "channel",
    theme: Theme = "light",
    size: int | tuple[int, int] | None = None,
) -> Watch:
    """Watch the feature maps of one picture while a network trains.

        with cs.watch(model, "digit.png", "conv1", to="frames/") as watch:
            for epoch in range(10):
                ...
                watch.step(f"epoch {epoch + 1}, loss {loss:.2f}")

    The network is left as it is found, in training mode, and nothing is drawn from its random
    numbers. A step that is not due costs nothing.

    - ``model``, ``image``, ``layers``, ``size``: as for ``feature_maps``; one picture.
    - ``every``: look at the first step, and then at each multiple of it.
    - ``to``: a folder, or a writer such as ``cs.Frames(folder)`` or ``cs.TensorBoard(folder)``, or
      several.
    - ``first``: so many channels, ``None`` for all; ``channels``: these.
    - ``columns``, ``cmap``, ``range``, ``theme``: as for ``LayerMaps.grid``, but ranges are those
      of all frames, so that they can be compared.
    """
    if every < 1:
        raise UsageError(f"every={every} never looks. Nearest: 1")
    style, writers = Style(range, cmap, columns, theme), _writers(to)
    loaded = load(model)
    batch = loaded.prepare(image, size=size)
    if not batch.single:
        raise UsageError(f"watch looks at one picture, not {len(batch)}. Make a watch for each")
    chosen = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    _check(chosen, loaded.name, first, channels)
    return Watch(
        loaded,
        batch,
        chosen,
        every=every,
        first=first,
        channels=channels,
        style=style,
        writers=writers,
    )


def _writers(to: Any) -> list[Writer]:
    several = to if isinstance(to, (list, tuple)) else [to]
    return [_writer(one) for one in several]


def _writer(to: Any) -> Writer:
    if isinstance(to, (str, Path)):
        return Frames(to)
    if callable(getattr(to, "write", None)) and callable(getattr(to, "close", None)):
        return cast(Writer, to)
    raise UsageError(
        f"to= takes a folder or a writer: cs.Frames('frames/'), cs.TensorBoard('runs/'), not {to!r}"
    )


def _check(
    layers: Sequence[Layer], model: str, first: int | None, channels: Sequence[int] | None
) -> None:
    """Mistakes are told before the training begins, not after its first epoch."""
    if first is not None and first < 1:
        raise UsageError(f"first={first} shows nothing. Nearest: 1")
    for layer in layers:
        count = layer.shape[0] if layer.shape else 0
        for channel in channels or ():
            if count and not 0 <= channel < count:
                raise UnknownLayer(
                    f"No channel {channel} in {layer.path!r} of {model}: it has {count}, 0 to "
                    f"{count - 1}"
                )
