"""``watch``: records the feature maps of one image while a network trains."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from convscope._errors import MissingDependency, UnknownLayer, UsageError, import_optional
from convscope._feature_maps import FeatureMaps, LayerMaps, record_maps
from convscope._images import ImageLike
from convscope._layers import Layer
from convscope._models import Batch, Model, ModelLike, load
from convscope._plot import Range, Theme
from convscope._watch.frames import FrameStyle, WatchFrame
from convscope._watch.writers import Frames, FrameWriter

if TYPE_CHECKING:
    from keras.callbacks import Callback as KerasCallback
    from lightning.pytorch import Callback as LightningCallback

_MEASURES = ("loss", "accuracy", "acc", "val_loss", "val_accuracy", "val_acc")


class Watch:
    """A network under observation; made by ``watch``.

    Call ``step()`` after each step or epoch and ``close()`` at the end, use it in a ``with``, or
    as a callback: ``keras()``, ``lightning()``.

    Attributes:
        layers: The paths of the layers.
        number: Number of steps so far.
        every: Maps are recorded at the first step, and at each multiple of this.
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
        style: FrameStyle,
        writers: Sequence[FrameWriter],
    ) -> None:
        self.layers = tuple(layer.path for layer in layers)
        self.number = 0
        self.every = every
        self._model, self._batch = model, batch
        self._first, self._channels = first, channels
        self._style, self._writers = style, writers

    def __repr__(self) -> str:
        image = self._batch.names[0]
        return f"Watch({image} in {', '.join(self.layers)} of {self._model.name})"

    def step(self, label: str = "", *, number: int | None = None) -> bool:
        """Count one step; at the first and at each multiple of ``every``, record the maps.

        Args:
            label: Title of the figure, such as ``"epoch 3, accuracy 97 %"``.
            number: The number of the step, where a training continues an earlier one.

        Returns:
            Whether maps were recorded.
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

    def keras(self) -> KerasCallback:
        """Return a callback for Keras: ``model.fit(…, callbacks=[watch.keras()])``.

        Returns:
            A ``keras.callbacks.Callback`` that steps after each epoch.

        Raises:
            MissingDependency: Keras is not installed.
        """
        return _keras_callback(self)

    def lightning(self) -> LightningCallback:
        """Return a callback for Lightning: ``Trainer(callbacks=[watch.lightning()])``.

        Returns:
            A ``Callback`` of ``lightning`` or ``pytorch_lightning`` that steps after each epoch.

        Raises:
            MissingDependency: Lightning is not installed.
        """
        return _lightning_callback(self)

    def _frame(self, maps: FeatureMaps, layer_maps: LayerMaps, label: str) -> WatchFrame:
        values, summary = layer_maps.values, maps.input
        count = len(values)
        channels = tuple(range(min(self._first or count, count)))
        if self._channels is not None:
            channels = tuple(self._channels)
        kind = f"{layer_maps.layer.kind} {'×'.join(map(str, values.shape))}"
        shown = f" · {len(channels)} of {count} channels" if len(channels) < count else ""
        lines = (f"{kind} · model {self._model.name}{shown}", *summary.lines)
        return WatchFrame(
            self.number,
            label,
            layer_maps.layer.path,
            summary.name,
            lines,
            channels,
            values[list(channels)],
        )


def watch(
    model: ModelLike,
    image: ImageLike,
    layers: str | Iterable[str] | None = None,
    *,
    every: int = 1,
    to: str | Path | FrameWriter | Sequence[str | Path | FrameWriter] = "watch",
    first: int | None = 16,
    channels: Sequence[int] | None = None,
    columns: int | None = None,
    cmap: str = "viridis",
    range: Range = "channel",
    theme: Theme = "light",
    size: int | tuple[int, int] | None = None,
) -> Watch:
    """Watch the feature maps of one image while a network trains.

        with cs.watch(model, "digit.png", "conv1", to="frames/") as watch:
            for epoch in range(10):
                ...
                watch.step(f"epoch {epoch + 1}, loss {loss:.2f}")

    The network is left as it is, in training mode, and no random numbers are drawn. Steps at which
    nothing is recorded cost nothing.

    Args:
        model: A model, or anything ``load`` takes.
        image: The input image.
        layers: Layers with maps; by default a few through the depth.
        every: Record at the first step, and then at each multiple of this.
        to: A folder, or a writer such as ``cs.Frames(folder)`` or ``cs.TensorBoard(folder)``, or
            several.
        first: Number of channels; ``None`` for all.
        channels: These channels instead.
        columns: Number of maps in a row.
        cmap: The name of the color map.
        range: What the colors span over all frames: ``"channel"``, ``"layer"``, or a lowest and a
            highest value.
        theme: ``"light"`` or ``"dark"``.
        size: Input size in pixels, where it is not the model's own.

    Returns:
        The watch, whose ``step()`` records.

    Raises:
        UnknownLayer: There is no such layer or channel.
        UsageError: An option is out of its range, or several images were given.
    """
    if every < 1:
        raise UsageError(f"every={every} records nothing. Nearest: 1")
    style, writers = FrameStyle(range, cmap, columns, theme), _writers(to)
    loaded = load(model)
    batch = loaded.prepare(image, size=size)
    if not batch.single:
        raise UsageError(f"watch takes one image, not {len(batch)}. Make a watch for each")
    chosen = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    _check_channels(chosen, loaded.name, first, channels)
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


def _writers(to: Any) -> list[FrameWriter]:
    return [_writer(one) for one in (to if isinstance(to, (list, tuple)) else [to])]


def _writer(to: Any) -> FrameWriter:
    if isinstance(to, (str, Path)):
        return Frames(to)
    if callable(getattr(to, "write", None)) and callable(getattr(to, "close", None)):
        return cast(FrameWriter, to)
    raise UsageError(
        f"to= takes a folder or a writer: cs.Frames('frames/'), cs.TensorBoard('runs/'), not {to!r}"
    )


def _check_channels(
    layers: Sequence[Layer], model: str, first: int | None, channels: Sequence[int] | None
) -> None:
    """Raise errors before the training begins, not after its first epoch."""
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


def _keras_callback(watch: Watch) -> KerasCallback:
    base: Any = import_optional("keras", "keras", "watch(…).keras()", "keras").callbacks.Callback

    class WatchCallback(base):  # type: ignore[misc]
        """Steps after each epoch, and closes after the last."""

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            label = epoch_label(epoch + 1, self.params.get("epochs"), logs or {})
            watch.step(label, number=epoch + 1)

        def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
            watch.close()

    return WatchCallback()


def _lightning_callback(watch: Watch) -> LightningCallback:
    base: Any = _lightning().Callback

    class WatchCallback(base):  # type: ignore[misc]
        """Steps after each epoch, and closes after the last; in the first process alone."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.is_global_zero:
                number = int(trainer.current_epoch) + 1
                label = epoch_label(number, trainer.max_epochs, trainer.callback_metrics)
                watch.step(label, number=number)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.is_global_zero:
                watch.close()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self.on_train_end(trainer, pl_module)

    return WatchCallback()


def _lightning() -> Any:
    """The package that the caller's script has imported, else one that is installed."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):
        with suppress(ModuleNotFoundError):
            return import_module(name)
    raise MissingDependency("lightning", "watch(…).lightning()")


def epoch_label(number: int, total: int | None, measures: Mapping[str, Any]) -> str:
    """Return the title of an epoch with its loss and accuracy, where they are measured.

    >>> epoch_label(3, 10, {"val_accuracy": 0.9123, "loss": 0.5119, "learning_rate": 0.1})
    'epoch 3 of 10 · loss 0.512 · val_accuracy 91.2%'
    """
    epoch = f"epoch {number} of {total}" if total and total > 0 else f"epoch {number}"
    shown = [
        f"{name} {float(measures[name]):{'.1%' if 'acc' in name else '.3f'}}"
        for name in _MEASURES
        if name in measures
    ]
    return " · ".join([epoch, *shown])
