"""Interventions on channels: set to a constant, or reconstructed from one they duplicate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import UsageError
from convscope._loading import ImageLoader, Progress
from convscope._models import Edit, Model


def set_channels(channels: Sequence[int], values: Sequence[float]) -> Edit:
    """An edit that sets each of some channels to one value at every position."""

    def edit(maps: Tensor) -> Tensor:
        edited = maps.clone()
        fill = torch.tensor(list(values), dtype=maps.dtype, device=maps.device)
        edited[:, list(channels)] = fill.view(1, -1, *[1] * (maps.ndim - 2)).expand_as(
            edited[:, list(channels)]
        )
        return edited

    return edit


@dataclass(frozen=True)
class Duplicate:
    """A channel that is nearly a linear function of another one of its layer.

    Attributes:
        channel: The duplicate; it is about ``scale * source + offset``.
        source: The channel that it duplicates.
        correlation: Pearson's, over all positions of all images.
    """

    channel: int
    source: int
    scale: float
    offset: float
    correlation: float


def reconstruct_channels(duplicates: Sequence[Duplicate]) -> Edit:
    """An edit that computes each duplicate from its source."""

    def edit(maps: Tensor) -> Tensor:
        edited = maps.clone()
        for one in duplicates:
            edited[:, one.channel] = one.scale * maps[:, one.source] + one.offset
        return edited

    return edit


@dataclass
class ChannelMoments:
    """First and second moments of a layer's channels over all positions of all images.

    Attributes:
        count: Number of positions.
        sums: Of each channel, ``(C,)``.
        products: Sums of the products of two channels, ``(C, C)``.
    """

    count: int
    sums: NDArray[np.float64]
    products: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """``(C,)``."""
        return self.sums / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """``(C, C)``."""
        return self.products / self.count - np.outer(self.means, self.means)


def measure_moments(
    loader: ImageLoader, paths: Sequence[str], progress: Progress
) -> dict[str, ChannelMoments]:
    """The moments of some layers, by path, in one pass over the images."""
    moments: dict[str, ChannelMoments] = {}
    for _, batch in loader.batches(progress):
        for path, maps in loader.model.activations(batch, list(paths)).items():
            rows = maps.transpose(0, 1).flatten(1).cpu().double().numpy()
            count, sums, products = rows.shape[1], rows.sum(1), rows @ rows.T
            if path in moments:
                before = moments[path]
                count += before.count
                sums, products = sums + before.sums, products + before.products
            moments[path] = ChannelMoments(count, sums, products)
    return moments


def find_duplicates(moments: ChannelMoments, min_correlation: float) -> list[list[Duplicate]]:
    """Groups of channels whose absolute correlation with one source is at least a threshold.

    The channel of the highest variance becomes a source first; constant channels are in no group.
    """
    covariance = moments.covariance
    sd = np.sqrt(np.clip(np.diag(covariance), 0, None))
    rest = [int(k) for k in np.argsort(-sd, kind="stable") if sd[k] > 1e-6 * sd.max()]
    groups = []
    while rest:
        source, *others = rest
        correlations = {k: float(covariance[k, source] / (sd[k] * sd[source])) for k in others}
        close = [k for k in others if abs(correlations[k]) >= min_correlation]
        if close:
            groups.append([_duplicate(moments, k, source, correlations[k]) for k in sorted(close)])
        rest = [k for k in others if k not in close]
    return groups


def _duplicate(moments: ChannelMoments, channel: int, source: int, correlation: float) -> Duplicate:
    covariance, means = moments.covariance, moments.means
    scale = float(covariance[channel, source] / covariance[source, source])
    offset = float(means[channel] - scale * means[source])
    return Duplicate(channel, source, scale, offset, correlation)


Unit = tuple[str, int]
"""The path of a layer, and a channel."""


def parse_units(model: Model, address: str) -> list[Unit]:
    """The units that an address names; all of a layer's, where it is the path of one."""
    layer, parsed = model.layers.at(address)
    if not layer.channels:
        raise UsageError(f"{layer.path!r} of {model.name} has no channels to ablate")
    if parsed.position:
        raise UsageError(
            f"{address!r} is one position, and whole channels are ablated. Nearest: "
            f"{layer.path}:{parsed.channel}"
        )
    channels = range(layer.channels) if parsed.channel is None else [parsed.channel]
    return [(layer.path, channel) for channel in channels]


def group_by_layer(units: Sequence[Unit]) -> dict[str, list[int]]:
    """Channels by path, each once."""
    channels: dict[str, list[int]] = {}
    for path, channel in dict.fromkeys(units):
        channels.setdefault(path, []).append(channel)
    return channels
