"""What a scan is going to do: which layers, which images in which batches, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convscope._data import Dataset
from convscope._errors import ImageError, UnknownLayer, UsageError
from convscope._layers import Layer
from convscope._models import Batch, Model
from convscope._models.layer_roles import may_be_relu
from convscope._scan.layer_batch_stats import hash_indices
from convscope._scan.summaries import NO_LIMIT, SummarySettings

_MAX_BATCH = 64
_SHARDS = 128  # about this many, each a power of two of images
_MIN_SHARD, _MAX_SHARD = 256, 8192
_MAX_TRIED = 64  # images, to find one that can be read


@dataclass(frozen=True)
class ScanPlan:
    """Everything that determines the contents of a shard: equal plans give equal bytes.

    Attributes:
        layers: Paths, in order of execution.
        channels: The number of channels of each layer.
        images: The number of images of the dataset.
        size: Height and width of the network's input.
        batch: The number of images that enter the network together.
        shard: The number of consecutive images in a shard.
        summary: What is kept of every layer.
    """

    layers: tuple[str, ...]
    channels: tuple[int, ...]
    images: int
    size: tuple[int, int]
    batch: int
    shard: int
    summary: SummarySettings

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.images // self.shard)

    def batches(self, shard: int) -> Iterator[NDArray[np.int64]]:
        """Indices into the dataset, a batch at a time."""
        end = min((shard + 1) * self.shard, self.images)
        for start in range(shard * self.shard, end, self.batch):
            yield np.arange(start, min(start + self.batch, end), dtype=np.int64)

    def settings(self) -> dict[str, Any]:
        """The manifest's settings, with which a resumed scan must agree."""
        summary = asdict(self.summary)
        summary.pop("sample_limit")
        labeled = summary.pop("labeled")
        return {
            "layers": list(self.layers),
            **summary,
            "size": list(self.size),
            "batch": self.batch,
            "shard": self.shard,
            "by class": labeled,
        }


@dataclass(frozen=True, eq=False)
class ScanJob:
    """A network, a dataset, and the plan for scanning it: all that an engine needs."""

    model: Model
    dataset: Dataset
    plan: ScanPlan


def make_plan(
    model: Model,
    dataset: Dataset,
    layers: str | Sequence[str] | None,
    size: int | tuple[int, int] | None,
    summary: SummarySettings,
    batch: int | None,
    shard: int | None,
) -> ScanPlan:
    """Plan a scan; what is ``None`` is chosen."""
    numbers = {"top": summary.top, "sample": summary.sample, "batch": batch, "shard": shard}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise UsageError(f"{name}={value} is too small. Nearest: 1")
    height, width = _input_size(model, dataset, size)
    selected = _scannable(model, layers, (int(height), int(width)))
    batch = batch or fitting_batch(model, _pixel_ratio(model, (height, width)))
    return ScanPlan(
        layers=tuple(layer.path for layer in selected),
        channels=tuple(layer.channels for layer in selected),
        images=len(dataset),
        size=(int(height), int(width)),
        batch=batch,
        shard=shard or _fitting_shard(len(dataset), batch),
        summary=replace(
            summary,
            labeled=dataset.labels is not None,
            sample_limit=_sample_limit(summary, len(dataset)),
        ),
    )


def _scannable(
    model: Model, layers: str | Sequence[str] | None, size: tuple[int, int]
) -> list[Layer]:
    """The selected layers; what cannot be scanned is refused where it was named itself."""
    items = [layers] if isinstance(layers, str) else list(layers or _default_layers(model))
    selected = model.layers.select(items)
    refused = {layer.path: layer.refusal for layer in selected if layer.refusal}
    refused |= _not_always_called(model, [la for la in selected if not la.refusal], size)
    named = next((path for path in refused if path in items), None)
    if named or len(refused) == len(selected):
        path = named or next(iter(refused))
        raise UsageError(f"{path!r} of {model.name} cannot be scanned: {refused[path]}")
    return [layer for layer in selected if layer.path not in refused]


def _not_always_called(model: Model, layers: list[Layer], size: tuple[int, int]) -> dict[str, str]:
    """Why, of layers that a black image or one of noise does not lead to."""
    shape = (1, model.input.channels, *size)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    batches = [Batch(v, None, ("",), single=True) for v in (torch.zeros(shape), noise)]
    try:
        for batch in batches:
            model.stream(batch, [layer.path for layer in layers], lambda path, values: None)
    except UnknownLayer:
        if len(layers) == 1:
            return {layers[0].path: "not every image leads to it"}
        half = len(layers) // 2
        parts = layers[:half], layers[half:]
        return {k: v for part in parts for k, v in _not_always_called(model, part, size).items()}
    return {}


def _input_size(
    model: Model, dataset: Dataset, size: int | tuple[int, int] | None
) -> tuple[int, int]:
    """The one input size for all images; of float arrays, that of the first that can be read."""
    if dataset.preprocessed:
        for index in range(min(len(dataset), _MAX_TRIED)):
            with suppress(ImageError):
                return model.prepare(dataset.image(index), size=size).size
    sides = (size, size) if isinstance(size, int) else size or model.input.size
    if sides is None:
        raise UsageError(
            f"{model.name} takes images of any size, but a scan needs one size for all images. "
            "Give it: --size 224 (size=224)"
        )
    return sides


def _default_layers(model: Model) -> list[str]:
    """Every convolution; where there is none, some layers throughout the depth.

    Of networks with normalization the ReLUs too: only behind them a channel is active or inactive.
    """
    leaves = [layer for layer in model.layers if not layer.container]
    normalized = any("norm" in layer.families for layer in leaves)
    chosen = [
        layer.path
        for layer in leaves
        if "conv" in layer.families or (normalized and may_be_relu(layer) and layer.is_map)
    ]
    return chosen or [layer.path for layer in model.layers.representative(12)]


def _pixel_ratio(model: Model, size: tuple[int, int]) -> float:
    """Pixels of the input, relative to the size at which the layers' shapes were traced."""
    traced = model.input.size or size
    return size[0] * size[1] / (traced[0] * traced[1])


def fitting_batch(model: Model, pixel_ratio: float) -> int:
    """The largest power of two of images whose two largest layers fit in the device's memory."""
    sizes = sorted(prod(layer.shape) for layer in model.layers if layer.shape)
    bytes_per_image = 4 * sum(sizes[-2:]) * pixel_ratio
    fitting = max(1.0, model.memory_budget() / max(bytes_per_image, 1))
    limit = _MAX_BATCH * (4 if model.memory_budget() > 1 << 30 else 1)
    return int(min(limit, 2 ** int(np.log2(fitting))))


def _fitting_shard(images: int, batch: int) -> int:
    size = 2 ** int(np.ceil(np.log2(max(1, images / _SHARDS))))
    size = min(max(size, _MIN_SHARD), _MAX_SHARD)
    return int(-(-size // batch) * batch)


def _sample_limit(summary: SummarySettings, images: int) -> int:
    """A hash below which the sample is complete unless an eighth of it cannot be read."""
    candidates = summary.sample + summary.sample // 8 + 8
    if candidates >= images:
        return NO_LIMIT
    hashes = hash_indices(np.arange(images), summary.seed)
    return int(np.partition(hashes, candidates)[candidates])
