"""What the findings rest on: the numbers of one layer, as an atlas keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Kinds with an upper and a lower end to their values.
BOUNDED: dict[str, tuple[float, float]] = {
    "relu6": (-np.inf, 6.0), "hardtanh": (-1.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ByClass:
    """Means by class: ``names`` ``(K,)``, ``counts`` ``(K, C)`` images, ``sums`` ``(K, C)``."""

    names: tuple[str, ...]
    counts: Counts
    sums: Floats
    squares: Floats  # (C,): Σx² over all images


@dataclass(frozen=True, eq=False)
class Evidence:
    """One layer's channels on a dataset; arrays are ``(C,)`` but where it says otherwise.

    - ``path``, ``kind``, ``size``: of its maps, height and width (``()`` for a vector)
    - ``gate``: the path of the ReLU its values go through next; ``None`` where there is none
    - ``twins``: ``{(i, j): cosine}`` of its filters; ``None`` where it has none of its own
    - ``count``: values seen; ``nan``: values that are none; ``active``: values above zero
    - ``mean``, ``deviation``, ``minimum``, ``maximum``: over all positions of all images
    - ``low``, ``high`` ``(B,)``, ``histogram`` ``(C, B)``: the ends of the bins, and counts
    - ``pooled`` ``(C, n)``: means over the map, of all images or of a sample of them
    - ``by_class``: ``None`` where images have no class
    """

    path: str
    kind: str
    size: tuple[int, ...]
    count: Counts
    nan: Counts
    active: Counts
    mean: Floats
    deviation: Floats
    minimum: Floats
    maximum: Floats
    low: Floats
    high: Floats
    histogram: Counts
    pooled: Floats
    gate: str | None = None
    twins: dict[tuple[int, int], float] | None = None
    by_class: ByClass | None = None
    families: tuple[str, ...] = field(default=())

    @property
    def channels(self) -> int:
        return len(self.count)

    @property
    def is_relu(self) -> bool:
        return "relu" in (self.kind.lower(), *self.families) and self.kind.lower() not in _LEAKY

    @property
    def switches(self) -> bool:
        """Whether zero decides: a ReLU made these values, or one takes them next.

        A Keras layer with a ReLU of its own has no value below zero, and some that are zero.
        """
        return self.gate is not None or self.is_relu or self.rectified

    @property
    def rectified(self) -> bool:
        """Whether the values look as a ReLU leaves them, in a layer that has weights itself."""
        fused = bool(set(self.families) & {"conv", "linear"}) and len(self.minimum) > 1
        return fused and bool((self.minimum == 0).mean() > 0.5 and (self.minimum >= 0).all())

    @property
    def bounds(self) -> tuple[float, float] | None:
        return BOUNDED.get(self.kind.lower())


_LEAKY = frozenset({"leakyrelu", "leaky_relu", "prelu", "rrelu"})
