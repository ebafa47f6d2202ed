"""The only door to the frameworks."""

from convscope._models.base import Batch, Edit, Input, Model, ModelLike, probabilities
from convscope._models.batch import UNKNOWN_PREPROCESS, stacked
from convscope._models.receptive import ReceptiveField
from convscope._models.zoo import load

__all__ = [
    "UNKNOWN_PREPROCESS",
    "Batch",
    "Edit",
    "Input",
    "Model",
    "ModelLike",
    "ReceptiveField",
    "load",
    "probabilities",
    "stacked",
]
