"""A scan's lists and statistics, recomputed by keeping every activation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import convscope as cs
from convscope._atlas import LayerAtlas
from convscope._errors import ImageError
from convscope._models import Batch

Values = dict[str, list[NDArray[Any]]]


def brute_force(atlas: cs.Atlas, model: cs.Model, source: Any) -> int:
    """Compare all lists and statistics of ``atlas`` with numpy's; how many entries were compared.

    The batches are the scan's: convolutions differ in the last bits between batch sizes.
    """
    images, found = _everything(atlas, model, source)
    compared = 0
    for layer in atlas.layers:
        mean, peak, high, low = (np.concatenate(found[layer.path][k]) for k in range(4))
        lists = {
            "top.mean": (-mean, high),
            "top.peak": (-peak, high),
            "bottom.mean": (mean, low),
            "bottom.peak": (peak, high),
        }
        k = atlas.manifest["settings"]["top"]
        for name, (key, place) in lists.items():
            order = np.argsort(key, 0, kind="stable")[:k]
            score = np.take_along_axis(key, order, 0) * (-1 if name.startswith("top") else 1)
            np.testing.assert_array_equal(layer.array(f"{name}.image"), images[order], name)
            np.testing.assert_array_equal(layer.array(f"{name}.score"), score + 0, name)
            at = np.take_along_axis(place, order, 0)
            np.testing.assert_array_equal(layer.array(f"{name}.position"), at, name)
            if len(order) == k:
                ties = (key == np.take_along_axis(key, order, 0)[-1]).sum(0)
                np.testing.assert_array_equal(layer.array(f"{name}.ties"), ties, name)
            compared += order.size
        _compare_statistics(layer, np.stack(found[layer.path][4]))
    return compared


def _compare_statistics(layer: LayerAtlas, batches: NDArray[np.float64]) -> None:
    """``batches``: count, Σx, Σx², minimum, maximum and active of each batch."""
    count, total, square = batches[:, 0].sum(0), batches[:, 1].sum(0), batches[:, 2].sum(0)
    np.testing.assert_array_equal(layer.count, count)
    np.testing.assert_array_equal(layer.array("active"), batches[:, 5].sum(0))
    np.testing.assert_array_equal(layer.minimum, batches[:, 3].min(0))
    np.testing.assert_array_equal(layer.maximum, batches[:, 4].max(0))
    np.testing.assert_allclose(layer.mean, total / count, rtol=1e-9, atol=1e-12)
    variance = square / count - (total / count) ** 2
    np.testing.assert_allclose(
        layer.variance, variance, rtol=1e-4, atol=1e-5 * (square / count).max()
    )


def _everything(
    atlas: cs.Atlas, model: cs.Model, source: Any
) -> tuple[NDArray[np.int64], dict[str, list[list[NDArray[Any]]]]]:
    data, settings = cs.open_dataset(source), atlas.manifest["settings"]
    paths = [layer.path for layer in atlas.layers]
    found: dict[str, list[list[NDArray[Any]]]] = {path: [[] for _ in range(5)] for path in paths}
    images: list[int] = []
    for shard in range(0, len(data), settings["shard"]):
        end = min(shard + settings["shard"], len(data))
        for start in range(shard, end, settings["batch"]):
            values = []
            for k in range(start, min(start + settings["batch"], end)):
                try:
                    image = data.image(k)
                    values.append(model.prepare(image, size=tuple(settings["size"])).values)
                    images.append(k)
                except ImageError:
                    continue
            if values:
                batch = Batch(torch.cat(values), None, ("",) * len(values), False)
                for path, maps in model.activations(batch, paths).items():
                    _note(found[path], maps.numpy())
    return np.array(images), found


def _note(kept: list[list[NDArray[Any]]], maps: NDArray[np.float32]) -> None:
    flat = maps.reshape(*maps.shape[:2], -1)
    wide = flat.astype(np.float64)
    kept[0].append(wide.mean(2).astype(np.float32))
    kept[1].append(flat.max(2))
    kept[2].append(flat.argmax(2))
    kept[3].append(flat.argmin(2))
    number = np.full(flat.shape[1], flat.shape[0] * flat.shape[2], np.float64)
    kept[4].append(
        np.stack(
            [
                number,
                wide.sum((0, 2)),
                (wide**2).sum((0, 2)),
                flat.min((0, 2)),
                flat.max((0, 2)),
                (flat > 0).sum((0, 2)),
            ]
        )
    )
