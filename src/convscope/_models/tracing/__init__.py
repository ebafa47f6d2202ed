"""What each result depends on, followed through one pass: which images of the batch, which part of
each image, and where on a grid its elements stand.

While a network runs once, every operation that torch dispatches is followed by a rule that says how
it passes on what it reads: not a list of layers, but what really ran, skip connections, branches,
functions and re-used modules included.

- ``tracer``: follows a pass and applies the rules.
- ``rules``: the one table of rules; ``arithmetic_rules``, ``rearranging_rules`` and
  ``window_rules`` hold them by kind of operation; ``calls`` is what they get.
- ``spans``: the arithmetic of intervals; ``places``: the rules for places on a grid.
- ``field``: ``ReceptiveField``, the result for one layer.
"""

from convscope._models.tracing.calls import COLUMNS, IMAGES, PLACE, ROWS, Dependence
from convscope._models.tracing.field import ReceptiveField
from convscope._models.tracing.tracer import Tracer, tracing

__all__ = [
    "COLUMNS",
    "IMAGES",
    "PLACE",
    "ROWS",
    "Dependence",
    "ReceptiveField",
    "Tracer",
    "tracing",
]
