"""Ablation: what a network loses without some of its channels."""

from convscope.ablation.result import Ablation, Loss
from convscope.ablation.run import ablate

__all__ = ["Ablation", "Loss", "ablate"]
