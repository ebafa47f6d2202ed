"""Objectives that are made of a picture: what a layer saw in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convscope._errors import UsageError
from convscope._layers import Address
from convscope._models import Model
from convscope._optvis.objectives import Activations, BoundObjective, Direction, Objective, along


@dataclass(frozen=True, eq=False)
class Caricature(Objective):
    """What a layer saw in a picture, exaggerated: a direction of its own at every place."""

    image: Any
    path: str
    power: float = 1.0

    def bind(self, model: Model) -> BoundObjective:
        layer, _ = model.layers.at(Address(self.path))
        if not layer.is_map:
            raise UsageError(f"A caricature needs a layer of maps; {self.path!r} has no positions")
        wanted = model.activations(self.image, [self.path])[self.path][:1]

        def score(seen: Activations) -> Tensor:
            maps = seen[self.path]
            like = torch.nn.functional.interpolate(
                wanted.to(maps.device), maps.shape[-2:], mode="bilinear", antialias=True
            )
            return along(maps.flatten(2), like.flatten(2), self.power)

        return BoundObjective((self.path,), score, placed=False)

    def __str__(self) -> str:
        return f"caricature in {self.path}"


@dataclass(frozen=True, eq=False)
class ActivationGrid:
    """What a layer saw in a picture, place by place: a direction for each of ``side``² places.

    (Olah et al., The Building Blocks of Interpretability, Distill 2018.)
    """

    image: Any
    path: str
    side: int = 7
    power: float = 2.0

    def title(self, model: Model) -> str:
        """For the sheet of its pictures."""
        name = model.prepare(self.image).names[0]
        return f"{self.path} · what it saw in {name}, place by place"

    def columns(self, cells: Sequence[Objective]) -> int:
        """How many of its cells stand beside each other."""
        return 1 + max(int(str(cell).rpartition(",")[2]) for cell in cells)

    def cells(self, model: Model) -> list[Objective]:
        layer, _ = model.layers.at(Address(self.path))
        if not layer.is_map or self.side < 1:
            raise UsageError(f"A grid needs places, and a layer that has them, not {self.path!r}")
        seen = model.activations(self.image, [self.path])[self.path][:1]
        side = (min(self.side, seen.shape[-2]), min(self.side, seen.shape[-1]))
        grid = torch.nn.functional.adaptive_avg_pool2d(seen, side)[0].cpu().numpy()
        return [
            Direction(self.path, grid[:, y, x], self.power, f"{self.path} at {y},{x}")
            for y in range(side[0])
            for x in range(side[1])
        ]


_MOST = 24  # positions of the guide along a side


@dataclass(frozen=True, eq=False)
class GuideSimilarity(Objective):
    """At each position of a layer, the likeness to the most similar position of a guide picture.

    Likeness is the dot product, as DeepDream's guided dreams have it.
    """

    image: Any
    path: str

    def bind(self, model: Model) -> BoundObjective:
        layer, _ = model.layers.at(Address(self.path))
        if not layer.is_map:
            raise UsageError(f"A guide needs a layer of maps; {self.path!r} has no positions")
        seen = model.activations(self.image, [self.path])[self.path][:1]
        size = (min(seen.shape[-2], _MOST), min(seen.shape[-1], _MOST))
        wanted = torch.nn.functional.adaptive_avg_pool2d(seen, size)[0].flatten(1).detach()

        def score(found: Activations) -> Tensor:
            maps = found[self.path].flatten(2)
            with torch.no_grad():
                nearest = (wanted.to(maps.device).mT @ maps).argmax(1)
            return (maps * wanted.to(maps.device).T[nearest].mT).sum(1).mean(1)

        return BoundObjective((self.path,), score)

    def __str__(self) -> str:
        return f"what {self.path} saw in the guide"


def activation_grid(image: Any, layer: str, *, side: int = 7) -> ActivationGrid:
    """What ``layer`` saw in ``image`` at each of ``side``² places, a picture each."""
    return ActivationGrid(image, layer, side)


def caricature(image: Any, layer: str, *, power: float = 1.0) -> Objective:
    """What ``layer`` saw in ``image``, exaggerated."""
    return Caricature(image, layer, power)
