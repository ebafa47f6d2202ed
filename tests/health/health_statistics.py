"""Layer statistics computed from activations at once, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas.histogram_bins import BINS, HIGH, LOW, bin_of
from convscope._health import ClassStatistics, LayerStatistics


def statistics_of(maps: NDArray[np.float32], kind: str = "ReLU", **more: Any) -> LayerStatistics:
    """Return the statistics of ``maps`` ``(N, C, H, W)``, of a ReLU unless stated."""
    values = np.moveaxis(maps.astype(np.float32), 1, 0).reshape(maps.shape[1], -1)
    bins = bin_of(values)
    finite = np.isfinite(values)
    known = np.where(finite, values, 0).astype(np.float64)
    calm = np.nan_to_num(maps.astype(np.float64), nan=0, posinf=0, neginf=0)
    nan = np.isnan(values)
    families = more.pop("families", ("relu",) if kind == "ReLU" else ())
    return LayerStatistics(
        path=more.pop("path", "layer"),
        kind=kind,
        families=families,
        size=maps.shape[2:],
        count=(~nan).sum(1),
        nan=nan.sum(1),
        active=(values > 0).sum(1),
        mean=known.mean(1),
        std=known.std(1),
        minimum=np.where(nan, np.inf, values).min(1).astype(float),
        maximum=np.where(nan, -np.inf, values).max(1).astype(float),
        bin_low=LOW,
        bin_high=HIGH,
        histogram=np.stack([np.bincount(row, minlength=BINS + 1)[:BINS] for row in bins]),
        pooled=calm.mean((2, 3)).T,
        peaks=calm.max((2, 3)).T,
        **more,
    )


def class_statistics(
    layer: LayerStatistics, labels: NDArray[Any], names: tuple[str, ...]
) -> ClassStatistics:
    """Return statistics per class of the layer's pooled values."""
    groups = [layer.pooled[:, labels == k] for k in range(len(names))]
    counts = np.array([[part.shape[1]] * layer.channels for part in groups])
    return ClassStatistics(
        names, counts, np.array([p.sum(1) for p in groups]), (layer.pooled**2).sum(1)
    )
