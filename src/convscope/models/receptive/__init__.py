"""Receptive fields that hold for any graph.

While a network runs once, every operation that torch dispatches is followed by a rule that says
what each element of its result depends on: not a list of layers, but what really ran, skip
connections, branches, functions and re-used modules included. See ``spans`` for the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch

from convscope.models.capture import first_tensor, observing
from convscope.models.hooked import HookedModel, sample
from convscope.models.receptive.field import ReceptiveField
from convscope.models.receptive.tracing import tracing_receptive_fields

__all__ = ["ReceptiveField", "receptive_fields", "tracing_receptive_fields"]


def receptive_fields(
    model: HookedModel, size: tuple[int, int] | None = None
) -> dict[str, ReceptiveField]:
    """The receptive field of every result of a forward pass, by address.

    ``size`` is the height and width of the image; by default, what the model takes.
    """
    height, width = size or model.input.size or model._find_size()
    values = sample(model.input.channels, height, width)
    fields: dict[str, ReceptiveField] = {}
    with model._alone(grad=False), tracing_receptive_fields(values) as field_of:

        def keep(address: str, result: Any) -> None:
            with torch._C.DisableTorchFunction():  # what is done here is not the network's
                tensor = first_tensor(result)
                if tensor is not None:
                    fields[address] = field_of(model._standard(tensor))

        watching = observing(model.modules, model.parents, keep, fused=model._fused)
        model._run(values, watching)
    return fields
