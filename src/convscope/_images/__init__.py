"""Images: decoding files and arrays, and the preprocessing that turns them into model inputs."""

from convscope._images.decode import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    ImageLike,
    ImagesLike,
    Picture,
    SupportsArray,
    decode,
    is_picture,
    pixels_of,
)
from convscope._images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, View
from convscope._images.preprocess_spec import parse_preprocess

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ImageLike",
    "ImagesLike",
    "Picture",
    "Preprocess",
    "SupportsArray",
    "View",
    "decode",
    "is_picture",
    "parse_preprocess",
    "pixels_of",
]
