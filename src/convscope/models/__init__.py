"""The only door to the frameworks."""

from convscope.models.base import Batch, Input, Model
from convscope.models.receptive import ReceptiveField
from convscope.models.zoo import load

__all__ = ["Batch", "Input", "Model", "ReceptiveField", "load"]
