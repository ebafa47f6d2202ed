"""Datasets: where images, their ids and their labels come from.

dataset       what the rest of convscope knows of a dataset
open_dataset  from what a user gives to a dataset; splits
image_files   folders, archives and WebDataset shards of image files
idx           folders of IDX files, such as MNIST
sequences     sequences in Python; torchvision and Hugging Face datasets
shapes        the built-in dataset of drawn shapes
"""

from convscope._data.dataset import Dataset, DatasetLike, Item, Subset
from convscope._data.open_dataset import open_dataset, split_dataset
from convscope._data.shapes import ShapeFactors, Shapes

__all__ = [
    "Dataset",
    "DatasetLike",
    "Item",
    "ShapeFactors",
    "Shapes",
    "Subset",
    "open_dataset",
    "split_dataset",
]
