"""Handing over activations as they are computed, so that none outlives its use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from convscope._errors import UnknownLayer
from convscope._models.capture import Stop, first_tensor

Consume = Callable[[str, Tensor], None]
"""Called with a path and what its layer computed, in the standard layout, while it is in memory."""


class Streamer:
    """Gives each result asked for to ``consume`` and ends the pass after the last of them.

    Results are handed over before anything can overwrite them. What ``consume`` raises is kept and
    raised after the pass: a framework would wrap it.
    """

    def __init__(
        self, standard: Callable[[str, Any], Tensor], paths: Sequence[str], consume: Consume
    ) -> None:
        self._standard = standard
        self._missing = set(paths)
        self._consume = consume
        self._raised: BaseException | None = None

    def keep(self, address: str, result: Any) -> None:
        """Take what a torch layer returned."""
        # Without this guard what is done here would itself be reported as a function's result.
        with torch._C.DisableTorchFunction():
            tensor = first_tensor(result)
            if tensor is not None:
                self.give(address, tensor)

    def give(self, address: str, result: Any) -> None:
        """Hand over one result, in the framework's own kind of array."""
        try:
            self._consume(address, self._standard(address, result))
        except BaseException as error:
            self._raised = error
            raise Stop from None
        self._missing.discard(address)
        if not self._missing:
            raise Stop

    def finish(self, model: str) -> None:
        """Raise what went wrong."""
        if self._raised is not None:
            raise self._raised
        if self._missing:
            raise UnknownLayer(
                f"Layer {min(self._missing)!r} of {model} was not called, or gave no floats, for "
                "this input"
            )
