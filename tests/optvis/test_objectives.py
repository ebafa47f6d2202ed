"""Objectives: their algebra, their signs, their written form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convscope._errors import UsageError
from convscope._models import Model
from convscope._optvis import Objective, channel, neuron, parse_objective
from convscope._optvis.objectives import BoundObjective, Sum

A, B = channel("eyes", 0), channel("eyes", 1)
SEEN = {"eyes": torch.arange(10.0).view(1, 5, 1, 2)}


def value(objective: Objective, model: Model) -> float:
    return float(objective.bind(model).score(SEEN))


def test_signs_and_weights(planted: Model) -> None:
    """A is 0.5 and B is 2.5."""
    assert value(A + B, planted) == 3
    assert value(A - B, planted) == -2
    assert value(-A, planted) == -0.5
    assert value(-(A - B), planted) == 2
    assert value(2 * A - (B - A) / 2, planted) == 0
    assert value(A - 0.5 * B - 3 * A, planted) == -2.25


def test_what_is_no_objective_cannot_be_added() -> None:
    with pytest.raises(UsageError, match=r"sums are of objectives. Write cs.channel"):
        A + 3  # type: ignore[operator]


def test_a_goal_knows_its_layers(planted: Model) -> None:
    goal: BoundObjective = (A + channel("relu", 1) - B).bind(planted)
    assert goal.layers == ("eyes", "relu")


UNITS = st.builds(
    channel, st.sampled_from(["conv-2", "layer1.0/add", "pool#2"]), st.integers(0, 99)
) | st.builds(
    neuron, st.just("a.b"), st.integers(0, 9), st.tuples(st.integers(0, 9), st.integers(0, 9))
)


@given(st.lists(st.tuples(st.sampled_from([1.0, -1.0, 0.5, -2.25]), UNITS), min_size=1))
def test_what_is_written_is_read_back(terms: list[tuple[float, Objective]]) -> None:
    wanted = Sum(tuple(terms))
    read = parse_objective(str(wanted))
    assert str(read) == str(wanted)
    assert read == wanted or (read == terms[0][1] and len(terms) == 1)


@pytest.mark.parametrize("text", ["", "a:1 b:2", "a:1 - ", "+ +", "a", "a:1 + b", "2 *", "* a:1"])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError):
        parse_objective(text)
