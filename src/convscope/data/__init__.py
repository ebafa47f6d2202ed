"""Datasets: where pictures, their ids and their labels come from."""

from convscope.data.base import Dataset, Subset
from convscope.data.readers import open_dataset, split_dataset
from convscope.data.shapes import Shapes

__all__ = ["Dataset", "Shapes", "Subset", "open_dataset", "split_dataset"]
