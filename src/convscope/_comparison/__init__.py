"""Comparison: what changed between two networks, or over the checkpoints of one."""

from convscope._comparison.checkpoint_sequence import CheckpointSequence, checkpoints
from convscope._comparison.comparison import Comparison, compare

__all__ = ["CheckpointSequence", "Comparison", "checkpoints", "compare"]
