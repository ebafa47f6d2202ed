"""Objectives that are made of the activations of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope._errors import UsageError
from convscope._images import ImageLike
from convscope._layers import Address
from convscope._models import Model
from convscope._optvis.objectives import (
    Activations,
    BoundObjective,
    Direction,
    Objective,
    projection,
)

_MAX_GUIDE_SIDE = 24  # positions along a side; larger maps of a guide are pooled


@dataclass(frozen=True, eq=False)
class Caricature(Objective):
    """The activations of a layer on an image, exaggerated: a direction for each position."""

    image: ImageLike
    path: str
    power: float = 1.0

    def bind(self, model: Model) -> BoundObjective:
        layer, _ = model.layers.at(Address(self.path))
        if not layer.is_map:
            raise UsageError(f"A caricature needs a layer of maps; {self.path!r} has no positions")
        target = model.activations(self.image, [self.path])[self.path][:1]

        def score(activations: Activations) -> Tensor:
            maps = activations[self.path]
            resized = F.interpolate(
                target.to(maps.device), maps.shape[-2:], mode="bilinear", antialias=True
            )
            return projection(maps.flatten(2), resized.flatten(2), self.power)

        return BoundObjective((self.path,), score)

    def __str__(self) -> str:
        return f"caricature in {self.path}"


@dataclass(frozen=True, eq=False)
class GuideSimilarity(Objective):
    """At each position of a layer, the dot product with the most similar position of a guide image.

    The objective of DeepDream's guided dreams.
    """

    image: ImageLike
    path: str

    def bind(self, model: Model) -> BoundObjective:
        layer, _ = model.layers.at(Address(self.path))
        if not layer.is_map:
            raise UsageError(f"A guide needs a layer of maps; {self.path!r} has no positions")
        maps = model.activations(self.image, [self.path])[self.path][:1]
        size = (min(maps.shape[-2], _MAX_GUIDE_SIDE), min(maps.shape[-1], _MAX_GUIDE_SIDE))
        guide = F.adaptive_avg_pool2d(maps, size)[0].flatten(1).detach()

        def score(activations: Activations) -> Tensor:
            maps = activations[self.path].flatten(2)
            with torch.no_grad():
                nearest = (guide.to(maps.device).mT @ maps).argmax(1)
            return (maps * guide.to(maps.device).T[nearest].mT).sum(1).mean(1)

        return BoundObjective((self.path,), score)

    def __str__(self) -> str:
        return f"similarity to the guide in {self.path}"


@dataclass(frozen=True, eq=False)
class ActivationGrid:
    """Activations of a layer on an image, pooled to a grid: one direction, so one image, per cell.

    Source: Olah et al., The Building Blocks of Interpretability, Distill 2018.
    """

    image: ImageLike
    path: str
    side: int = 7
    power: float = 2.0

    def title(self, model: Model) -> str:
        """Return the title of the sheet with all cells."""
        name = model.prepare(self.image).names[0]
        return f"{self.path} · activation grid of {name}"

    def columns(self, cells: Sequence[Objective]) -> int:
        """Return the number of columns of the grid that ``cells`` are."""
        return 1 + max(int(str(cell).rpartition(",")[2]) for cell in cells)

    def cells(self, model: Model) -> list[Objective]:
        """Return the directions of all cells, row by row."""
        layer, _ = model.layers.at(Address(self.path))
        if not layer.is_map or self.side < 1:
            raise UsageError(
                f"An activation grid needs a layer of maps and side=1 or more; {self.path!r} with "
                f"side={self.side} has no positions"
            )
        maps = model.activations(self.image, [self.path])[self.path][:1]
        side = (min(self.side, maps.shape[-2]), min(self.side, maps.shape[-1]))
        grid = F.adaptive_avg_pool2d(maps, side)[0].cpu().numpy()
        return [
            Direction(self.path, grid[:, y, x], self.power, f"{self.path} at {y},{x}")
            for y in range(side[0])
            for x in range(side[1])
        ]


def activation_grid(image: ImageLike, layer: str, *, side: int = 7) -> ActivationGrid:
    """Visualize the activations of a layer on an image, at every position of a coarse grid.

    Source: Olah et al., The Building Blocks of Interpretability, Distill 2018.

    Args:
        image: Any image that the model takes.
        layer: Path of a layer of feature maps.
        side: Number of cells along each side of the grid, at most the size of the maps.

    Returns:
        An objective for ``maximize``, which makes one optimized image per cell of it.
    """
    return ActivationGrid(image, layer, side)


def caricature(image: ImageLike, layer: str, *, power: float = 1.0) -> Objective:
    """Exaggerate an image as a layer represents it.

    At each position, the projection on the activations of ``image`` at that position is maximized.
    Source: Olah et al., The Building Blocks of Interpretability, Distill 2018.

    Args:
        image: Any image that the model takes.
        layer: Path of a layer of feature maps.
        power: The dot product is multiplied by max(0.1, cosine similarity)^power.

    Returns:
        An objective for ``maximize``.
    """
    return Caricature(image, layer, power)
