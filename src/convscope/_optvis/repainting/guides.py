"""Guided dreams: what a layer saw in another picture, wherever it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convscope._errors import UsageError
from convscope._layers import Address
from convscope._models import Model
from convscope._optvis.objectives import Activations, Goal, Objective

_MOST = 24  # positions of the guide along a side


@dataclass(frozen=True, eq=False)
class Guided(Objective):
    """At each position of a layer, the likeness to the most similar position of a guide picture.

    Likeness is the dot product, as DeepDream's guided dreams have it.
    """

    image: Any
    path: str

    def bind(self, model: Model) -> Goal:
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

        return Goal((self.path,), score)

    def __str__(self) -> str:
        return f"what {self.path} saw in the guide"
