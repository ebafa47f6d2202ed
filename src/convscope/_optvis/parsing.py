"""Objectives from text: ``conv2:3``, ``conv2:3 - 0.5 * conv2:7``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from convscope._errors import UsageError
from convscope._layers import parse_address
from convscope._models import Model
from convscope._optvis.image_objectives import ActivationGrid
from convscope._optvis.objectives import Channel, Logit, Neuron, Objective, Sum

ObjectiveLike: TypeAlias = str | Objective | ActivationGrid
"""An address, a sum of addresses, an objective or an activation grid."""

_SYNTAX = "Write PATH:CHANNEL, or sums with spaces around the signs: conv2:3 - 0.5 * conv2:7"


def parse_objectives(
    model: Model, objective: ObjectiveLike | Sequence[ObjectiveLike]
) -> list[Objective]:
    """Return the objectives that are meant; the path of a layer stands for all its channels."""
    if isinstance(objective, Objective):
        return [objective.resolve(model)]
    if isinstance(objective, ActivationGrid):
        return objective.cells(model)
    if isinstance(objective, str):
        return _parse_text(model, objective)
    if isinstance(objective, (list, tuple)) and objective:
        return [one for item in objective for one in parse_objectives(model, item)]
    raise UsageError(f"{objective!r} is not an objective. {_SYNTAX}")


def _parse_text(model: Model, text: str) -> list[Objective]:
    if any(layer.path == text for layer in model.layers) or (
        len(text.split()) == 1 and parse_address(text).channel is None
    ):
        layer, _ = model.layers.at(text)
        return [Channel(layer.path, k) for k in range(layer.channels)]
    return [parse_objective(text).resolve(model)]


def parse_objective(text: str) -> Objective:
    """Read a unit or a weighted sum of units; ``class:3`` and ``class:tabby_cat`` are logits.

    >>> print(parse_objective("conv2:3 - 0.5 * conv2:7"))
    conv2:3 - 0.5 * conv2:7
    >>> print(parse_objective("- conv2:3@4,5"))
    - conv2:3@4,5
    """
    terms: list[tuple[float, Objective]] = []
    sign, factor, unit_expected = 1.0, 1.0, True
    words = text.split()
    for index, word in enumerate(words):
        if word in ("+", "-") and (not unit_expected or index == 0):
            sign, factor, unit_expected = (-1.0 if word == "-" else 1.0), 1.0, True
        elif word == "*" and unit_expected and index and _number(words[index - 1]) is not None:
            continue
        elif unit_expected and words[index + 1 : index + 2] == ["*"] and _number(word) is not None:
            factor *= _number(word) or 0.0
        elif unit_expected:
            terms.append((sign * factor, _parse_unit(word, text)))
            unit_expected = False
        else:
            raise UsageError(f"Cannot read {text!r} at {word!r}. {_SYNTAX}")
    if unit_expected:
        raise UsageError(f"{text!r} ends where a unit is missing. {_SYNTAX}")
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else Sum(tuple(terms))


def _parse_unit(word: str, text: str) -> Objective:
    if word.startswith("class:"):
        name = word.removeprefix("class:")
        return Logit(int(name) if name.isdecimal() else name.replace("_", " "))
    address = parse_address(word)
    if address.channel is None:
        raise UsageError(f"{word!r} in {text!r} names no channel. {_SYNTAX}")
    if address.position is None:
        return Channel(address.path, address.channel)
    return Neuron(address.path, address.channel, address.position)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
