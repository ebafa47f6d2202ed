"""What a scan is going to do: which layers, which images in which batches, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._data import Dataset
from convscope._errors import ImageError, UsageError
from convscope._models import Model
from convscope._models.neighbors import perhaps_relu
from convscope._scan.layer import Kept
from convscope._scan.readings import mixed

_MOST_IN_A_BATCH = 64
_SHARDS = 128  # about so many, of a power of two images each
_TRIED = 64  # images, for one that can be read
_LEAST_IN_A_SHARD, _MOST_IN_A_SHARD = 256, 8192


@dataclass(frozen=True)
class Plan:
    """All that decides what a shard contains; equal plans give equal bytes.

    - ``layers``: paths, in order of execution, and ``channels`` of each.
    - ``images``: how many the listing has; ``shard``: how many of them in a row are one shard;
      ``batch``: how many of those enter the network together.
    - ``size``: height and width at which the network sees them.
    """

    layers: tuple[str, ...]
    channels: tuple[int, ...]
    images: int
    size: tuple[int, int]
    batch: int
    shard: int
    kept: Kept

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard)

    def batches(self, shard: int) -> Iterator[NDArray[np.int64]]:
        """Listing indices, a batch at a time."""
        end = min((shard + 1) * self.shard, self.images)
        for start in range(shard * self.shard, end, self.batch):
            yield np.arange(start, min(start + self.batch, end), dtype=np.int64)

    def smaller(self) -> Plan:
        """The same with half the images in a batch."""
        return replace(self, batch=self.batch // 2)

    def settings(self) -> dict[str, Any]:
        """What the manifest says, and a scan that goes on must agree with."""
        kept = asdict(self.kept)
        kept.pop("limit")
        labeled = kept.pop("labeled")
        return {
            "layers": list(self.layers),
            **kept,
            "size": list(self.size),
            "batch": self.batch,
            "shard": self.shard,
            "by class": labeled,
        }


def make_plan(
    model: Model,
    dataset: Dataset,
    layers: Any,
    size: int | tuple[int, int] | None,
    kept: Kept,
    batch: int | None,
    shard: int | None,
) -> Plan:
    """The plan for these wishes; what is ``None`` is chosen."""
    for name, value in (
        ("top", kept.top),
        ("sample", kept.sample),
        ("batch", batch),
        ("shard", shard),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{name}={value} is too few. Nearest: 1")
    sides = _sides(model, dataset, size)
    chosen = [layer for layer in model.layers.select(layers or _usual(model)) if layer.shape]
    if not chosen:
        raise UsageError(f"None of the layers {layers!r} of {model.name} gives a tensor of floats")
    spread = _sized(model, sides)
    batch = batch or fitting_batch(model, spread)
    return Plan(
        layers=tuple(layer.path for layer in chosen),
        channels=tuple(layer.channels for layer in chosen),
        images=len(dataset),
        size=(int(sides[0]), int(sides[1])),
        batch=batch,
        shard=shard or _fitting_shard(len(dataset), batch),
        kept=replace(
            kept,
            labeled=dataset.labels is not None,
            limit=_sample_limit(kept, len(dataset)),
        ),
    )


def _sides(model: Model, dataset: Dataset, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """The size at which all images are seen: of numbers, that of the first that can be read."""
    if dataset.numbers:
        for index in range(min(len(dataset), _TRIED)):
            with suppress(ImageError):
                return model.prepare(dataset.image(index), size=size).size
    sides = (size, size) if isinstance(size, int) else size or model.input.size
    if sides is None:
        raise UsageError(
            f"{model.name} takes pictures of any size, and those of a dataset differ. Say at which "
            "size they are to be seen: --size 224 (size=224)"
        )
    return sides


def _usual(model: Model) -> Any:
    """Every convolution; where there is none, some layers through the depth.

    Of networks that normalize, the ReLUs too: only behind them it shows whether a channel is on.
    """
    leaves = [layer for layer in model.layers if not layer.container]
    normalized = any("norm" in layer.families for layer in leaves)
    chosen = [
        layer.path
        for layer in leaves
        if "conv" in layer.families or (normalized and perhaps_relu(layer) and layer.is_map)
    ]
    return chosen or [layer.path for layer in model.layers.representative(12)]


def _sized(model: Model, sides: tuple[int, int]) -> float:
    """How many times more pixels the images have than those the layers' shapes were traced with."""
    known = model.input.size or sides
    return sides[0] * sides[1] / (known[0] * known[1])


def fitting_batch(model: Model, times: float) -> int:
    """The power of two of images whose two largest layers fit where the model lives."""
    sizes = sorted(prod(layer.shape) for layer in model.layers if layer.shape)
    each = 4 * sum(sizes[-2:]) * times
    most = max(1.0, model.room() / max(each, 1))
    limit = _MOST_IN_A_BATCH * (4 if model.room() > 1 << 30 else 1)
    return int(min(limit, 2 ** int(np.log2(most))))


def _fitting_shard(images: int, batch: int) -> int:
    wanted = 2 ** int(np.ceil(np.log2(max(1, images / _SHARDS))))
    inside = min(max(wanted, _LEAST_IN_A_SHARD), _MOST_IN_A_SHARD)
    return int(-(-inside // batch) * batch)


def _sample_limit(kept: Kept, images: int) -> int:
    """Mixed-up indices from here on are not sampled, unless an eighth of it is unreadable."""
    candidates = kept.sample + kept.sample // 8 + 8
    if candidates >= images:
        return 2**64 - 1
    draws = mixed(np.arange(images), kept.seed)
    return int(np.partition(draws, candidates)[candidates])
