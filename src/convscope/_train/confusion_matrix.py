"""The confusion matrix: counted, in words, and as a figure."""

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
from convscope._train.training_data import Normalize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 1000  # pixels, of the cells of all classes
_ROW_HEIGHT = 30
_MAX_CLASSES = 100
_BATCH = 500


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """A confusion matrix.

    Attributes:
        counts: ``(classes, classes)``: ``counts[i, j]`` images of class i are predicted as j.
        classes: The names of the classes.
        model: The name of the model.
    """

    counts: NDArray[np.int64]
    classes: tuple[str, ...]
    model: str = "model"

    @property
    def shares(self) -> NDArray[np.float64]:
        """The counts as shares of their rows ``(classes, classes)``, 0 where there are none."""
        totals = self.counts.sum(1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1), np.float64)

    @property
    def accuracy(self) -> float:
        """The share of correct predictions, 0 to 1."""
        return int(np.trace(self.counts)) / int(self.counts.sum())

    def most_frequent_confusions(self, limit: int = 5) -> list[tuple[str, str, float]]:
        """Return the most frequent confusions.

        Args:
            limit: The largest number to return.

        Returns:
            ``[(class, predicted class, share of the class), …]``.
        """
        shares = self.shares
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")[:limit]
        pairs = [divmod(int(index), len(self.classes)) for index in order]
        return [
            (self.classes[i], self.classes[j], float(shares[i, j]))
            for i, j in pairs
            if shares[i, j]
        ]

    @property
    def only_prediction(self) -> str:
        """The class that every image is predicted as; empty where there are several."""
        predicted = np.flatnonzero(self.counts.sum(0))
        one = len(predicted) == 1 and len(self.classes) > 1
        return self.classes[int(predicted[0])] if one else ""

    def sentence(self, limit: int = 3) -> str:
        """Return the most frequent confusions in words.

        Args:
            limit: The largest number of confusions to name.

        Returns:
            Such as ``"most frequent confusions: cat predicted as dog 12 %"``.
        """
        if self.only_prediction:
            return f"every image is predicted as {self.only_prediction!r}: try a lower --rate"
        confusions = [
            f"{label} predicted as {prediction} {_percent(100 * share)} %"
            for label, prediction, share in self.most_frequent_confusions(limit)
        ]
        if not confusions:
            return "no image is misclassified"
        return f"most frequent confusions: {', '.join(confusions)}"

    def grid(self, *, theme: Theme = "light") -> Sheet:
        """Return the matrix as a figure: labels in rows, predictions in columns.

        Colors span the confusions, so that the diagonal does not hide them; cells that are large
        enough show their percentage. Of more than 100 classes, those with the most errors are
        shown.

        Args:
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The figure.
        """
        shown = self._classes_with_most_errors()
        shares = 100 * self.shares[np.ix_(shown, shown)]
        highest = float(shares[~np.eye(len(shown), dtype=bool)].max(initial=0.0)) or 100.0
        rows, heads, across = self._headings(shown)
        colors = quantize(shares.reshape(-1, 1, 1), (0.0, highest)).indices[:, 0, 0]
        tiles = [
            _cell(int(color), float(value), highest, across)
            for color, value in zip(colors, shares.ravel(), strict=True)
        ]
        section = Section("", tuple(tiles), len(shown), rows, heads)
        lines = self._lines(len(shown))
        return Sheet("Confusion matrix", lines, (section,), cmap="magma", theme=theme, noun="cell")

    def plot(self) -> Figure:
        """Return ``grid()`` as a matplotlib figure.

        Returns:
            The figure.
        """
        return self.grid().plot()

    def save(self, path: str | Path) -> Path:
        """Write the figure, in the format of the file's ending.

        Args:
            path: The file to write.

        Returns:
            The path.
        """
        return self.grid().save(path)

    def _repr_html_(self) -> str:
        return self.grid()._repr_html_()

    def _classes_with_most_errors(self) -> NDArray[np.intp]:
        """The indices of the classes to show, in their order."""
        wrong = self.counts * ~np.eye(len(self.counts), dtype=bool)
        order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
        return np.sort(order[:_MAX_CLASSES])

    def _lines(self, shown: int) -> tuple[str, ...]:
        model = f"model {self.model} · accuracy {self.accuracy:.2%} on {self.counts.sum():,} images"
        if shown < len(self.classes):
            model += f" · the {shown} of {len(self.classes)} classes with the most errors"
        meaning = "rows: labels (number of images) · columns: predictions · in % of the row"
        return model, meaning, self.sentence()

    def _headings(self, shown: NDArray[np.intp]) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """Headings of rows and columns (numbers where names are too wide), and a cell's width."""
        names = [self.classes[k] for k in shown]
        available = max(3, _WIDTH // len(names)) - 2
        widest = max(width(name, "note") for name in names) + 6
        # a sheet enlarges tiles of less than half of the available width
        across = min(max(widest, available // 2 + 1), available)
        totals = self.counts.sum(1)[shown]
        rows = [f"{name} · {n:,}" for name, n in zip(names, totals, strict=True)]
        if widest <= across:
            return tuple(rows), tuple(names), across
        numbers = tuple(str(k) for k in shown)
        return tuple(map(" ".join, zip(numbers, rows, strict=True))), numbers, across


def _percent(value: float) -> str:
    """Whole per cent, with a decimal below ten; nothing for exactly zero."""
    if not value:
        return ""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _cell(color: int, value: float, highest: float, across: int) -> Tile:
    """A cell with its number, in the end of the color map that contrasts with it."""
    down = min(across, _ROW_HEIGHT)
    pixels = np.full((down, across), color, np.uint8)
    text = _percent(value)
    ink = mask(text, "label") / 10 if text else np.zeros((0, 0))
    if text and width(text, "label") + 2 <= across and ink.shape[0] <= down:
        y, x = (down - ink.shape[0]) // 2, (across - ink.shape[1]) // 2
        area = pixels[y : y + ink.shape[0], x : x + ink.shape[1]]
        bright = LEVELS - 1 if color < 0.6 * LEVELS else 0
        area[:] = np.rint(color + (bright - color) * ink)
    return Tile(pixels, low=0.0, high=highest, minimum=value, maximum=value, state="live")


def count_predictions(
    module: nn.Module, images: Tensor, labels: Tensor, normalize: Normalize, classes: int
) -> NDArray[np.int64]:
    """Count the predictions on uint8 images ``(N, C, H, W)``: ``(classes, classes)``."""
    module.eval()
    with torch.inference_mode():
        batches = [
            module(normalize(images[start : start + _BATCH])).argmax(1)
            for start in range(0, len(images), _BATCH)
        ]
    pairs = labels * classes + torch.cat(batches)
    counts = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return np.asarray(counts.numpy(), np.int64)
