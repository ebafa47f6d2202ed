"""What is done to channels: silenced, held at their mean, or computed from another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import UsageError
from convscope._loading import ImageLoader, Progress
from convscope._models import Edit, Model


@dataclass(frozen=True)
class Twin:
    """A channel that another one of its layer tells: ``scale * source + offset``."""

    channel: int
    source: int
    scale: float
    offset: float
    correlation: float


def held(channels: Sequence[int], values: Sequence[float]) -> Edit:
    """Some channels at one value each, at every position."""

    def edit(maps: Tensor) -> Tensor:
        changed = maps.clone()
        fill = torch.tensor(list(values), dtype=maps.dtype, device=maps.device)
        changed[:, list(channels)] = fill.view(1, -1, *[1] * (maps.ndim - 2)).expand_as(
            changed[:, list(channels)]
        )
        return changed

    return edit


def told(twins: Sequence[Twin]) -> Edit:
    """Some channels computed from the one that each of them follows."""

    def edit(maps: Tensor) -> Tensor:
        changed = maps.clone()
        for twin in twins:
            changed[:, twin.channel] = twin.scale * maps[:, twin.source] + twin.offset
        return changed

    return edit


@dataclass
class Moments:
    """Means and covariances of a layer's channels over all positions of all pictures."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        return self.products / self.count - np.outer(self.means, self.means)


def moments(feed: ImageLoader, paths: Sequence[str], progress: Progress) -> dict[str, Moments]:
    """One pass over the pictures."""
    found: dict[str, Moments] = {}
    for _, batch in feed.batches(progress):
        for path, maps in feed.model.activations(batch, list(paths)).items():
            rows = maps.transpose(0, 1).flatten(1).cpu().double().numpy()
            one = Moments(rows.shape[1], rows.sum(1), rows @ rows.T)
            if path in found:
                was = found[path]
                one = Moments(
                    was.count + one.count, was.total + one.total, was.products + one.products
                )
            found[path] = one
    return found


def twins(of: Moments, least: float) -> list[list[Twin]]:
    """Groups of channels that follow one: those whose correlation with it is at least ``least``.

    The one that varies most leads; constant channels follow nobody.
    """
    covariance = of.covariance
    spread = np.sqrt(np.clip(np.diag(covariance), 0, None))
    live = [int(k) for k in np.argsort(-spread, kind="stable") if spread[k] > 1e-6 * spread.max()]
    groups = []
    while live:
        lead, *others = live
        close = {k: float(covariance[k, lead] / (spread[k] * spread[lead])) for k in others}
        followers = [k for k in others if abs(close[k]) >= least]
        if followers:
            groups.append([_twin(of, covariance, k, lead, close[k]) for k in sorted(followers)])
        live = [k for k in others if k not in followers]
    return groups


def _twin(of: Moments, covariance: NDArray[np.float64], k: int, lead: int, close: float) -> Twin:
    scale = float(covariance[k, lead] / covariance[lead, lead])
    return Twin(k, lead, scale, float(of.means[k] - scale * of.means[lead]), close)


def units_of(model: Model, address: str) -> list[tuple[str, int]]:
    """The units that an address or a layer names."""
    layer, where = model.layers.at(address)
    if not layer.channels:
        raise UsageError(f"{layer.path!r} of {model.name} has no channels to silence")
    chosen = range(layer.channels) if where.channel is None else [where.channel]
    if where.position:
        raise UsageError(
            f"{address!r} is one position, and whole channels are silenced. Nearest: "
            f"{layer.path}:{where.channel}"
        )
    return [(layer.path, channel) for channel in chosen]


def by_path(units: Sequence[tuple[str, int]]) -> Mapping[str, list[int]]:
    """Channels by layer."""
    found: dict[str, list[int]] = {}
    for path, channel in dict.fromkeys(units):
        found.setdefault(path, []).append(channel)
    return found
