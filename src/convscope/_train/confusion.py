"""Which classes a network takes for which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope._plot import Section, Sheet, Theme, Tile, quantize
from convscope._plot.colors import LEVELS
from convscope._plot.text import mask, width
from convscope._train.pictures import Normalize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHEET = 1000  # pixels across, for the cells of all classes
_ROW = 30
_MOST = 100  # classes


@dataclass(frozen=True, eq=False)
class Confusion:
    """The confusion matrix.

    - ``counts``: ``(classes, classes)``; ``counts[i, j]`` pictures of class i were taken for j.
    - ``classes``: their names; ``model``: whose answers these are.
    """

    counts: NDArray[np.int64]
    classes: tuple[str, ...]
    model: str = "model"

    @property
    def shares(self) -> NDArray[np.float64]:
        """The counts as shares of each row, 0 to 1; a class without pictures has a row of 0."""
        totals = self.counts.sum(1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1), np.float64)

    @property
    def accuracy(self) -> float:
        """Pictures taken for what they are, of all."""
        return int(np.trace(self.counts)) / int(self.counts.sum())

    def worst(self, count: int = 5) -> list[tuple[str, str, float]]:
        """The most frequent mistakes: ``[(class, taken for, share of the class), …]``."""
        shares = self.shares
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")[:count]
        pairs = [divmod(int(place), len(self.classes)) for place in order]
        return [
            (self.classes[i], self.classes[j], float(shares[i, j]))
            for i, j in pairs
            if shares[i, j]
        ]

    @property
    def collapsed(self) -> str:
        """The one class that everything is taken for; empty where there are several."""
        taken = np.flatnonzero(self.counts.sum(0))
        return self.classes[int(taken[0])] if len(taken) == 1 and len(self.classes) > 1 else ""

    def sentence(self, count: int = 3) -> str:
        """``most confused: cat → dog 12 %, …``."""
        if self.collapsed:
            return f"it takes every picture for {self.collapsed!r}: try a lower --rate"
        worst = [
            f"{true} → {taken} {_percent(100 * part)} %" for true, taken, part in self.worst(count)
        ]
        return f"most confused: {', '.join(worst)}" if worst else "no class was taken for another"

    def grid(self, *, theme: Theme = "light") -> Sheet:
        """The matrix as a picture: a row for each class, what it was taken for in columns.

        Colors span the mistakes; where cells are large enough, each says its per cent. Of more
        than 100 classes, those with the most mistakes are shown.
        """
        chosen = self._busiest()
        shares = 100 * self.shares[np.ix_(chosen, chosen)]
        most = float(shares[~np.eye(len(chosen), dtype=bool)].max(initial=0.0)) or 100.0
        rows, heads, across = self._names(chosen)
        colors = quantize(shares.reshape(-1, 1, 1), (0.0, most)).indices[:, 0, 0]
        tiles = [
            _cell(int(color), float(value), most, across)
            for color, value in zip(colors, shares.ravel(), strict=True)
        ]
        section = Section("", tuple(tiles), len(chosen), rows, heads)
        lines = self._lines(len(chosen))
        return Sheet("Confusion matrix", lines, (section,), cmap="magma", theme=theme, noun="cell")

    def plot(self) -> Figure:
        """``grid()`` as a matplotlib ``Figure``."""
        return self.grid().plot()

    def save(self, path: str | Path) -> Path:
        """Write the picture, by the file's ending."""
        return self.grid().save(path)

    def _repr_html_(self) -> str:
        return self.grid()._repr_html_()

    def _busiest(self) -> NDArray[np.intp]:
        """The classes to show: all, or those that have most to do with mistakes."""
        wrong = self.counts * ~np.eye(len(self.counts), dtype=bool)
        order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
        return np.sort(order[:_MOST])

    def _lines(self, shown: int) -> tuple[str, ...]:
        who = f"model {self.model} · accuracy {self.accuracy:.2%} of {self.counts.sum():,} pictures"
        if shown < len(self.classes):
            who += f" · the {shown} of {len(self.classes)} classes with the most mistakes"
        meaning = "rows: a class (its pictures) · columns: what they were taken for · in per cent"
        return who, meaning, self.sentence()

    def _names(self, chosen: NDArray[np.intp]) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """Names of rows and columns (numbers where names are too wide), and the width of a cell."""
        names = [self.classes[k] for k in chosen]
        room = max(3, _SHEET // len(names)) - 2
        widest = max(width(name, "note") for name in names) + 6
        across = min(max(widest, room // 2 + 1), room)  # more than half of the room: shown at 1:1
        totals = self.counts.sum(1)[chosen]
        rows = [f"{name} · {n:,}" for name, n in zip(names, totals, strict=True)]
        if widest <= across:
            return tuple(rows), tuple(names), across
        numbers = tuple(str(k) for k in chosen)
        return tuple(map(" ".join, zip(numbers, rows, strict=True))), numbers, across


def _percent(hundredths: float) -> str:
    """Whole per cent, a decimal below ten; nothing for exactly zero."""
    if not hundredths:
        return ""
    return f"{hundredths:.0f}" if hundredths >= 9.95 else f"{hundredths:.1f}"


def _cell(color: int, value: float, most: float, across: int) -> Tile:
    """A cell with its number, in the end of the color map that stands out from it."""
    down = min(across, _ROW)
    pixels = np.full((down, across), color, np.uint8)
    text = _percent(value)
    ink = mask(text, "label") / 10 if text else np.zeros((0, 0))
    if text and width(text, "label") + 2 <= across and ink.shape[0] <= down:
        y, x = (down - ink.shape[0]) // 2, (across - ink.shape[1]) // 2
        area = pixels[y : y + ink.shape[0], x : x + ink.shape[1]]
        bright = LEVELS - 1 if color < 0.6 * LEVELS else 0
        area[:] = np.rint(color + (bright - color) * ink)
    return Tile(pixels, low=0.0, high=most, least=value, most=value, state="live")


def evaluate(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalize: Normalize,
    batch: int = 500,
) -> float:
    """Accuracy of ``module`` on uint8 ``images`` ``(N, C, H, W)``, 0 to 1, in float32."""
    return int((_answers(module, images, normalize, batch) == labels).sum()) / len(images)


def confuse(
    module: nn.Module, images: Tensor, labels: Tensor, normalize: Normalize, classes: int
) -> NDArray[np.int64]:
    """The counts of the confusion matrix, ``(classes, classes)``."""
    answers = _answers(module, images, normalize)
    pairs = torch.bincount(labels * classes + answers, minlength=classes**2)
    return np.asarray(pairs.reshape(classes, classes).numpy(), np.int64)


def _answers(module: nn.Module, images: Tensor, normalize: Normalize, batch: int = 500) -> Tensor:
    module.eval()
    with torch.inference_mode():
        parts = [
            module(normalize(images[start : start + batch])).argmax(1)
            for start in range(0, len(images), batch)
        ]
    return torch.cat(parts)
