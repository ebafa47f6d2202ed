"""Receptive fields that hold for any graph.

While a network runs once, every operation that torch dispatches is followed by a rule that gives
what each element of its result depends on: not a list of layers, but what really ran, skip
connections, branches, functions and re-used modules included.

- ``field``: ``ReceptiveField``, the result for one layer.
- ``tracing``: follows a pass and applies the rules.
- ``rules``: the table of rules and what they get; ``arithmetic_rules``, ``rearranging_rules`` and
  ``window_rules`` hold them by kind of operation.
- ``spans``: the arithmetic of intervals.
"""

from convscope._models.receptive_field.field import ReceptiveField
from convscope._models.receptive_field.tracing import tracing_receptive_fields

__all__ = ["ReceptiveField", "tracing_receptive_fields"]
