"""Ablation: what a network loses without some of its channels."""

from convscope._ablation.result import Ablation, Loss
from convscope._ablation.run import ablate

__all__ = ["Ablation", "Loss", "ablate"]
