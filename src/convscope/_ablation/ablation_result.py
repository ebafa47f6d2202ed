"""What ``ablate`` returns: accuracy drops as numbers, sentences and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._plot import Section, Sheet, Theme
from convscope._plot.curves import cell_tiles

_MAX_ROWS = 40
_MIN_DROP = 0.005  # of a class's accuracy, to be mentioned


@dataclass(frozen=True, eq=False)
class AblationEffect:
    """Accuracy with some channels ablated.

    Attributes:
        name: The intervention, in words.
        units: Addresses of the ablated channels.
        accuracy: Overall, 0…1.
        class_accuracy: Of each class, ``(classes,)``; NaN for a class without images.
        changed_predictions: Share of images whose prediction differs from the intact network's.
    """

    name: str
    units: tuple[str, ...]
    accuracy: float
    class_accuracy: NDArray[np.float64]
    changed_predictions: float


@dataclass(frozen=True, eq=False)
class AblationResult:
    """Accuracy of a classifier with and without some of its channels.

    Attributes:
        model: The model's title.
        images: Number and name of the images, in words.
        fill: What ablated channels are set to, in words.
        classes: Names of the classes.
        counts: Number of images of each class, ``(classes,)``.
        intact: Accuracy without any intervention.
        effects: One per intervention.
        note: Why there is no effect, where there is none.
    """

    model: str
    images: str
    fill: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    intact: AblationEffect
    effects: tuple[AblationEffect, ...]
    note: str = ""

    def accuracy_drop(self, effect: AblationEffect) -> float:
        """Intact accuracy minus accuracy after an intervention: 0.1 is ten percentage points."""
        return self.intact.accuracy - effect.accuracy

    def class_accuracy_drop(self, effect: AblationEffect) -> NDArray[np.float64]:
        """The accuracy drop of each class, ``(classes,)``; NaN for a class without images."""
        return self.intact.class_accuracy - effect.class_accuracy

    @property
    def ranked(self) -> list[AblationEffect]:
        """All effects, the largest accuracy drop first."""
        return sorted(self.effects, key=lambda effect: -self.accuracy_drop(effect))

    def sentence(self, effect: AblationEffect | None = None) -> str:
        """Summarize an effect in one line.

        Args:
            effect: By default the one of the largest accuracy drop.

        Returns:
            The line; the note, where there is no effect.
        """
        if not self.effects:
            return self.note
        effect = effect or self.ranked[0]
        return (
            f"{effect.name}: accuracy {self.intact.accuracy:.1%} → {effect.accuracy:.1%}, "
            f"{effect.changed_predictions:.1%} of the predictions change; "
            f"{self._affected_classes(effect)}"
        )

    def _affected_classes(self, effect: AblationEffect) -> str:
        drops = np.nan_to_num(self.class_accuracy_drop(effect))
        affected = int((drops > _MIN_DROP).sum())
        if not affected:
            return "no class loses accuracy"
        first = int(drops.argmax())
        before, after = self.intact.class_accuracy[first], effect.class_accuracy[first]
        named = f"{self.classes[first]} ({before:.0%} → {after:.0%})"
        if affected == 1:
            return f"only one class loses accuracy, {named}"
        return f"{affected} classes lose accuracy, most of all {named}"

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Draw a matrix: a row per intervention, a column per class, accuracy changes as colors.

        Args:
            theme: ``light`` or ``dark``.

        Returns:
            The figure.
        """
        shown = self.ranked[:_MAX_ROWS]
        used = np.flatnonzero(self.counts)
        by_class = np.stack([-self.class_accuracy_drop(effect)[used] for effect in shown])
        overall = np.array([-self.accuracy_drop(effect) for effect in shown])
        cells = np.concatenate([overall[:, None], by_class], 1).astype(np.float32)
        limit = float(np.nanmax(np.abs(cells))) or 1.0
        tiles = cell_tiles(cells, low=-limit, high=limit, signed=True, wide=3)
        heads = ("all", *(self.classes[k] for k in used))
        rows = tuple(effect.name for effect in shown)
        return Sheet(
            f"{self.model} · accuracy drop when channels are ablated",
            tuple(self._lines(len(shown))),
            (Section("", tuple(tiles), len(heads), rows, heads),),
            cmap="signed",
            theme=theme,
            noun="cell",
        )

    def _lines(self, shown: int) -> list[str]:
        total = len(self.effects)
        some = f"the {shown} largest accuracy drops of {total} · " if shown < total else ""
        lines = [
            f"model {self.model} · {self.images} · intact accuracy {self.intact.accuracy:.1%}",
            f"{some}rows: ablated channels ({self.fill}); columns: classes; color: change in "
            "accuracy, −1 = 100 percentage points less",
            self.sentence(),
        ]
        return [*lines, *([self.note] if self.note else [])]

    def save(self, path: str | Path, *, theme: Theme = "light") -> Path:
        """Write the figure.

        Args:
            path: The file; its ending decides the format.
            theme: ``light`` or ``dark``.

        Returns:
            The path.
        """
        return self.sheet(theme=theme).save(path)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "model": self.model,
            "images": self.images,
            "fill": self.fill,
            "note": self.note,
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
            "intact": _effect_to_dict(self.intact),
            "effects": [_effect_to_dict(effect) for effect in self.effects],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"AblationResult({self.sentence()})"


def _effect_to_dict(effect: AblationEffect) -> dict[str, Any]:
    return {
        "name": effect.name,
        "units": list(effect.units),
        "accuracy": effect.accuracy,
        "class_accuracy": [
            None if np.isnan(value) else round(float(value), 6) for value in effect.class_accuracy
        ],
        "changed_predictions": effect.changed_predictions,
    }
