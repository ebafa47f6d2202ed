"""One unit of an atlas: a channel of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from convscope._atlas.exemplar_figure import exemplar_sheet
from convscope._atlas.exemplars import Exemplar, Exemplars
from convscope._atlas.histogram_bins import percentiles
from convscope._atlas.reader import LayerAtlas
from convscope._errors import UsageError
from convscope._plot import Sheet, Theme

RankBy = Literal["mean", "peak"]


@dataclass(frozen=True, eq=False)
class Unit:
    """One channel of a scanned layer: its statistics, and the images it responds to.

    Attributes:
        layer: The layer, with arrays over all its channels.
        channel: The index of the channel.
    """

    layer: LayerAtlas
    channel: int

    @property
    def address(self) -> str:
        """Layer and channel: ``features.5:12``."""
        return f"{self.layer.path}:{self.channel}"

    def __repr__(self) -> str:
        return (
            f"Unit({self.address}, mean {self.mean:.4g}, {self.minimum:.4g} to "
            f"{self.maximum:.4g}, {self.active:.1%} above 0)"
        )

    def top(self, by: RankBy = "mean", first: int | None = None) -> Exemplars:
        """The images with the highest activation, highest first.

        Args:
            by: Rank by the ``"mean"`` or the ``"peak"`` of the channel's feature map.
            first: The number of images; by default all that the scan listed.

        Returns:
            The images, each with its score and the position of its highest value.

        Raises:
            UsageError: ``by`` is neither.
        """
        return self._ranked("top", by, first)

    def bottom(self, by: RankBy = "mean", first: int | None = None) -> Exemplars:
        """The images with the lowest activation, lowest first.

        After a ReLU most of them are usually 0: see ``Exemplars.ties``.

        Args:
            by: Rank by the ``"mean"`` or the ``"peak"`` of the channel's feature map.
            first: The number of images; by default all that the scan listed.

        Returns:
            The images, each with its score and the position of its highest value.

        Raises:
            UsageError: ``by`` is neither.
        """
        return self._ranked("bottom", by, first)

    def _ranked(self, end: str, by: str, first: int | None) -> Exemplars:
        if by not in ("mean", "peak"):
            raise UsageError(f"Images are ranked by 'mean' or 'peak', not {by!r}")
        name, c = f"{end}.{by}", self.channel
        score, image, offset = (
            self.layer.array(f"{name}.{key}")[:first, c] for key in ("score", "image", "position")
        )
        listed = [
            self._exemplar(k, int(image[k]), float(score[k]), int(offset[k]))
            for k in range(len(image))
            if image[k] >= 0
        ]
        scores = self.layer.array(f"{name}.score")[:, c]
        ties = int(self.layer.array(f"{name}.ties")[c])
        if listed and listed[-1].score != scores[~np.isnan(scores)][-1]:  # cut short by ``first``
            ties = int((scores == listed[-1].score).sum())
        order = {"top": "highest", "bottom": "lowest"}[end]
        return Exemplars(listed, ties, f"{self.address}: {order} {by}")

    def random(self, first: int = 9, by: RankBy = "mean") -> Exemplars:
        """Random images of the dataset, the same for every unit.

        Args:
            first: The number of images.
            by: Give the ``"mean"`` or the ``"peak"`` of the feature map as the score.

        Returns:
            The images, in random order.
        """
        scores = self.layer.array(f"sample.{by}")[:first, self.channel]
        listed = [
            self._sampled(k, k, float(score))
            for k, score in enumerate(scores)
            if not np.isnan(score)
        ]
        return Exemplars(listed, name=f"{self.address}: random images")

    def quantiles(
        self, quantiles: Sequence[float] = (0.9, 0.75, 0.5, 0.25, 0.1), by: RankBy = "mean"
    ) -> Exemplars:
        """Images between the extremes: those of the random sample nearest to some quantiles.

        Args:
            quantiles: Which quantiles of the sample, 0 to 1.
            by: Rank by the ``"mean"`` or the ``"peak"`` of the channel's feature map.

        Returns:
            One image for each of ``quantiles``.
        """
        scores = self.layer.array(f"sample.{by}")[:, self.channel]
        order = np.argsort(scores, kind="stable")[: int((~np.isnan(scores)).sum())]
        listed = []
        for rank, quantile in enumerate(quantiles if len(order) else ()):
            k = int(order[round(quantile * (len(order) - 1))])
            listed.append(self._sampled(rank, k, float(scores[k]), quantile))
        return Exemplars(listed, name=f"{self.address}: quantiles of the {by}")

    def _sampled(self, rank: int, k: int, score: float, quantile: float | None = None) -> Exemplar:
        image = int(self.layer.array("sample.image")[k])
        offset = int(self.layer.array("sample.position")[k, self.channel])
        return self._exemplar(rank, image, score, offset, quantile)

    def _exemplar(
        self, rank: int, image: int, score: float, offset: int, quantile: float | None = None
    ) -> Exemplar:
        atlas, position = self.layer.atlas, divmod(offset, self.layer.map_size[1])
        return Exemplar(
            self.layer,
            self.channel,
            rank,
            image,
            atlas.ids[image],
            atlas.label(image),
            score,
            position,
            quantile,
        )

    def sheet(
        self,
        by: RankBy = "mean",
        *,
        bottom: bool = False,
        first: int | None = None,
        columns: int | None = None,
        cmap: str = "magma",
        theme: Theme = "light",
    ) -> Sheet:
        """A figure of the images with the highest (lowest) activation.

        It shows the receptive field of the strongest position of each image, the feature map over
        it, and the whole image.

        Args:
            by: Rank by the ``"mean"`` or the ``"peak"`` of the channel's feature map.
            bottom: Show the lowest instead of the highest.
            first: The number of images; by default all that the scan listed.
            columns: The number of images in a row.
            cmap: The colors of the feature maps.
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The figure.

        Raises:
            AtlasError: No image is ranked, or the atlas has no thumbnails yet.
        """
        exemplars = (self.bottom if bottom else self.top)(by, first)
        return exemplar_sheet(
            exemplars, self.layer, self.channel, columns=columns, cmap=cmap, theme=theme
        )

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def _value(self, name: str) -> Any:
        return getattr(self.layer, name)[self.channel].item()

    @property
    def count(self) -> int:
        """The number of values, NaN excluded."""
        return int(self._value("count"))

    @property
    def nan(self) -> int:
        """The number of NaN values."""
        return int(self._value("nan"))

    @property
    def mean(self) -> float:
        """The mean of all values."""
        return float(self._value("mean"))

    @property
    def variance(self) -> float:
        """The variance of all values."""
        return float(self._value("variance"))

    @property
    def minimum(self) -> float:
        """The lowest value."""
        return float(self._value("minimum"))

    @property
    def maximum(self) -> float:
        """The highest value."""
        return float(self._value("maximum"))

    @property
    def active(self) -> float:
        """The fraction of values above zero."""
        return float(self._value("active"))

    def percentiles(self, percents: Sequence[float] = (1, 25, 50, 75, 99)) -> list[float]:
        """Percentiles of its values, estimated from the histogram to a fifth of a value.

        Args:
            percents: Which percentiles, 0 to 100.

        Returns:
            One value for each of ``percents``.
        """
        layer, only = self.layer, slice(self.channel, self.channel + 1)
        found = percentiles(
            layer.histogram[only], percents, layer.minimum[only], layer.maximum[only]
        )
        return [float(value) for value in found[:, 0]]

    def class_means(self) -> list[tuple[str, float, int]]:
        """The mean activation for each class, highest first.

        Returns:
            ``(class, mean over its images, number of images)`` for each class.

        Raises:
            AtlasError: The dataset has no labels.
        """
        means = self.layer.class_means[:, self.channel]
        counts = self.layer.class_counts[:, self.channel]
        order = np.argsort(-np.nan_to_num(means, nan=-np.inf), kind="stable")
        names = self.layer.atlas.classes
        return [(names[k], float(means[k]), int(counts[k])) for k in order]
