"""Comparison: what changed between two networks."""

from convscope.comparison.result import Comparison
from convscope.comparison.run import compare

__all__ = ["Comparison", "compare"]
