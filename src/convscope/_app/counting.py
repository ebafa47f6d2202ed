"""Passes of a network counted as they are made, so that long work can be followed and ended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from convscope._models import Model


@contextmanager
def counted(model: Model, on_pass: Callable[[int], None]) -> Iterator[None]:
    """``on_pass`` is called with the number of every look that ``model`` takes, before it does.

    Only for a copy that nobody else uses: what ``on_pass`` raises ends the look.
    """
    look, count = model.activations, itertools.count(1)

    def looked(*given: Any, **named: Any) -> Any:
        on_pass(next(count))
        return look(*given, **named)

    model.activations = looked  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.activations
