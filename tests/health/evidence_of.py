"""Evidence computed from activations in one piece, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas.bins import BINS, HIGH, LOW, bin_of
from convscope._health import ByClass, Evidence


def evidence(maps: NDArray[np.float32], kind: str = "ReLU", **more: Any) -> Evidence:
    """Of ``maps`` ``(N, C, H, W)``; a layer of ReLUs where nothing else is said."""
    values = np.moveaxis(maps.astype(np.float32), 1, 0).reshape(maps.shape[1], -1)
    bins = bin_of(values)
    finite = np.isfinite(values)
    known = np.where(finite, values, 0).astype(np.float64)
    calm = np.nan_to_num(maps.astype(np.float64), nan=0, posinf=0, neginf=0)
    nan = np.isnan(values)
    families = more.pop("families", ("relu",) if kind == "ReLU" else ())
    return Evidence(
        path=more.pop("path", "layer"),
        kind=kind,
        families=families,
        size=maps.shape[2:],
        count=(~nan).sum(1),
        nan=nan.sum(1),
        active=(values > 0).sum(1),
        mean=known.mean(1),
        deviation=known.std(1),
        minimum=np.where(nan, np.inf, values).min(1).astype(float),
        maximum=np.where(nan, -np.inf, values).max(1).astype(float),
        low=LOW,
        high=HIGH,
        histogram=np.stack([np.bincount(row, minlength=BINS + 1)[:BINS] for row in bins]),
        pooled=calm.mean((2, 3)).T,
        peaks=calm.max((2, 3)).T,
        **more,
    )


def by_class(layer: Evidence, labels: NDArray[Any], names: tuple[str, ...]) -> ByClass:
    """Means by class, of the evidence's pooled values."""
    of = [layer.pooled[:, labels == k] for k in range(len(names))]
    counts = np.array([[part.shape[1]] * layer.channels for part in of])
    return ByClass(names, counts, np.array([p.sum(1) for p in of]), (layer.pooled**2).sum(1))
