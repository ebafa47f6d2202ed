"""What an attribution is worth: covered where it says, and asked again with shuffled weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from convscope._attribution.captum_methods import Found, asked
from convscope._attribution.methods import AttributionMethod
from convscope._attribution.question import Question
from convscope._errors import UnknownLayer

COVERED = 0.1
_BLOCKS = 16
_DRAWS = 8


@dataclass(frozen=True)
class Covered:
    """The score with a tenth of the picture replaced by the baseline.

    - ``marked``: the tenth with the highest attribution, in blocks of a 16×16 grid, so that fine
      and coarse maps compare; ``elsewhere``: the same pattern moved about at random (around the
      edges), the mean of eight draws
    """

    marked: float
    elsewhere: float


@dataclass(frozen=True)
class Sanity:
    """How much of a map is left when the weights are shuffled, from the last layer back.

    - ``stages``: what was shuffled; ``left``: the rank correlation with the map of the trained
      network, for each; ``maps``: the maps themselves
    """

    stages: tuple[str, ...]
    left: tuple[float, ...]
    maps: tuple[Found, ...]

    @property
    def follows(self) -> bool:
        """Whether the map depends on the weights: less than half of it is left in the end."""
        return abs(self.left[-1]) < 0.5


def cover(question: Question, found: Found) -> Covered:
    """Cover what ``found`` marks most, and the same pattern elsewhere."""
    grid = [min(side, _BLOCKS) for side in question.batch.size]
    random = np.random.default_rng(question.seed)
    first = _resized(found.values, (grid[0], grid[1]), Image.Resampling.BOX)
    moves = random.integers(1, np.maximum(grid, 2), (_DRAWS, 2))
    orders = [first, *(np.roll(first, move, (0, 1)) for move in moves)]
    values = torch.stack([_covered(question, order) for order in orders])
    scores = question.score(values)
    return Covered(float(scores[0]), float(scores[1:].mean()))


def _covered(question: Question, order: NDArray[np.float32]) -> torch.Tensor:
    """The image with the baseline where ``order`` is highest; ``(C, H, W)``."""
    count = max(1, round(COVERED * order.size))
    highest = np.argsort(-order.ravel(), kind="stable")[:count]
    hidden = np.zeros(order.size, bool)
    hidden[highest] = True
    blocks = hidden.reshape(order.shape).astype(np.float32)
    covered = _resized(blocks, question.batch.size, Image.Resampling.NEAREST) > 0
    mask = torch.from_numpy(covered).to(question.batch.values.device)
    return torch.where(mask, question.baseline[0], question.batch.values[0]).detach()


def _resized(
    values: NDArray[np.float32], size: tuple[int, int], how: Image.Resampling
) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values).resize(size[::-1], how))


def sanity(
    question: Question, methods: Sequence[AttributionMethod], found: Sequence[Found]
) -> list[Sanity]:
    """Adebayo et al. 2018: a map that random weights leave as it is explains nothing.

    Kernels are shuffled in copies, from the score's layer back to the first: the last one, half of
    them, all. The model itself is not touched.
    """
    layers = _with_kernels(question)
    counts = sorted({1, -(-len(layers) // 2), len(layers)})
    stages = [_stage(layers[-count:], len(layers)) for count in counts]
    maps: list[list[Found]] = [[] for _ in methods]
    for count in counts:
        other = question.of(question.model.shuffled(layers[-count:], seed=question.seed))
        for place, method in enumerate(methods):
            maps[place].append(asked(method, other))
    return [
        Sanity(tuple(stages), tuple(alike(one.values, m.values) for m in later), tuple(later))
        for one, later in zip(found, maps, strict=True)
    ]


def _stage(shuffled: Sequence[str], total: int) -> str:
    if len(shuffled) == total:
        return f"all {total} kernels shuffled"
    return f"{shuffled[0]} shuffled" if len(shuffled) == 1 else f"last {len(shuffled)} shuffled"


def _with_kernels(question: Question) -> list[str]:
    found = []
    for layer in question.model.layers:
        if layer.function or layer.container or "#" in layer.path or not layer.parameters:
            continue
        try:
            question.model.weights(layer.path)
        except UnknownLayer:
            continue
        found.append(layer.path)
    if not found:
        raise UnknownLayer(f"{question.model.name} has no kernels that could be shuffled")
    return found


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two maps; 0 where one is constant."""
    first, second = _ranks(one.ravel()), _ranks(other.ravel())
    spread = first.std() * second.std()
    return (
        float(((first - first.mean()) * (second - second.mean())).mean() / spread)
        if spread
        else 0.0
    )


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks, ties sharing their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles: NDArray[np.float64] = ends - (counts - 1) / 2
    return middles[places]
