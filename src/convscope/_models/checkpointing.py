"""Activation checkpointing switched off for a pass, in its own thread alone.

A checkpointed block runs a second time in the backward pass, without the hooks and the edits of the
first; the reentrant kind has no graph inside. Blocks then simply run, and give the same values.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_in_pass = threading.local()
_lock = threading.Lock()
_passes = 0
_replaced: dict[str, Any] = {}


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Run checkpointed functions as they are, in this thread, for the length of the block."""
    outer = getattr(_in_pass, "on", False)
    _count(+1)
    _in_pass.on = True
    try:
        yield
    finally:
        _in_pass.on = outer
        _count(-1)


def _count(change: int) -> None:
    """torch looks its own functions up by name; while any thread needs it, ours stand there."""
    global _passes
    module: Any = sys.modules.get("torch.utils.checkpoint")
    with _lock:
        _passes += change
        if module is None:
            return
        if _passes and not _replaced:
            for name, plain in _PLAIN.items():
                if hasattr(module, name):
                    _replaced[name] = getattr(module, name)
                    setattr(module, name, _Switch(_replaced[name], plain))
        elif not _passes:
            for name, original in _replaced.items():
                setattr(module, name, original)
            _replaced.clear()


class _Switch:
    """Calls ``plain`` in a thread that is in a pass, the original in every other."""

    def __init__(self, original: Any, plain: Callable[..., Any]) -> None:
        self._original, self._plain = original, plain

    def __call__(self, *args: Any, **options: Any) -> Any:
        on = getattr(_in_pass, "on", False)
        return (self._plain if on else self._original)(*args, **options)

    def apply(self, *args: Any) -> Any:
        """As of an autograd function."""
        on = getattr(_in_pass, "on", False)
        return self._plain(*args) if on else self._original.apply(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _run(function: Callable[..., Any], args: Any, kwargs: Any, **options: Any) -> Any:
    return function(*args, **kwargs)


def _apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    return function(*args)


def _generate(function: Callable[..., Any], *args: Any, **options: Any) -> Iterator[None]:
    yield


_PLAIN: dict[str, Callable[..., Any]] = {
    "_checkpoint_impl": _run,  # newer versions of torch; below, older ones
    "CheckpointFunction": _apply,
    "_checkpoint_without_reentrant_generator": _generate,
}
