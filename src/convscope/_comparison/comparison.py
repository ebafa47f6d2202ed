"""``compare``, and its result as sentences and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._comparison.responses import (
    LayerPair,
    Responses,
    layer_similarity,
    pair_layers,
    record_responses,
)
from convscope._data import Dataset, DatasetLike
from convscope._errors import UsageError
from convscope._images import IMAGE_SUFFIXES, ImageLike, decode, is_image
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress, open_images
from convscope._models import Model, ModelLike, load
from convscope._plot import Section, Sheet, Theme, Tile, image_tile, map_tiles
from convscope._plot.curves import cell_tiles
from convscope._plot.text import number

_SHOWN_CHANNELS = 8
_SHOWN_IMAGES = 3


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two networks on the same images.

    Attributes:
        a: The responses of the first network.
        b: The responses of the second network.
        loader: The images.
        cka: Linear CKA ``(layers of a, layers of b)``; ``None`` for fewer than four images.
        pairs: Layers of both networks, compared channel by channel.
        labels: The images' labels as names; empty where they are not labeled with classes that
            both networks have.
    """

    a: Responses
    b: Responses
    loader: ImageLoader
    cka: NDArray[np.float64] | None
    pairs: tuple[LayerPair, ...]
    labels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two networks, made different where they are equal."""
        one, other = self.a.model.title, self.b.model.title
        short = one.rpartition("/")[2], other.rpartition("/")[2]
        if Path(one).suffix and Path(other).suffix and short[0] != short[1]:
            return short  # files of different names need no folders
        return (one, other) if one != other else (f"{one} (A)", f"{other} (B)")

    @property
    def changed(self) -> list[int]:
        """Rows of the images for which the networks predict different classes."""
        rows = range(len(self.a.probabilities))
        return [row for row in rows if self.a.prediction(row) != self.b.prediction(row)]

    def sentences(self) -> list[str]:
        """Return what changed in predictions, layers and channels.

        Returns:
            One to three sentences.
        """
        found = (self._describe_predictions(), self._describe_layers(), self._describe_channels())
        return [sentence for sentence in found if sentence]

    def _describe_predictions(self) -> str:
        count, (first, second) = len(self.a.probabilities), self.names
        if count == 1:
            return (
                f"{first}: {self.a.prediction(0)} ({self.a.confidence(0):.0%}); "
                f"{second}: {self.b.prediction(0)} ({self.b.confidence(0):.0%})"
            )
        text = (
            f"{first} and {second} predict different classes for {len(self.changed):,} of "
            f"{count:,} images"
        )
        if not self.labels:
            return text
        before, after = (
            sum(side.prediction(row) == label for row, label in enumerate(self.labels))
            for side in (self.a, self.b)
        )
        fixed = sum(self.b.prediction(row) == self.labels[row] for row in self.changed)
        regressed = sum(self.a.prediction(row) == self.labels[row] for row in self.changed)
        return (
            f"{text}: {fixed:,} fixed, {regressed:,} regressed; accuracy {before / count:.1%} → "
            f"{after / count:.1%}"
        )

    def _describe_layers(self) -> str:
        if self.cka is None or not self.pairs:
            return ""
        rows, columns = list(self.a.pooled), list(self.b.pooled)
        values = [
            float(self.cka[rows.index(pair.a.path), columns.index(pair.b.path)])
            for pair in self.pairs
        ]
        lowest = int(np.nanargmin(values)) if np.isfinite(values).any() else 0
        pair = self.pairs[lowest]
        where = pair.a.path if pair.a.path == pair.b.path else f"{pair.a.path} and {pair.b.path}"
        return (
            f"layers are least similar at {where} (CKA {values[lowest]:.3f}; mean "
            f"{np.nanmean(values):.3f})"
        )

    def _describe_channels(self) -> str:
        permuted = next((p for p in self.pairs if 2 * p.permuted > p.a.channels), None)
        if permuted:
            return (
                f"{permuted.permuted} of {permuted.a.channels} channels of {permuted.a.path} are "
                "permuted: each matches a channel of another index"
            )
        first = next((pair for pair in self.pairs if pair.changed_channels), None)
        if first is None:
            same = all(pair.change is not None for pair in self.pairs)
            return "no compared channel responds differently" if same else ""
        changed = first.changed_channels
        named = ", ".join(f"{first.a.path}:{k}" for k in changed[:5])
        return (
            f"the first layer that differs is {first.a.path}: {len(changed)} of "
            f"{first.a.channels} channels ({named})"
        )

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Return a figure of the similarity of all layers; for few images, the maps instead.

        Args:
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The figure.
        """
        if self.cka is None:
            return self.maps(theme=theme)
        lines = (
            f"A {self.names[0]} · B {self.names[1]} · {self.loader.describe()}",
            *self.sentences(),
            "rows: layers of A, columns: layers of B; 1: equal up to rotation and scale",
        )
        rows, columns = tuple(self.a.pooled), tuple(self.b.pooled)
        tiles = tuple(cell_tiles(self.cka, low=0.0, high=1.0))
        section = Section("linear CKA", tiles, len(columns), rows, columns)
        title = f"{self.names[0]} against {self.names[1]}"
        return Sheet(title, lines, (section,), theme=theme, noun="cell")

    def maps(
        self, row: int = 0, *, max_channels: int = _SHOWN_CHANNELS, theme: Theme = "light"
    ) -> Sheet:
        """Return a figure of one image's maps: A, B and B − A on one scale.

        Args:
            row: The image's row.
            max_channels: The largest number of channels of each layer, the most changed first.
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The figure.
        """
        index = int(self.loader.indices[row])
        image, name = self.loader.dataset.image(index), str(self.loader.dataset.ids[index])
        preprocessed = self.a.model.preprocessed(
            self.a.model.prepare(image, size=self.loader.size)
        )[0]
        sections = [Section("input", (image_tile(preprocessed, "preprocessed for A"),))]
        for pair in self.pairs:
            if pair.a.is_map and pair.b.is_map:
                one = self._activations(self.a, pair.a, image)
                other = self._activations(self.b, pair.b, image)
                sections += _pair_sections(pair, one, other, max_channels)
        lines = (
            f"A {self.names[0]} · B {self.names[1]} · input {name}",
            *self.sentences(),
            *self._explain_maps(max_channels, drawn=len(sections) > 1),
        )
        title = f"{self.names[0]} against {self.names[1]} · maps of {name}"
        return Sheet(title, lines, tuple(sections), cmap="signed", theme=theme, cell=88)

    def _activations(self, side: Responses, layer: Layer, image: Any) -> NDArray[np.float32]:
        batch = side.model.prepare(image, size=self.loader.size)
        return np.asarray(side.model.activations(batch, [layer.path])[layer.path][0].cpu().numpy())

    def _explain_maps(self, count: int, drawn: bool) -> list[str]:
        if not drawn and self.pairs:
            return ["no layer compared has maps in both networks"]
        if not drawn:
            return [
                "too few layers have the same name in both networks, and there are too few images "
                "to pair layers by similarity: give four or more"
            ]
        lines = []
        if any(pair.change is not None for pair in self.pairs):
            lines.append(
                f"for each layer the {count} channels that differ most on this image: A, B, B − A, "
                "on one scale around 0"
            )
        if any(pair.change is None for pair in self.pairs):
            lines.append(
                f"for layers that are not the same, the {count} channels that match best over all "
                "images, r: their correlation; each network on its own scale around 0"
            )
        return lines

    def save(self, path: str | Path, *, theme: Theme = "light") -> list[Path]:
        """Write the figure of the layers; into a folder, also the maps of the changed images.

        Args:
            path: A file, or a folder for the figure and the maps of the three images whose
                confidence changed most among those with changed predictions.
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The files written.
        """
        path = Path(path)
        if path.suffix:
            return [self.sheet(theme=theme).save(path)]
        change = {row: abs(self.a.confidence(row) - self.b.confidence(row)) for row in self.changed}
        rows = sorted(change, key=lambda row: -change[row])[:_SHOWN_IMAGES] or [0]
        return [
            self.sheet(theme=theme).save(path / "comparison.png"),
            *(self.maps(row, theme=theme).save(path / f"maps-{row}.png") for row in rows),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the maps, for JSON.

        Returns:
            A dictionary of texts, numbers, lists and dictionaries.
        """
        ids, indices = self.loader.dataset.ids, self.loader.indices
        similarity = {
            "a": list(self.a.pooled),
            "b": list(self.b.pooled),
            "values": []
            if self.cka is None
            else np.round(np.nan_to_num(self.cka, nan=-1), 5).tolist(),
        }
        return {
            "models": list(self.names),
            "images": self.loader.describe(),
            "sentences": self.sentences(),
            "changed": [
                {
                    "id": str(ids[int(indices[row])]),
                    "a": self.a.prediction(row),
                    "b": self.b.prediction(row),
                }
                for row in self.changed
            ],
            "cka": None if self.cka is None else similarity,
            "pairs": [pair.to_dict() for pair in self.pairs],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"Comparison({'; '.join(self.sentences())})"


def _pair_sections(
    pair: LayerPair, one: NDArray[np.float32], other: NDArray[np.float32], count: int
) -> list[Section]:
    if pair.change is None or one.shape != other.shape:
        return _matched_sections(pair, one, other, count)
    difference = other - one
    order = np.argsort(-np.abs(difference).max((1, 2)), kind="stable")[:count]
    shown = (one[order], other[order], difference)
    limit = float(max(np.abs(values).max() for values in shown)) or 1.0
    tiles: list[Tile] = []
    for name, values in (("A", one), ("B", other), ("B − A", difference)):
        labels = [f"{name} {int(k)}" for k in order]
        tiles += map_tiles(
            values, channels=order.tolist(), range=(-limit, limit), signed=True, labels=labels
        )
    largest = number(float(np.abs(difference).max()))
    return [Section(f"{pair.a.path} · largest difference {largest}", tuple(tiles), len(order))]


def _matched_sections(
    pair: LayerPair, one: NDArray[np.float32], other: NDArray[np.float32], count: int
) -> list[Section]:
    """The channels of two different layers that match best, each network on its own scale."""
    if pair.match is None:
        return []
    best = np.argsort(-pair.match.correlations, kind="stable")[:count]
    tiles: list[Tile] = []
    headings = []
    for name, values, channels, path in (
        ("A", one, pair.match.left[best].tolist(), pair.a.path),
        ("B", other, pair.match.right[best].tolist(), pair.b.path),
    ):
        limit = float(np.abs(values[channels]).max()) or 1.0
        labels = [f"{name} {k}" for k in channels]
        if name == "B":
            correlations = pair.match.correlations[best]
            labels = [f"{x} · r {r:.2f}" for x, r in zip(labels, correlations, strict=True)]
        tiles += map_tiles(
            values, channels=channels, range=(-limit, limit), signed=True, labels=labels
        )
        headings.append(f"{name} {path}, {number(-limit)}…{number(limit)}")
    return [Section(" · ".join(headings), tuple(tiles), len(best))]


def compare(
    a: ModelLike,
    b: ModelLike,
    images: ImageLike | DatasetLike,
    layers: str | Iterable[str] | None = None,
    *,
    first: int | None = 256,
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Compare two networks on the same images: predictions, layers, channels, maps.

    Layers are compared by linear CKA (Kornblith et al., ICML 2019), channels are matched by
    correlation (Li et al., ICLR 2016). Each network uses its own preprocessing.

    Args:
        a: A model, or anything ``load`` takes.
        b: The model to compare it with; it must take the same number of input channels.
        images: One image, or anything ``open_dataset`` takes.
        layers: Layers of both networks; by default a few through the depth of each.
        first: Number of images, spread evenly over the dataset; ``None`` for all.
        size: Input size in pixels, where it is not the models' own.
        progress: Called with the number of images done and the number in all, for each network.

    Returns:
        The comparison: ``.sentences()``, ``.sheet()``, ``.maps(row)`` and ``.save(path)``.

    Raises:
        UsageError: The networks take different numbers of channels, or no image could be read.
    """
    one, other = load(a), load(b)
    if one.input.channels != other.input.channels:
        raise UsageError(
            f"{one.name} takes images of {one.input.channels} channels and {other.name} of "
            f"{other.input.channels}. Compare networks that take the same images"
        )
    loader = open_images(one, _as_dataset(images), first=first, size=size)
    left = record_responses(one, loader, _select(one, layers), progress)
    right = record_responses(other, loader, _select(other, layers), progress)
    similarity = layer_similarity(left, right)
    pairs = pair_layers(left, right, similarity)
    return Comparison(left, right, loader, similarity, tuple(pairs), _labels(loader, one, other))


def _select(model: Model, layers: str | Iterable[str] | None) -> list[Layer]:
    chosen = model.layers.representative() if layers is None else model.layers.select(layers)
    return [layer for layer in chosen if not layer.refusal]


def _as_dataset(images: Any) -> Any:
    """One image becomes a list of one."""
    if isinstance(images, Dataset):
        return images
    is_file = isinstance(images, (str, Path)) and str(images).lower().endswith(IMAGE_SUFFIXES)
    if is_file or (not isinstance(images, (str, Path)) and is_image(images)):
        return [decode(images).image]
    return images


def _labels(loader: ImageLoader, a: Model, b: Model) -> tuple[str, ...]:
    """Labels by name; empty where there are none, or not of classes that both networks have."""
    data = loader.dataset
    if data.labels is None or loader.damaged:
        return ()
    names = [data.classes[int(data.labels[k])] for k in loader.indices]
    shared = set(a.input.classes) & set(b.input.classes)
    return tuple(names) if set(names) <= shared else ()
