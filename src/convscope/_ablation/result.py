"""What it costs to do without channels: tables, a picture, a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._plot import Section, Sheet, Theme
from convscope._plot.curves import cell_tiles

_ROWS = 40


@dataclass(frozen=True, eq=False)
class Loss:
    """What one intervention costs.

    - ``name``: what was done; ``units``: to which
    - ``accuracy``: overall; ``by_class``: ``(classes,)``, NaN where there is no picture
    - ``changed``: the share of pictures that are taken for another class than before
    """

    name: str
    units: tuple[str, ...]
    accuracy: float
    by_class: NDArray[np.float64]
    changed: float


@dataclass(frozen=True, eq=False)
class Ablation:
    """Accuracy with and without some channels.

    - ``intact``: the network as it is; ``losses``: one for each intervention
    - ``classes``: names; ``counts``: pictures of each
    """

    model: str
    pictures: str
    fill: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    intact: Loss
    losses: tuple[Loss, ...]
    note: str = ""

    def cost(self, loss: Loss) -> float:
        """Accuracy lost, overall: 0.1 is ten points."""
        return self.intact.accuracy - loss.accuracy

    def cost_by_class(self, loss: Loss) -> NDArray[np.float64]:
        """Accuracy lost for each class."""
        return self.intact.by_class - loss.by_class

    @property
    def worst(self) -> list[Loss]:
        """All interventions, the dearest first."""
        return sorted(self.losses, key=lambda loss: -self.cost(loss))

    def sentence(self, loss: Loss | None = None) -> str:
        """What an intervention costs, in one line; by default the dearest."""
        if not self.losses:
            return self.note
        one = loss or self.worst[0]
        lost = np.nan_to_num(self.cost_by_class(one))
        head = (
            f"{one.name}: accuracy {self.intact.accuracy:.1%} → {one.accuracy:.1%}, "
            f"{one.changed:.1%} of the answers change"
        )
        hit = np.flatnonzero(lost > 0.005)
        if not len(hit):
            return f"{head}; no class loses"
        first = int(lost.argmax())
        was, now = self.intact.by_class[first], one.by_class[first]
        named = f"{self.classes[first]} ({was:.0%} → {now:.0%})"
        if len(hit) == 1:
            return f"{head}; it costs one class only, {named}"
        return f"{head}; {len(hit)} classes lose, {named} most"

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """A matrix: an intervention a row, a class a column, the change in accuracy as color."""
        shown = self.worst[:_ROWS]
        used = np.flatnonzero(self.counts)
        values = np.stack([-self.cost_by_class(one)[used] for one in shown])
        overall = np.array([-self.cost(one) for one in shown])
        cells = np.concatenate([overall[:, None], values], 1).astype(np.float32)
        reach = float(np.nanmax(np.abs(cells))) or 1.0
        tiles = cell_tiles(cells, low=-reach, high=reach, signed=True, wide=3)
        heads = ("all", *(self.classes[k] for k in used))
        section = Section("", tuple(tiles), len(heads), tuple(one.name for one in shown), heads)
        return Sheet(
            f"{self.model} · what it costs to do without",
            tuple(self._lines(len(shown))),
            (section,),
            cmap="signed",
            theme=theme,
            noun="cell",
        )

    def _lines(self, shown: int) -> list[str]:
        more = f"the dearest {shown} of {len(self.losses)} · " if shown < len(self.losses) else ""
        lines = [
            f"model {self.model} · {self.pictures} · intact accuracy {self.intact.accuracy:.1%}",
            f"{more}rows: what was done ({self.fill}); columns: classes; color: change in "
            "accuracy, 1 = 100 points",
            self.sentence(),
        ]
        return [*lines, *([self.note] if self.note else [])]

    def save(self, path: str | Path, *, theme: Theme = "light") -> Path:
        """Write the picture."""
        return self.sheet(theme=theme).save(path)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "model": self.model,
            "pictures": self.pictures,
            "fill": self.fill,
            "note": self.note,
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
            "intact": _as_dict(self.intact),
            "losses": [_as_dict(one) for one in self.losses],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"Ablation({self.sentence()})"


def _as_dict(one: Loss) -> dict[str, Any]:
    by_class = [None if np.isnan(v) else round(float(v), 6) for v in one.by_class]
    return {
        "name": one.name,
        "units": list(one.units),
        "accuracy": one.accuracy,
        "by_class": by_class,
        "changed": one.changed,
    }
