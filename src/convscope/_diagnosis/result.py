"""What a diagnosis says, as numbers and sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._diagnosis.figures import LEAST, Calibration, Telling, calibration, telling
from convscope._diagnosis.groups import Group, groups
from convscope._diagnosis.observed import Observed, observe
from convscope._loading import ImageLoader, Progress, open_images
from convscope._models import load

FEW = 5  # pictures: a class of fewer is not ranked among others


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Where a classifier fails.

    - ``confusion``: ``(classes, classes)`` counts, true classes down, answers across
    - ``calibration``; ``telling``: by true class, the channels that differ between its right and
      its wrong answers; ``groups``: errors that lie together
    """

    feed: ImageLoader
    seen: Observed
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    calibration: Calibration
    telling: dict[int, list[Telling]]
    groups: tuple[Group, ...]

    @property
    def accuracy(self) -> float:
        return float(1 - self.seen.wrong.mean())

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of each class's pictures that are recognized; NaN for none."""
        return _share(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """The share of each class's answers that are right; NaN for none."""
        return _share(np.diag(self.confusion), self.confusion.sum(0))

    def worst(self, count: int) -> list[int]:
        """Rows of the most confidently wrong pictures."""
        rows = np.flatnonzero(self.seen.wrong)
        order = np.argsort(-self.seen.confidence[rows], kind="stable")
        return [int(row) for row in rows[order][:count]]

    def pairs(self) -> list[tuple[int, int, int]]:
        """Confusions (true, answer, count), the commonest first."""
        off = self.confusion - np.diag(np.diag(self.confusion))
        rows, columns = np.nonzero(off)
        found = [(int(r), int(c), int(off[r, c])) for r, c in zip(rows, columns, strict=True)]
        return sorted(found, key=lambda one: -one[2])

    def sentences(self) -> list[str]:
        """What was found, for a reader in a hurry."""
        errors, found = int(self.seen.wrong.sum()), self.calibration
        lines = [
            f"{self.feed.model.title} takes {self.accuracy:.1%} of {len(self.seen.labels):,} "
            f"pictures for what they are; {errors:,} are wrong."
        ]
        known = np.flatnonzero(self.confusion.sum(1) >= FEW)
        if len(known) > 1:
            low, high = (known[int(f(self.recall[known]))] for f in (np.argmin, np.argmax))
            lines[0] += (
                f" Best is {self.classes[high]} ({self.recall[high]:.0%}), worst "
                f"{self.classes[low]} ({self.recall[low]:.0%})."
            )
        sure, right = float(self.seen.confidence.mean()), self.accuracy
        how = "over" if sure > right else "under"
        lines.append(
            f"It is {how}-confident by {abs(sure - right):.1%}: mean confidence {sure:.1%}, "
            f"calibration error {found.error:.3f}."
        )
        return lines

    def suggestions(self) -> list[str]:
        """What follows from the figures, the weightiest first."""
        return list(_suggestions(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        ids, names = self.feed.dataset.ids, self.classes
        return {
            "model": self.feed.model.title,
            "pictures": self.feed.describe(),
            "accuracy": self.accuracy,
            "classes": list(names),
            "recall": [_number(v) for v in self.recall],
            "precision": [_number(v) for v in self.precision],
            "confusion": self.confusion.tolist(),
            "calibration": {
                "error": self.calibration.error,
                "after": self.calibration.after,
                "temperature": self.calibration.temperature,
            },
            "worst": [
                {
                    "id": ids[int(self.seen.indices[row])],
                    "label": names[self.seen.labels[row]],
                    "answer": names[self.seen.answers[row]],
                    "confidence": float(self.seen.confidence[row]),
                }
                for row in self.worst(24)
            ],
            "channels": {
                names[k]: [_told(one) for one in found] for k, found in self.telling.items()
            },
            "groups": [
                {
                    "label": names[g.label],
                    "answer": names[g.answer],
                    "pure": g.pure,
                    "rate": g.rate,
                    "confidence": g.confidence,
                    "ids": [ids[int(self.seen.indices[row])] for row in g.members],
                    "channels": [_told(one) for one in g.channels],
                }
                for g in self.groups
            ],
            "suggestions": self.suggestions(),
            "damaged": self.feed.damaged,
        }


def examine(
    model: Any,
    images: Any,
    layers: str | Iterable[str] | None = None,
    *,
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, of: None,
) -> Diagnosis:
    """Run a classifier over labeled pictures once, and see where it fails.

    Raises ``DatasetError`` for unlabeled data and for classes that do not match.
    """
    loaded = load(model)
    chosen = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    source = open_images(loaded, images, first=first, size=size)
    seen = observe(source, [layer for layer in chosen if layer.shape], progress)
    outputs = seen.chances.shape[1]
    confusion = np.zeros((outputs, outputs), np.int64)
    np.add.at(confusion, (seen.labels, seen.answers), 1)
    return Diagnosis(
        source,
        seen,
        tuple(loaded.class_name(k) for k in range(outputs)),
        confusion,
        calibration(seen),
        _by_class(seen),
        tuple(groups(seen)),
    )


def _by_class(seen: Observed) -> dict[int, list[Telling]]:
    """For each class with enough of both, what tells its errors from its successes."""
    found = {}
    classes = [int(k) for k in np.unique(seen.labels)]
    sides = {
        k: ((seen.labels == k) & seen.wrong, (seen.labels == k) & ~seen.wrong) for k in classes
    }
    fit = {k: s for k, s in sides.items() if min(s[0].sum(), s[1].sum()) >= LEAST}
    channels = sum(values.shape[1] for values in seen.pooled.values())
    for k, (wrong, right) in fit.items():
        listed = telling(seen.pooled, wrong, right, channels * len(fit))
        if listed:
            found[k] = listed
    return found


def _suggestions(found: Diagnosis) -> Iterable[str]:
    if not found.seen.wrong.any():
        yield "There are no errors to learn from here: try harder pictures."
        return
    yield from _of_labels(found)
    yield from _of_confusions(found)
    yield from _of_calibration(found)
    yield from _of_channels(found)


def _of_labels(found: Diagnosis) -> Iterable[str]:
    names = found.classes
    for group in found.groups:
        count = len(group.members)
        if group.rate >= 0.75 and group.pure >= 0.75 and group.confidence >= 0.75:
            yield (
                f"Check the labels of {count} pictures called {names[group.label]}: they lie "
                f"together, {group.rate:.0%} of what lies there is wrong, and the network is sure "
                f"({group.confidence:.0%}) that they are {names[group.answer]}. If the labels are "
                "right, it lacks training pictures of this kind."
            )


def _of_confusions(found: Diagnosis) -> Iterable[str]:
    names, errors = found.classes, int(found.seen.wrong.sum())
    both = {
        (a, b): n + int(found.confusion[b, a])
        for a, b, n in found.pairs()
        if n > found.confusion[b, a] or (n == found.confusion[b, a] and a < b)
    }
    for (label, answer), count in sorted(both.items(), key=lambda one: -one[1])[:2]:
        if count >= max(5, 0.1 * errors):
            there = int(found.confusion[label, answer])
            yield (
                f"{names[label]} is taken for {names[answer]} {there} times, and {count - there} "
                f"the other way: {count / errors:.0%} of all errors. More pictures that tell the "
                "two apart would help most."
            )


def _of_calibration(found: Diagnosis) -> Iterable[str]:
    mend = found.calibration
    if mend.error > 0.03 and mend.after < 0.7 * mend.error:
        yield (
            f"Divide the scores by {mend.temperature:.2f} before the softmax: on these pictures "
            f"the calibration error falls from {mend.error:.3f} to {mend.after:.3f}, the answers "
            "stay. Fit the number on pictures kept apart for it."
        )


def _of_channels(found: Diagnosis) -> Iterable[str]:
    for label, listed in list(found.telling.items())[:3]:
        one = listed[0]
        side = "higher" if one.effect > 0 else "lower"
        yield (
            f"Look at `{one.address}`: it is {abs(one.effect):.1f} standard deviations {side} on "
            f"{found.classes[label]} pictures that are missed than on those that are recognized."
        )


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(
        part, whole, out=np.full(len(part), np.nan), where=whole > 0
    )
    return shares


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _told(one: Telling) -> dict[str, Any]:
    return {"address": one.address, "effect": round(one.effect, 4), "chance": one.chance}
