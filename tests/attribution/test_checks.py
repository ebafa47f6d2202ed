"""Deletion and parameter randomization, by hand and on planted networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._attribution.captum_methods import MethodOutput
from convscope._attribution.checks import deletion_check, rank_correlation
from convscope._attribution.target import AttributionTask, make_baseline, resolve_target

captum = pytest.importorskip("captum.attr", reason="captum does the attributions")
SIZE = (12, 16)


def _task(model: Any, image: Any, target: int, baseline: str = "zero") -> AttributionTask:
    batch = model.prepare(image)
    values, _ = make_baseline(model, batch, baseline)
    return AttributionTask(model, batch, resolve_target(model, target, batch), "conv", values)


# Deletion


def test_deletion_replaces_the_top_tenth_by_the_baseline(linear: Any, values: Tensor) -> None:
    """A grid of 12×16 blocks is the pixels themselves: the score falls by what they contribute."""
    task = _task(linear, values, 1)
    weight, x = linear.weights("conv")[1], values[0].numpy()
    contribution = (weight * x).sum(0)
    check = deletion_check(task, MethodOutput(contribution.astype(np.float32)))
    top = np.argsort(-contribution.ravel(), kind="stable")[: round(0.1 * contribution.size)]
    score = float(task.score(values))
    assert check.top == pytest.approx(score - contribution.ravel()[top].sum(), abs=1e-4)
    assert check.top < check.control


def test_deletion_with_another_baseline(linear: Any, values: Tensor) -> None:
    task = _task(linear, values, 0, "gray")
    weight, x = linear.weights("conv")[0], values[0].numpy()
    ranking = np.arange(x[0].size, dtype=np.float32).reshape(SIZE)  # the last 19 pixels are on top
    check = deletion_check(task, MethodOutput(ranking))
    x_deleted = x.copy().reshape(3, -1)
    x_deleted[:, -19:] = x.mean()
    change = (weight * (x_deleted.reshape(x.shape) - x)).sum()
    assert check.top == pytest.approx(float(task.score(values)) + change, abs=1e-4)


def test_the_control_is_the_mean_of_eight_shifts_of_the_pattern(
    linear: Any, values: Tensor
) -> None:
    task = _task(linear, values, 1)
    weight, x = linear.weights("conv")[1], values[0].numpy()
    contribution = (weight * x).sum(0).astype(np.float32)
    check = deletion_check(task, MethodOutput(contribution))
    deleted = np.zeros(contribution.size, bool)
    deleted[np.argsort(-contribution.ravel(), kind="stable")[:19]] = True
    random, scores = np.random.default_rng(0), []
    for rows, columns in random.integers(1, (12, 16), (8, 2)):
        pattern = np.roll(deleted.reshape(SIZE), (rows, columns), (0, 1))
        assert pattern.sum() == deleted.sum()
        scores.append(float(task.score(values)) - contribution[pattern].sum())
    assert check.control == pytest.approx(np.mean(scores), abs=1e-4)


def test_a_coarse_map_deletes_whole_blocks(patch: Any, image: Image.Image) -> None:
    """A map of 4×4 whose highest cell covers the patch: a 16×16 grid of 2×2 pixels, 26 blocks."""
    task = _task(patch, image, 1)
    coarse = np.zeros((4, 4), np.float32)
    coarse[1, 2] = 1  # rows 8–15, columns 16–23
    check = deletion_check(task, MethodOutput(coarse))
    assert check.top == pytest.approx(0, abs=1e-4)  # 16 of the 26 blocks are the patch
    assert check.control > 0.5 * float(task.score(task.batch.values))


# Parameter randomization


def test_randomized_parameters_change_the_map_and_not_the_model(
    model: Any, network: nn.Module, values: Tensor
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    methods = ["gradient_x_input", "gradcam"]
    result = cs.attribute(model, values, 1, method=methods, randomization_test=True)
    for one in result.maps:
        test = one.randomization
        assert test is not None
        assert test.stages == (
            "fc randomized",
            "last 2 layers randomized",
            "all 3 layers randomized",
        )
        assert test.depends_on_parameters == (abs(test.correlations[-1]) < 0.5)
        assert not np.array_equal(test.maps[-1].values, one.values)
        expected = [rank_correlation(one.values, randomized.values) for randomized in test.maps]
        assert test.correlations == pytest.approx(expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_maps_of_a_stage_are_those_of_a_network_with_those_layers_randomized(
    model: Any, values: Tensor
) -> None:
    result = cs.attribute(
        model, values, 1, method="gradient_x_input", randomization_test=True, seed=5
    )
    test = result["gradient_x_input"].randomization
    assert test is not None
    for found, layers in zip(
        test.maps, (["fc"], ["conv2", "fc"], ["conv1", "conv2", "fc"]), strict=True
    ):
        randomized = model.randomized(layers, seed=5)
        truth = cs.attribute(randomized, values, 1, method="gradient_x_input")
        np.testing.assert_array_equal(found.values, truth["gradient_x_input"].values)
        for path in ("conv1", "conv2", "fc"):  # the same numbers in another order
            kernels = randomized.weights(path), model.weights(path)
            np.testing.assert_array_equal(*(np.sort(one.ravel()) for one in kernels))
            assert np.array_equal(*kernels) != (path in layers)


def test_a_map_that_ignores_the_weights_is_found_out() -> None:
    """A score that is the sum of the input, whatever the kernel: gradient × input is the input."""

    class Ignoring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.conv(x) * 0.0 + x.sum(1, keepdim=True)
            return maps.flatten(2).sum(2)

    model = cs.load(Ignoring(), preprocess=cs.Preprocess(size=SIZE))
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    result = cs.attribute(
        model, image, 0, method="gradient_x_input", layer="conv", randomization_test=True
    )
    (one,) = result.maps
    assert one.randomization is not None
    assert one.randomization.stages == ("conv randomized",)
    assert one.randomization.correlations == pytest.approx((1.0,))
    assert not one.randomization.depends_on_parameters
    assert "hardly depends on the parameters: rank correlation ρ = 1.00" in one.sentence(
        result.score
    )


def _spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Pearson's correlation of mean ranks, each counted by hand."""

    def ranks(values: NDArray[Any]) -> list[float]:
        return [float((values < v).sum() + ((values == v).sum() + 1) / 2) for v in values]

    return float(np.corrcoef(ranks(first.ravel()), ranks(second.ravel()))[0, 1])


def test_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(6)
    for levels in (4, 1000):  # with many ties, and with few
        first = random.integers(0, levels, (7, 9)).astype(np.float32)
        second = (first + random.normal(0, levels / 3, (7, 9))).round().astype(np.float32)
        assert rank_correlation(first, second) == pytest.approx(_spearman(first, second))
    one = np.array([[1, 2, 2, 3]], np.float32)
    assert rank_correlation(one, 10 * one) == pytest.approx(1)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, np.ones_like(one)) == 0
