"""Datasets: where pictures, their ids and their labels come from."""

from convscope._data.base import Dataset, DatasetLike, Item, Subset
from convscope._data.readers import open_dataset, split_dataset
from convscope._data.shapes import Shapes

__all__ = ["Dataset", "DatasetLike", "Item", "Shapes", "Subset", "open_dataset", "split_dataset"]
