"""Objectives as people type them: ``conv2:3``, ``conv2:3 - 0.5 * conv2:7``."""

from __future__ import annotations

from typing import Any

from convscope._errors import UsageError
from convscope._layers import parse_address
from convscope._models import Model
from convscope._optvis.image_objectives import ActivationGrid
from convscope._optvis.objectives import Channel, Logit, Neuron, Objective, Sum

_SHAPE = "Write PATH:CHANNEL, or sums with spaces around the signs: conv2:3 - 0.5 * conv2:7"


def objectives(model: Model, wanted: Any) -> list[Objective]:
    """What is wanted, one objective each; the address of a layer stands for all its channels."""
    if isinstance(wanted, Objective):
        return [wanted.on(model)]
    if isinstance(wanted, ActivationGrid):
        return wanted.cells(model)
    if isinstance(wanted, str):
        return _typed(model, wanted)
    if isinstance(wanted, (list, tuple)) and wanted:
        return [one for item in wanted for one in objectives(model, item)]
    raise UsageError(f"{wanted!r} is nothing to maximize. {_SHAPE}")


def _typed(model: Model, text: str) -> list[Objective]:
    if any(layer.path == text for layer in model.layers) or (
        len(text.split()) == 1 and parse_address(text).channel is None
    ):
        layer, _ = model.layers.at(text)
        return [Channel(layer.path, k) for k in range(layer.channels)]
    return [parse_objective(text).on(model)]


def parse_objective(text: str) -> Objective:
    """Read a unit or a weighted sum of units; ``class:3``, ``class:tabby_cat`` are class scores.

    >>> print(parse_objective("conv2:3 - 0.5 * conv2:7"))
    conv2:3 - 0.5 * conv2:7
    >>> print(parse_objective("- conv2:3@4,5"))
    - conv2:3@4,5
    """
    terms: list[tuple[float, Objective]] = []
    sign, factor, open_term = 1.0, 1.0, True
    words = text.split()
    for index, word in enumerate(words):
        if word in ("+", "-") and (not open_term or index == 0):
            sign, factor, open_term = (-1.0 if word == "-" else 1.0), 1.0, True
        elif word == "*" and open_term and index and _number(words[index - 1]) is not None:
            continue
        elif open_term and words[index + 1 : index + 2] == ["*"] and _number(word) is not None:
            factor *= _number(word) or 0.0
        elif open_term:
            terms.append((sign * factor, _unit(word, text)))
            open_term = False
        else:
            raise UsageError(f"{text!r} is not understood at {word!r}. {_SHAPE}")
    if open_term:
        raise UsageError(f"{text!r} ends where a unit is missing. {_SHAPE}")
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else Sum(tuple(terms))


def _unit(word: str, text: str) -> Objective:
    if word.startswith("class:"):
        name = word.removeprefix("class:")
        return Logit(int(name) if name.isdecimal() else name.replace("_", " "))
    where = parse_address(word)
    if where.channel is None:
        raise UsageError(f"{word!r} in {text!r} names no channel. {_SHAPE}")
    if where.position is None:
        return Channel(where.path, where.channel)
    return Neuron(where.path, where.channel, where.position)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
