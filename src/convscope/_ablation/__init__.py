"""Ablation: the accuracy drop of a classifier when some of its channels are set to a constant."""

from convscope._ablation.ablate import ablate

__all__ = ["ablate"]
