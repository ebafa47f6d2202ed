"""One unit of an atlas: a channel of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convscope._atlas.exemplars import Exemplar, Exemplars
from convscope._atlas.layer import LayerAtlas
from convscope._errors import UsageError

if TYPE_CHECKING:
    from convscope._plot import Sheet

By = Literal["mean", "peak"]


@dataclass(frozen=True, eq=False)
class Unit:
    """What a scan found of one channel."""

    layer: LayerAtlas
    channel: int

    @property
    def address(self) -> str:
        return f"{self.layer.path}:{self.channel}"

    def __repr__(self) -> str:
        return (
            f"Unit({self.address}, mean {self.mean:.4g}, {self.minimum:.4g} to "
            f"{self.maximum:.4g}, {self.active:.1%} above 0)"
        )

    def top(self, by: By = "mean", first: int | None = None) -> Exemplars:
        """The images with the highest mean (or peak) of the map, best first."""
        return self._listed("top", by, first)

    def bottom(self, by: By = "mean", first: int | None = None) -> Exemplars:
        """Those with the lowest, lowest first. After a ReLU most often all are 0: see ``ties``."""
        return self._listed("bottom", by, first)

    def _listed(self, end: str, by: str, first: int | None) -> Exemplars:
        if by not in ("mean", "peak"):
            raise UsageError(f"Images are ranked by 'mean' or 'peak', not {by!r}")
        name, c = f"{end}.{by}", self.channel
        score, image, place = (
            self.layer.array(f"{name}.{part}")[:first, c] for part in ("score", "image", "position")
        )
        listed = [
            self._exemplar(k, int(image[k]), float(score[k]), int(place[k]))
            for k in range(len(image))
            if image[k] >= 0
        ]
        whole = self.layer.array(f"{name}.score")[:, c]
        ties = int(self.layer.array(f"{name}.ties")[c])
        if listed and listed[-1].score != whole[np.isfinite(whole) | np.isinf(whole)][-1]:
            ties = int((whole == listed[-1].score).sum())
        words = {"top": "highest", "bottom": "lowest"}[end]
        return Exemplars(listed, ties, f"{self.address}: {words} {by}")

    def random(self, first: int = 9, by: By = "mean") -> Exemplars:
        """Images drawn at random, the same for every unit."""
        values = self.layer.array(f"sample.{by}")[:first, self.channel]
        listed = [
            self._sampled(k, k, float(value))
            for k, value in enumerate(values)
            if not np.isnan(value)
        ]
        return Exemplars(listed, name=f"{self.address}: at random")

    def quantiles(
        self, wanted: tuple[float, ...] = (0.9, 0.75, 0.5, 0.25, 0.1), by: By = "mean"
    ) -> Exemplars:
        """Images between the ends: of the random sample those nearest to these quantiles of it."""
        values = self.layer.array(f"sample.{by}")[:, self.channel]
        order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
        listed = []
        for rank, quantile in enumerate(wanted if len(order) else ()):
            k = int(order[round(quantile * (len(order) - 1))])
            listed.append(self._sampled(rank, k, float(values[k]), quantile))
        return Exemplars(listed, name=f"{self.address}: quantiles of the {by}")

    def _sampled(self, rank: int, k: int, score: float, quantile: float | None = None) -> Exemplar:
        image = int(self.layer.array("sample.image")[k])
        place = int(self.layer.array("sample.position")[k, self.channel])
        return self._exemplar(rank, image, score, place, quantile)

    def _exemplar(
        self, rank: int, image: int, score: float, place: int, quantile: float | None = None
    ) -> Exemplar:
        atlas, width = self.layer.atlas, self.layer.map_size[1]
        position = (place // width, place % width)
        return Exemplar(
            self, rank, image, atlas.ids[image], atlas.label(image), score, position, quantile
        )

    def sheet(
        self, by: By = "mean", *, bottom: bool = False, first: int | None = None, **options: Any
    ) -> Sheet:
        """The top (bottom) images as a picture; ``columns``, ``cmap``, ``theme`` as elsewhere."""
        from convscope._atlas.pictures import exemplar_sheet

        found = (self.bottom if bottom else self.top)(by, first)
        return exemplar_sheet(self, found, **options)

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def _one(self, name: str) -> Any:
        return getattr(self.layer, name)[self.channel].item()

    @property
    def count(self) -> int:
        return int(self._one("count"))

    @property
    def nan(self) -> int:
        return int(self._one("nan"))

    @property
    def mean(self) -> float:
        return float(self._one("mean"))

    @property
    def variance(self) -> float:
        return float(self._one("variance"))

    @property
    def minimum(self) -> float:
        return float(self._one("minimum"))

    @property
    def maximum(self) -> float:
        return float(self._one("maximum"))

    @property
    def active(self) -> float:
        """The fraction of values above zero."""
        return float(self._one("active"))

    def percentiles(self, wanted: tuple[float, ...] = (1, 25, 50, 75, 99)) -> list[float]:
        """Percentiles of its values, from the histogram."""
        found = percentiles_of(self, wanted)
        return [float(value) for value in found]

    def classes(self) -> list[tuple[str, float, int]]:
        """``(class, mean over its images, how many)``, highest first."""
        means = self.layer.class_means[:, self.channel]
        counts = self.layer.class_counts[:, self.channel]
        order = np.argsort(-np.nan_to_num(means, nan=-np.inf), kind="stable")
        names = self.layer.atlas.classes
        return [(names[k], float(means[k]), int(counts[k])) for k in order]


def percentiles_of(unit: Unit, wanted: tuple[float, ...]) -> Any:
    from convscope._atlas.bins import percentiles

    one = slice(unit.channel, unit.channel + 1)
    layer = unit.layer
    return percentiles(layer.histogram[one], wanted, layer.minimum[one], layer.maximum[one])[:, 0]
