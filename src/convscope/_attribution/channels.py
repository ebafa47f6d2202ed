"""Which channels of a layer carried the decision: by gradient, and by silencing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._attribution.captum_methods import shares
from convscope._attribution.question import Question
from convscope._models import Edit


@dataclass(frozen=True, eq=False)
class ChannelShare:
    """What one channel brings to a score.

    - ``address``: the unit
    - ``share``: gradient × activation, summed over its positions: the score to first order
    - ``cost``: by how much the score falls when the channel is silenced (set to 0)
    - ``values``: the share of every position, ``(h, w)``
    """

    address: str
    share: float
    cost: float
    values: NDArray[np.float32]


@dataclass(frozen=True)
class ChannelShares:
    """The channels of ``layer`` with the largest shares, for or against, largest first.

    - ``together``: by how much the score falls when all of those that speak for it are silenced
    - ``positive``: the sum of all positive shares of the layer, listed or not
    - ``count``: how many channels the layer has
    """

    layer: str
    listed: tuple[ChannelShare, ...]
    together: float
    positive: float
    count: int

    def sentence(self) -> str:
        """What silencing says, in one line."""
        best = [one for one in self.listed if one.share > 0]
        if not best:
            return f"no channel of {self.layer} speaks for it"
        named = ", ".join(one.address.rpartition(":")[2] for one in best[:5])
        part = sum(one.share for one in best) / self.positive
        return (
            f"of {self.count} channels of {self.layer}, {len(best)} bring {part:.0%} of what "
            f"speaks for it (first {named}); silenced together they take {self.together:.3g} off "
            "the score"
        )


def carriers(question: Question, layer: str, most: int) -> ChannelShares:
    """The ``most`` channels of ``layer`` that matter most to the question."""
    maps = shares(question, layer)
    sums = maps.sum((1, 2))
    order = np.argsort(-np.abs(sums), kind="stable")[:most]
    before = float(question.score(question.batch.values))
    costs = [before - _without(question, layer, [int(k)]) for k in order]
    listed = tuple(
        ChannelShare(f"{layer}:{k}", float(sums[k]), cost, maps[k])
        for k, cost in zip(order, costs, strict=True)
    )
    speakers = [int(k) for k in order if sums[k] > 0]
    together = before - _without(question, layer, speakers) if speakers else 0.0
    return ChannelShares(layer, listed, together, float(sums[sums > 0].sum()), len(sums))


def _without(question: Question, layer: str, channels: Sequence[int]) -> float:
    edited = question.model.edited({layer: _silent(channels)})
    return float(question.of(edited).score(question.batch.values))


def _silent(channels: Sequence[int]) -> Edit:
    def edit(values: Tensor) -> Tensor:
        kept = torch.ones(values.shape[1], dtype=torch.bool, device=values.device)
        kept[list(channels)] = False
        return torch.where(kept.view(1, -1, *[1] * (values.ndim - 2)), values, 0.0)

    return edit
