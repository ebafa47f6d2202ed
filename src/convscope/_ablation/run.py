"""``ablate``: what a channel, a set of channels, or a layer's duplicates are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._ablation.edits import Moments, by_path, held, moments, told, twins, units_of
from convscope._ablation.result import Ablation, Loss
from convscope._errors import UsageError
from convscope._loading import ImageLoader, Progress, class_count, match_labels, open_images
from convscope._models import Edit, Model, load

_FILLS = {"zero": "channels set to 0", "mean": "channels held at their mean over the pictures"}


@dataclass(frozen=True)
class _Trial:
    name: str
    units: tuple[str, ...]
    model: Model


def ablate(
    model: Any,
    images: Any,
    units: str | Sequence[str],
    *,
    each: bool = False,
    duplicates: float | None = None,
    fill: str = "zero",
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, of: None,
) -> Ablation:
    """Silence channels, and see what it costs in accuracy, overall and for each class.

    - ``images``: a labeled dataset, anything ``open_dataset`` takes; of data with a test part,
      that. ``first``: so many pictures, spread evenly over it.
    - ``units``: addresses (``conv2:3``), silenced all together, or layers: all their channels.
      With ``each``, every one by itself.
    - ``duplicates``: for layers: find channels that follow another one with at least this
      correlation (0.95, say), and compare silencing them with computing them from that one, which
      costs nothing where they are redundant.
    - ``fill``: ``zero``, or ``mean``, which leaves later layers nearer to what they are used to.

    The model itself is not changed. Raises ``DatasetError`` for unlabeled data and for classes
    that do not match, ``UnknownLayer`` for units that are not there.
    """
    loaded = load(model)
    if fill not in _FILLS:
        raise UsageError(f"No fill {fill!r}. Known: {', '.join(_FILLS)}")
    source = open_images(loaded, images, first=first, size=size)
    named = [units] if isinstance(units, str) else list(units)
    chosen = [unit for address in named for unit in units_of(loaded, address)]
    if not chosen:
        raise UsageError("No unit was named. Write PATH:CHANNEL")
    known: dict[str, Moments] = {}
    if duplicates is not None or fill == "mean":
        known = moments(source, list(by_path(chosen)), progress)
    if duplicates is not None:
        trials = _duplicates(loaded, known, duplicates)
    else:
        sets = [[unit] for unit in dict.fromkeys(chosen)] if each else [chosen]
        names = [f"{p}:{c}" for p, c in dict.fromkeys(chosen)] if each else [_named(named)]
        trials = [_silenced(loaded, s, n, known) for s, n in zip(sets, names, strict=True)]
    return _measured(source, trials, _FILLS[fill], duplicates, progress)


def _named(addresses: Sequence[str]) -> str:
    return " + ".join(addresses) if len(addresses) < 4 else f"{len(addresses)} units"


def _silenced(
    model: Model, units: Sequence[tuple[str, int]], name: str, known: dict[str, Moments]
) -> _Trial:
    edits: dict[str, Edit] = {}
    for path, channels in by_path(units).items():
        values = known[path].means[channels].tolist() if path in known else [0.0] * len(channels)
        edits[path] = held(channels, values)
    return _Trial(name, tuple(f"{path}:{c}" for path, c in units), model.edited(edits))


def _duplicates(model: Model, known: dict[str, Moments], least: float) -> list[_Trial]:
    trials = []
    for path, of in known.items():
        for group in twins(of, least):
            channels = [twin.channel for twin in group]
            units = tuple(f"{path}:{channel}" for channel in channels)
            listed = ",".join(map(str, channels[:4])) + ("…" if len(channels) > 4 else "")
            alike = min(abs(twin.correlation) for twin in group)
            silent = held(channels, [0.0] * len(channels))
            trials.append(_Trial(f"{path}:{listed} silenced", units, model.edited({path: silent})))
            name = f"{path}:{listed} from :{group[0].source} (ρ {alike:.2f})"
            trials.append(_Trial(name, units, model.edited({path: told(group)})))
    return trials


@dataclass(frozen=True)
class _Answers:
    """What the pictures are, and what the network and each trial took them for."""

    truth: NDArray[np.int64]
    intact: NDArray[np.int64]
    trials: tuple[NDArray[np.int64], ...]
    outputs: int


def _answers(source: ImageLoader, trials: Sequence[_Trial], progress: Progress) -> _Answers:
    labels: NDArray[np.int64] | None = None
    models = [source.model, *(trial.model for trial in trials)]
    seen: list[NDArray[np.int64]] = []
    given: list[list[NDArray[np.int64]]] = [[] for _ in models]
    outputs = 0
    for indices, batch in source.batches(progress):
        for place, model in enumerate(models):
            scores = model.logits(batch)
            if labels is None:
                outputs = class_count(scores, model)
                labels = match_labels(model, source.dataset, outputs, "ablation")
            given[place].append(scores.argmax(1).cpu().numpy())
        assert labels is not None
        seen.append(labels[indices])
    if not seen:
        raise UsageError(f"No picture of {source.dataset.name!r} could be read")
    intact, *others = [np.concatenate(one) for one in given]
    return _Answers(np.concatenate(seen), intact, tuple(others), outputs)


def _measured(
    source: ImageLoader,
    trials: Sequence[_Trial],
    fill: str,
    least: float | None,
    progress: Progress,
) -> Ablation:
    found = _answers(source, trials, progress)
    truth, before, outputs = found.truth, found.intact, found.outputs
    losses = tuple(
        _loss(trial.name, trial.units, truth, one, before, outputs)
        for trial, one in zip(trials, found.trials, strict=True)
    )
    none = f"no channel follows another one with a correlation of {least} or more"
    return Ablation(
        model=source.model.title,
        pictures=source.describe(),
        fill="set to 0, or computed from the channel they follow" if least is not None else fill,
        classes=tuple(source.model.class_name(k) for k in range(outputs)),
        counts=np.bincount(truth, minlength=outputs).astype(np.int64),
        intact=_loss("intact", (), truth, before, before, outputs),
        losses=losses,
        note=none if least is not None and not losses else "",
    )


def _loss(
    name: str,
    units: tuple[str, ...],
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    before: NDArray[np.int64],
    outputs: int,
) -> Loss:
    right = answers == truth
    counts = np.bincount(truth, minlength=outputs)
    hits = np.bincount(truth, weights=right, minlength=outputs)
    by_class = np.divide(hits, counts, out=np.full(outputs, np.nan), where=counts > 0)
    return Loss(name, units, float(right.mean()), by_class, float((answers != before).mean()))
