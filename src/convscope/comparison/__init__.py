"""Comparison: what changed between two networks."""

from convscope.comparison.result import Comparison
from convscope.comparison.run import compare
from convscope.comparison.sequence import Checkpoints, checkpoints

__all__ = ["Checkpoints", "Comparison", "checkpoints", "compare"]
