"""What is kept of the passes that were made, within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BOUND = 512 << 20
"""Bytes of activations that are kept."""


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
