"""How far an attribution map can be trusted: the deletion check and parameter randomization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from convscope._attribution.captum_methods import MethodOutput, compute_attribution
from convscope._attribution.methods import AttributionMethod
from convscope._attribution.target import AttributionTask
from convscope._errors import UnknownLayer

DELETED_SHARE = 0.1
_BLOCKS_PER_SIDE = 16
_CONTROLS = 8


@dataclass(frozen=True)
class DeletionCheck:
    """Scores with a tenth of the image replaced by the baseline.

    The tenth is made of blocks of a 16×16 grid, so that fine and coarse maps compare.

    Attributes:
        top: The score without the tenth of highest attribution.
        control: The mean score without the same pattern of blocks shifted to eight random places
            (around the edges).
    """

    top: float
    control: float


def deletion_check(task: AttributionTask, output: MethodOutput) -> DeletionCheck:
    """Delete what the map ranks highest, and the same pattern elsewhere."""
    rows, columns = (min(side, _BLOCKS_PER_SIDE) for side in task.batch.size)
    random = np.random.default_rng(task.seed)
    ranking = _resized(output.values, (rows, columns), Image.Resampling.BOX)
    shifts = random.integers(1, np.maximum((rows, columns), 2), (_CONTROLS, 2))
    rankings = [ranking, *(np.roll(ranking, shift, (0, 1)) for shift in shifts)]
    scores = task.score(torch.stack([_with_deletion(task, one) for one in rankings]))
    return DeletionCheck(float(scores[0]), float(scores[1:].mean()))


def _with_deletion(task: AttributionTask, ranking: NDArray[np.float32]) -> torch.Tensor:
    """The image with the baseline where ``ranking`` is highest, ``(C, H, W)``."""
    count = max(1, round(DELETED_SHARE * ranking.size))
    blocks = np.zeros(ranking.size, np.float32)
    blocks[np.argsort(-ranking.ravel(), kind="stable")[:count]] = 1
    grid = blocks.reshape(ranking.shape)
    deleted = _resized(grid, task.batch.size, Image.Resampling.NEAREST) > 0
    mask = torch.from_numpy(deleted).to(task.batch.values.device)
    return torch.where(mask, task.baseline[0], task.batch.values[0]).detach()


def _resized(
    values: NDArray[np.float32], size: tuple[int, int], filter: Image.Resampling
) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values).resize(size[::-1], filter))


@dataclass(frozen=True)
class ParameterRandomization:
    """The parameter randomization test of one map (Adebayo et al., NeurIPS 2018).

    Attributes:
        stages: Which layers were randomized: the last, the last half, all.
        correlations: Spearman's rank correlation with the map of the trained network, per stage.
        maps: The maps of the randomized networks.
    """

    stages: tuple[str, ...]
    correlations: tuple[float, ...]
    maps: tuple[MethodOutput, ...]

    @property
    def depends_on_parameters(self) -> bool:
        """Whether the correlation is below 0.5 once all layers are randomized."""
        return abs(self.correlations[-1]) < 0.5


def parameter_randomization_test(
    task: AttributionTask, methods: Sequence[AttributionMethod], outputs: Sequence[MethodOutput]
) -> list[ParameterRandomization]:
    """Compute the maps again with randomized parameters, in cascade from the last layer back.

    A map that stays as it was explains nothing that was learned. The kernels of each randomized
    layer are permuted in a copy; the model itself is not changed.
    """
    layers = _layers_with_kernels(task)
    counts = sorted({1, -(-len(layers) // 2), len(layers)})
    stages = tuple(_stage_name(layers[-count:], len(layers)) for count in counts)
    maps: list[list[MethodOutput]] = [[] for _ in methods]
    for count in counts:
        randomized = task.model.randomized(layers[-count:], seed=task.seed)
        for place, method in enumerate(methods):
            maps[place].append(compute_attribution(method, task.with_model(randomized)))
    return [
        ParameterRandomization(
            stages,
            tuple(rank_correlation(output.values, one.values) for one in randomized_maps),
            tuple(randomized_maps),
        )
        for output, randomized_maps in zip(outputs, maps, strict=True)
    ]


def _stage_name(randomized: Sequence[str], total: int) -> str:
    if len(randomized) == 1:
        return f"{randomized[0]} randomized"
    which = "all" if len(randomized) == total else "last"
    return f"{which} {len(randomized)} layers randomized"


def _layers_with_kernels(task: AttributionTask) -> list[str]:
    paths = []
    for layer in task.model.layers:
        if layer.function or layer.container or "#" in layer.path or not layer.parameters:
            continue
        try:
            task.model.weights(layer.path)
        except UnknownLayer:
            continue
        paths.append(layer.path)
    if not paths:
        raise UnknownLayer(f"{task.model.name} has no kernels that could be randomized")
    return paths


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two maps of one shape; 0 where one is constant."""
    ranks = _ranks(first.ravel()), _ranks(second.ravel())
    centered = [one - one.mean() for one in ranks]
    scale = ranks[0].std() * ranks[1].std()
    return float((centered[0] * centered[1]).mean() / scale) if scale else 0.0


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks; ties share their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles: NDArray[np.float64] = ends - (counts - 1) / 2
    return middles[places]
