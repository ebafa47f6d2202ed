"""Images: decoding files and arrays, and the preprocessing that turns them into model inputs."""

from convscope._images.decode import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    DecodedImage,
    ImageLike,
    ImagesLike,
    SupportsArray,
    decode,
    is_image,
    pixels_of,
)
from convscope._images.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocess,
    PreprocessedImage,
    parse_preprocess,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "DecodedImage",
    "ImageLike",
    "ImagesLike",
    "Preprocess",
    "PreprocessedImage",
    "SupportsArray",
    "decode",
    "is_image",
    "parse_preprocess",
    "pixels_of",
]
