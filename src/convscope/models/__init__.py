"""The only door to the frameworks."""

from convscope.models.base import Batch, Edit, Input, Model, probabilities
from convscope.models.batch import UNKNOWN_PREPROCESS, stacked
from convscope.models.receptive import ReceptiveField
from convscope.models.zoo import load

__all__ = [
    "UNKNOWN_PREPROCESS",
    "Batch",
    "Edit",
    "Input",
    "Model",
    "ReceptiveField",
    "load",
    "probabilities",
    "stacked",
]
