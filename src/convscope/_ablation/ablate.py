"""``ablate``: the accuracy drop without a channel, a set of channels, or a layer's duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convscope._ablation.ablation_result import AblationEffect, AblationResult
from convscope._ablation.interventions import (
    ChannelMoments,
    Unit,
    find_duplicates,
    group_by_layer,
    measure_moments,
    parse_units,
    reconstruct_channels,
    set_channels,
)
from convscope._errors import UsageError, check_name
from convscope._loading import (
    ImageLoader,
    ImagesLike,
    Progress,
    class_count,
    match_labels,
    open_images,
)
from convscope._models import Edit, Model, ModelLike, load

_FILLS = {"zero": "set to 0", "mean": "set to their mean over the images"}
_DUPLICATE_FILL = "set to 0, or reconstructed from the channel they duplicate"


@dataclass(frozen=True)
class _Ablated:
    """A copy of the network with an intervention."""

    name: str
    units: tuple[str, ...]
    model: Model


def ablate(
    model: ModelLike,
    images: ImagesLike,
    units: str | Sequence[str],
    *,
    each: bool = False,
    duplicates: float | None = None,
    fill: str = "zero",
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, total: None,
) -> AblationResult:
    """Ablate channels of a classifier, and measure the accuracy drop, overall and for each class.

    The model itself is not changed. Ablation as a measure of importance: Morcos et al., ICLR 2018.

    Args:
        model: A loaded model, or anything ``load`` takes.
        images: A labeled dataset, or anything ``open_dataset`` takes; where it has a test split,
            that is used.
        units: Addresses of channels (``conv2:3``), ablated together, or paths of layers: all
            their channels.
        each: Whether every channel is ablated by itself instead.
        duplicates: Find channels of the named layers whose absolute correlation with another one
            is at least this (0.95, say), and compare two interventions: setting them to 0, and
            reconstructing them from that channel, which changes nothing where they are redundant.
        fill: What ablated channels are set to: ``zero``, or their ``mean`` over the images, which
            is closer to what later layers were trained on.
        first: Number of images, spread evenly over the dataset; by default all.
        size: Side, or height and width, in pixels to resize images to, instead of the model's.
        progress: Called with the number of images done and their total.

    Returns:
        Accuracy of the intact network and after each intervention, overall and ``(classes,)``.

    Raises:
        DatasetError: For unlabeled data, and for classes that do not match the model's.
        UnknownLayer: For units that do not exist.
        UsageError: For an unknown fill, for positions, and where no unit is named.
    """
    loaded = load(model)
    check_name("fill", fill, _FILLS)
    loader = open_images(loaded, images, first=first, size=size)
    addresses = [units] if isinstance(units, str) else list(units)
    chosen = [unit for address in addresses for unit in parse_units(loaded, address)]
    if not chosen:
        raise UsageError("No unit was named. Write PATH:CHANNEL")
    moments: dict[str, ChannelMoments] = {}
    if duplicates is not None or fill == "mean":
        moments = measure_moments(loader, list(group_by_layer(chosen)), progress)
    if duplicates is not None:
        ablated = _without_duplicates(loaded, moments, duplicates)
        note = f"no two channels have a correlation of {duplicates} or more" if not ablated else ""
        return _evaluate(loader, ablated, _DUPLICATE_FILL, note, progress)
    if each:
        sets = [(f"{path}:{channel}", [(path, channel)]) for path, channel in dict.fromkeys(chosen)]
    else:
        sets = [(_name(addresses), chosen)]
    ablated = [_without_units(loaded, name, one, moments) for name, one in sets]
    return _evaluate(loader, ablated, _FILLS[fill], "", progress)


def _name(addresses: Sequence[str]) -> str:
    return " + ".join(addresses) if len(addresses) < 4 else f"{len(addresses)} units"


def _without_units(
    model: Model, name: str, units: Sequence[Unit], moments: Mapping[str, ChannelMoments]
) -> _Ablated:
    """Set to their means where ``moments`` are given, to 0 elsewhere."""
    edits: dict[str, Edit] = {}
    for path, channels in group_by_layer(units).items():
        zeros = [0.0] * len(channels)
        fill = moments[path].means[channels].tolist() if path in moments else zeros
        edits[path] = set_channels(channels, fill)
    return _Ablated(name, tuple(f"{path}:{c}" for path, c in units), model.edited(edits))


def _without_duplicates(
    model: Model, moments: Mapping[str, ChannelMoments], min_correlation: float
) -> list[_Ablated]:
    """Each group of duplicates twice: set to 0, and reconstructed."""
    ablated = []
    for path, one in moments.items():
        for group in find_duplicates(one, min_correlation):
            channels = [duplicate.channel for duplicate in group]
            units = tuple(f"{path}:{channel}" for channel in channels)
            listed = ",".join(map(str, channels[:4])) + ("…" if len(channels) > 4 else "")
            weakest = min(abs(duplicate.correlation) for duplicate in group)
            reconstructed = f"{path}:{listed} from :{group[0].source} (ρ {weakest:.2f})"
            for name, edit in (
                (f"{path}:{listed} ablated", set_channels(channels, [0.0] * len(channels))),
                (reconstructed, reconstruct_channels(group)),
            ):
                ablated.append(_Ablated(name, units, model.edited({path: edit})))
    return ablated


@dataclass(frozen=True)
class _Predictions:
    """Labels, and the classes that the intact network and each ablated one predict, ``(N,)``."""

    labels: NDArray[np.int64]
    intact: NDArray[np.int64]
    ablated: tuple[NDArray[np.int64], ...]
    outputs: int

    def effect(
        self, name: str, units: tuple[str, ...], predictions: NDArray[np.int64]
    ) -> AblationEffect:
        correct = predictions == self.labels
        counts = np.bincount(self.labels, minlength=self.outputs)
        hits = np.bincount(self.labels, weights=correct, minlength=self.outputs)
        nan = np.full(self.outputs, np.nan)
        by_class = np.divide(hits, counts, out=nan, where=counts > 0)
        changed = float((predictions != self.intact).mean())
        return AblationEffect(name, units, float(correct.mean()), by_class, changed)


def _predict(loader: ImageLoader, ablated: Sequence[_Ablated], progress: Progress) -> _Predictions:
    """The predictions of all networks, in one pass over the images."""
    all_labels: NDArray[np.int64] | None = None
    models = [loader.model, *(one.model for one in ablated)]
    labels: list[NDArray[np.int64]] = []
    predictions: list[list[NDArray[np.int64]]] = [[] for _ in models]
    outputs = 0
    for indices, batch in loader.batches(progress):
        for place, model in enumerate(models):
            logits = model.logits(batch)
            if all_labels is None:
                outputs = class_count(logits, model)
                all_labels = match_labels(model, loader.dataset, outputs, "ablation")
            predictions[place].append(logits.argmax(1).cpu().numpy())
        assert all_labels is not None
        labels.append(all_labels[indices])
    if not labels:
        raise UsageError(f"No image of {loader.dataset.name!r} could be read")
    intact, *others = [np.concatenate(one) for one in predictions]
    return _Predictions(np.concatenate(labels), intact, tuple(others), outputs)


def _evaluate(
    loader: ImageLoader, ablated: Sequence[_Ablated], fill: str, note: str, progress: Progress
) -> AblationResult:
    predictions = _predict(loader, ablated, progress)
    classes = range(predictions.outputs)
    return AblationResult(
        model=loader.model.title,
        images=loader.describe(),
        fill=fill,
        classes=tuple(loader.model.class_name(k) for k in classes),
        counts=np.bincount(predictions.labels, minlength=len(classes)).astype(np.int64),
        intact=predictions.effect("intact", (), predictions.intact),
        effects=tuple(
            predictions.effect(one.name, one.units, classes_predicted)
            for one, classes_predicted in zip(ablated, predictions.ablated, strict=True)
        ),
        note=note,
    )
