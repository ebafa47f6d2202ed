"""Dead, nearly dead, constant, saturated, always active, not finite: each planted, each found."""

from __future__ import annotations

import numpy as np
import pytest
from health_statistics import statistics_of
from hypothesis import given
from hypothesis import strategies as st

from convscope._health.activity import channel_states, check_activity
from convscope._health.findings import NEARLY_DEAD

N, SIDE = 300, 8
RNG = np.random.default_rng(0)


def noise(channels: int) -> np.ndarray:
    return RNG.normal(size=(N, channels, SIDE, SIDE)).astype(np.float32)


def kinds(found: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {kind: np.flatnonzero(mask).tolist() for kind, mask in found.items() if mask.any()}


def test_each_state_is_found_after_a_relu() -> None:
    maps = np.maximum(noise(6), 0)
    maps[:, 1] = 0
    maps[:, 2] = 0
    maps[7, 2, 3, 3] = 5
    maps[:, 3] = 2
    maps[:, 4] = 0.1 + np.abs(maps[:, 4])
    maps[0, 5, 0, 0] = np.nan
    assert kinds(channel_states(statistics_of(maps))) == {
        "dead": [1],
        "nearly dead": [2],
        "constant": [3],
        "always active": [4],
        "not finite": [5],
    }


def test_before_a_relu_below_zero_is_dead_and_before_none_it_is_not() -> None:
    maps = noise(3)
    maps[:, 1] -= 100
    maps[:, 2] += 100
    gated = statistics_of(maps, "Conv2d", next_relu="relu")
    assert kinds(channel_states(gated)) == {"dead": [1], "always active": [2]}
    assert kinds(channel_states(statistics_of(maps, "Conv2d"))) == {}
    assert kinds(channel_states(statistics_of(maps, "LeakyReLU", families=("relu",)))) == {}


def test_a_layer_that_includes_a_relu_is_detected() -> None:
    """As in Keras, where Conv2D(activation="relu") is one layer."""
    maps = np.maximum(noise(4), 0)
    maps[:, 2] = 0
    assert kinds(channel_states(statistics_of(maps, "Conv2D", families=("conv",)))) == {"dead": [2]}
    assert kinds(channel_states(statistics_of(maps, "Activation"))) == {"dead": [2]}
    assert kinds(channel_states(statistics_of(maps - 0.5, "Activation"))) == {"constant": [2]}
    summed = statistics_of(maps + 0.5, "add")
    assert kinds(channel_states(summed)) == {"constant": [2]}


def test_nearly_dead_is_a_share_of_positions() -> None:
    maps = np.zeros((N, 2, SIDE, SIDE), np.float32)
    few = int(NEARLY_DEAD * N * SIDE * SIDE)
    maps[:, 0].flat[:few] = 1
    maps[:, 1].flat[: few + 1] = 1
    assert kinds(channel_states(statistics_of(maps))) == {"nearly dead": [0]}


@pytest.mark.parametrize("kind", ["Sigmoid", "Tanh", "ReLU6", "Hardtanh"])
def test_saturated_channels_of_bounded_functions(kind: str) -> None:
    functions = {
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Tanh": np.tanh,
        "ReLU6": lambda x: np.clip(x, 0, 6),
        "Hardtanh": lambda x: np.clip(x, -1, 1),
    }
    maps = noise(3)
    maps[:, 1] = 20 * np.abs(maps[:, 1]) + 7
    done = functions[kind](maps).astype(np.float32)
    done[0, 1, 0, 0] -= 0.1
    layer = statistics_of(done, kind, families=("relu",) if kind == "ReLU6" else ())
    assert kinds(channel_states(layer))["saturated"] == [1]


def test_both_ends_of_a_sigmoid_saturate_but_zero_is_no_end_of_a_relu() -> None:
    maps = np.where(noise(2) > 0, 0.99, 0.01).astype(np.float32)
    assert kinds(channel_states(statistics_of(maps, "Sigmoid"))) == {"saturated": [0, 1]}
    maps = np.where(noise(2) > 1.5, 1.0, 0).astype(np.float32)
    assert "saturated" not in kinds(
        channel_states(statistics_of(maps, "ReLU6", families=("relu",)))
    )


def test_sentences_hold_their_numbers() -> None:
    maps = np.maximum(noise(8), 0)
    maps[:, 1] = 0
    maps[:, [2, 3]] = 0
    maps[4, 2, 0, 0] = maps[5, 3, 0, 0] = 1
    maps[:, 4] = 0.25
    maps[:, 5] += 0.5
    found = {
        one.kind: one.sentence for one in check_activity(statistics_of(maps, path="a.relu"), N)
    }
    assert found == {
        "dead": "`a.relu:1` is dead: above zero at no position of 300 images.",
        "nearly dead": "2 of 8 channels of `a.relu` are nearly dead: above zero at no more than 1 "
        "of 19,200 positions in 300 images.",
        "constant": "`a.relu:4` is constant: 0.25 at every position of 300 images.",
        "always active": "`a.relu:5` is always active: above zero at every position in 300 "
        "images, so the ReLU leaves it unchanged.",
    }


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_channel_is_in_one_state_at_most(seed: int, gated: bool) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(5, 6, 3, 3)) * rng.integers(0, 2, (5, 6, 1, 1))
    maps[:, rng.integers(0, 6)] = rng.choice([np.nan, np.inf, 0, 3, -3])
    layer = statistics_of(maps, "Tanh" if seed % 2 else "ReLU", next_relu="x" if gated else None)
    assert (sum(mask.astype(int) for mask in channel_states(layer).values()) <= 1).all()
