"""What a model sees of a picture, and the way back."""

from convscope.preprocess.text import parse_preprocess
from convscope.preprocess.view import IMAGENET_MEAN, IMAGENET_STD, Preprocess, View

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess", "View", "parse_preprocess"]
