"""Similarity of channels and layers: numpy alone, on activations pooled to ``(channels, images)``.

Rows are channels and columns images, as an atlas keeps them; a memory map will do, for images are
read a block at a time. Sums are float64.
"""

from convscope._similarity.cka import cka, cka_matrix
from convscope._similarity.correlation import correlate, cosines, group
from convscope._similarity.effect_size import effect_sizes
from convscope._similarity.matching import Match, assign, match
from convscope._similarity.rank import effective_rank, expected_rank, participation_ratio, spectrum

__all__ = [
    "Match",
    "assign",
    "cka",
    "cka_matrix",
    "correlate",
    "cosines",
    "effect_sizes",
    "effective_rank",
    "expected_rank",
    "group",
    "match",
    "participation_ratio",
    "spectrum",
]
