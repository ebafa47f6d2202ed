"""A watch as a callback of somebody else's training loop; neither framework is imported before."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

from convscope._errors import MissingDependency, import_optional

_SAID = ("loss", "accuracy", "acc", "val_loss", "val_accuracy", "val_acc")


class Stepping(Protocol):
    """What a callback needs of a watch."""

    def step(self, label: str = "", *, number: int | None = None) -> bool:
        """One more epoch is over."""

    def close(self) -> None:
        """The training is over."""


def keras(watch: Stepping) -> Any:
    """A ``keras.callbacks.Callback``."""
    base: Any = import_optional("keras", "keras", "watch(…).keras()", "keras").callbacks.Callback

    class WatchCallback(base):  # type: ignore[misc]
        """Looks after each epoch, and finishes after the last."""

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            label = epoch_label(epoch + 1, self.params.get("epochs"), logs or {})
            watch.step(label, number=epoch + 1)

        def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
            watch.close()

    return WatchCallback()


def lightning(watch: Stepping) -> Any:
    """A Lightning ``Callback``, of ``lightning`` or of ``pytorch_lightning``."""
    base: Any = _lightning().Callback

    class WatchCallback(base):  # type: ignore[misc]
        """Looks after each epoch, and finishes after the last; in the first process alone."""

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


def epoch_label(number: int, of: int | None, measures: Mapping[str, Any]) -> str:
    """``epoch 3 of 10 · loss 0.512 · val_accuracy 91.2%``, of what is measured.

    >>> epoch_label(3, 10, {"val_accuracy": 0.9123, "loss": 0.5119, "learning_rate": 0.1})
    'epoch 3 of 10 · loss 0.512 · val_accuracy 91.2%'
    """
    epoch = f"epoch {number} of {of}" if of and of > 0 else f"epoch {number}"
    said = [
        f"{name} {float(measures[name]):{'.1%' if 'acc' in name else '.3f'}}"
        for name in _SAID
        if name in measures
    ]
    return " · ".join([epoch, *said])
