"""The only door to the frameworks."""

from convscope.models.base import Batch, Edit, Input, Model, probabilities
from convscope.models.receptive import ReceptiveField
from convscope.models.streaming import out_of_memory
from convscope.models.zoo import load

__all__ = [
    "Batch",
    "Edit",
    "Input",
    "Model",
    "ReceptiveField",
    "load",
    "out_of_memory",
    "probabilities",
]
