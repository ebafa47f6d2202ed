"""All units as one table, where pandas is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convscope._errors import MissingDependency

if TYPE_CHECKING:
    from convscope._atlas.reading import Atlas

_STATISTICS = ("count", "nan", "mean", "variance", "minimum", "maximum", "active")


def columns(atlas: Atlas) -> dict[str, Any]:
    """The table's columns: address, layer, channel, statistics, percentiles, the best image."""
    found: dict[str, list[Any]] = {}

    def add(name: str, values: Any) -> None:
        found.setdefault(name, []).append(np.asarray(values))

    for layer in atlas.layers:
        add("unit", [f"{layer.path}:{k}" for k in range(layer.channels)])
        add("layer", [layer.path] * layer.channels)
        add("channel", np.arange(layer.channels))
        for name in _STATISTICS:
            add(name, getattr(layer, name))
        for percent, values in zip((1, 50, 99), layer.percentiles((1, 50, 99)), strict=True):
            add(f"p{percent}", values)
        for by in ("mean", "peak"):
            add(f"top_{by}", layer.array(f"top.{by}.score")[0])
            images = layer.array(f"top.{by}.image")[0]
            add(f"top_{by}_image", [atlas.ids[k] if k >= 0 else "" for k in images])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def table(atlas: Atlas) -> Any:
    """A ``DataFrame`` of ``columns``."""
    try:
        import pandas
    except ModuleNotFoundError:
        raise MissingDependency("pandas", "atlas.table()") from None
    return pandas.DataFrame(columns(atlas))
