"""Comparison: what changed between two networks."""

from convscope._comparison.result import Comparison
from convscope._comparison.run import compare
from convscope._comparison.sequence import Checkpoints, checkpoints

__all__ = ["Checkpoints", "Comparison", "checkpoints", "compare"]
