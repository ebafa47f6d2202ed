"""Receptive fields that hold for any graph.

While a network runs once, every operation that torch dispatches is followed by a rule that says
what each element of its result depends on: not a list of layers, but what really ran, skip
connections, branches, functions and re-used modules included. See ``spans`` for the arithmetic.
"""

from convscope._models.receptive_field.field import ReceptiveField
from convscope._models.receptive_field.tracing import tracing_receptive_fields

__all__ = ["ReceptiveField", "tracing_receptive_fields"]
