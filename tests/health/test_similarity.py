"""Duplicates, redundancy, classes: planted in numbers, without a network."""

from __future__ import annotations

import json

import numpy as np
import pytest
from health_statistics import class_statistics, statistics_of

from convscope._health import LayerStatistics
from convscope._health.activity import check_selectivity
from convscope._health.health import check_layers
from convscope._health.similarity import (
    check_duplicates,
    check_redundancy,
    duplicate_groups,
    ranks,
)

N = 200


def layer(channels: int = 10, **more: object) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(1)
    return np.maximum(rng.normal(size=(N, channels, 6, 6)), 0), rng


def alike(*pairs: tuple[int, int]) -> dict[tuple[int, int], float]:
    return dict.fromkeys(pairs, 0.999)


def test_activations_and_filters_must_both_agree() -> None:
    maps, _ = layer()
    maps[:, 1], maps[:, 3] = maps[:, 0], 2 * maps[:, 2]
    groups, _ = duplicate_groups(statistics_of(maps, filter_cosines=alike((0, 1), (4, 5))))
    assert groups == [[0, 1]]
    assert duplicate_groups(statistics_of(maps, filter_cosines={(0, 1): 0.9}))[0] == []
    assert duplicate_groups(statistics_of(maps, filter_cosines={}))[0] == []
    assert duplicate_groups(statistics_of(maps))[0] == []


def test_a_pair_is_told_with_its_scale_and_a_crowd_in_numbers() -> None:
    maps, _ = layer()
    maps[:, 3] = 2 * maps[:, 2]
    (one,) = check_duplicates(statistics_of(maps, filter_cosines=alike((2, 3))))
    assert one.sentence == (
        "`layer:2` repeats `layer:3`, 0.5 × as strong: correlation 1.000 over 200 images, cosine "
        "of the filters 1.00."
    )
    crowd = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    maps[:, :6] = maps[:, :1]
    (many,) = check_duplicates(statistics_of(maps, filter_cosines=alike(*crowd)))
    assert many.sentence.startswith("5 of 10 channels of `layer` repeat others, in 1 group:")
    assert many.channels == tuple(range(6))


def test_dead_channels_are_no_duplicates_of_each_other() -> None:
    maps = np.maximum(np.random.default_rng(0).normal(size=(N, 4, 10, 10)), 0)
    maps[:, [1, 2]] = 0
    maps[9, [1, 2], 0, 0] = 1
    assert duplicate_groups(statistics_of(maps, filter_cosines=alike((1, 2))))[0] == []


def test_a_layer_that_says_few_things_is_redundant_and_noise_is_not() -> None:
    maps, rng = layer(24)
    assert list(check_redundancy(statistics_of(maps))) == []
    rank, expected = ranks(statistics_of(maps)) or (0, 0)
    assert rank == pytest.approx(expected, rel=0.03)
    two = np.maximum(rng.normal(size=(N, 2, 6, 6)), 0)
    mixed = np.einsum("oi,nihw->nohw", rng.uniform(0.1, 1, (24, 2)), two)
    (one,) = check_redundancy(statistics_of(mixed))
    assert one.kind == "redundant"
    assert one.value < 0.25
    assert 2 < one.rows[0]["effective rank"] < 6
    assert one.sentence.startswith("The 24 live channels of `layer` vary like ")


def test_few_images_or_channels_are_not_judged() -> None:
    maps, _ = layer(10)
    maps[:, 1] = maps[:, 0]
    assert ranks(statistics_of(maps[:, :4])) is None
    assert duplicate_groups(statistics_of(maps[:30], filter_cosines=alike((0, 1))))[0] == []


def classed(gap: float, each: int = 40) -> LayerStatistics:
    labels = np.repeat([0, 1, 2], each)
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(1, 0.5, (3 * each, 3, 4, 4)), 0)
    maps += rng.normal(0, 0.3, (3 * each, 3, 1, 1))
    maps[labels == 2, 1] += gap
    found = statistics_of(np.maximum(maps, 0))
    object.__setattr__(found, "classes", class_statistics(found, labels, ("cat", "dog", "newt")))
    return found


def test_a_channel_for_one_class_is_named_with_its_class_effect_and_n() -> None:
    (one,) = check_selectivity(classed(2.0))
    assert one.channels == (1,)
    assert one.sentence.startswith(
        "`layer:1` responds to “newt”: mean 2.97 on this class and 1.06 "
    )
    assert one.sentence.endswith("(n = 40 of 120 images).")
    assert list(check_selectivity(classed(0.0))) == []


def test_classes_of_few_images_are_not_judged() -> None:
    assert list(check_selectivity(classed(5.0, each=9))) == []


def test_all_results_can_be_written_as_json() -> None:
    found = check_layers([classed(2.0)], 120)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["counts"]["selective"] == 1


def test_an_infinite_effect_is_json_too() -> None:
    layer_ = classed(0.0)
    pure = np.zeros((120, 3, 2, 2))
    pure[80:, 1] = 1
    pure[:, [0, 2]] = np.random.default_rng(0).uniform(0, 1, (120, 2, 2, 2))
    layer_ = statistics_of(pure)
    labels = np.repeat([0, 1, 2], 40)
    object.__setattr__(layer_, "classes", class_statistics(layer_, labels, ("cat", "dog", "newt")))
    (one,) = check_selectivity(layer_)
    assert one.channels == (1,)
    assert one.to_dict()["value"] == "inf"
    assert "g = ∞" in one.sentence
