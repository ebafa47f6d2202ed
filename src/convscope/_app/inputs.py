"""Input images: as users give them, as a network takes them, and those that the app offers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._app import wire
from convscope._data import open_dataset
from convscope._errors import UsageError
from convscope._images import DecodedImage, ImageLike, ImagesLike, decode, is_image
from convscope._images.arrays import ARRAY_SUFFIX, read_array
from convscope._models import Batch, Model, summarize_input

Size = int | tuple[int, int] | None
"""The size at which a network is shown an image: a side, height and width, or the network's own."""

_MAX_SHOWN_SIDE = 1280  # of an original on the page
_PHOTOGRAPHS = ("cat", "coffee", "rocket")  # of scikit-image, where it is installed
_SHAPES = 3


@dataclass(frozen=True, eq=False)
class ArrayInput:
    """One image that is a float array ready for the network, in the network's own layout."""

    values: Any
    name: str = "array"


InputSource = DecodedImage | ArrayInput


def list_images(images: ImagesLike) -> list[ImageLike]:
    """Several images as they are, a single one as a list of one."""
    several = isinstance(images, (list, tuple))
    return list(cast(Sequence[ImageLike], images)) if several else [cast(ImageLike, images)]


def read_input(source: ImageLike) -> InputSource:
    """Read what a user gives: an image that will be preprocessed, or a model-ready array."""
    if isinstance(source, (str, Path)) and Path(source).suffix.lower() == ARRAY_SUFFIX:
        values, name = read_array(source), Path(source).name
        return decode(values, name=name) if values.dtype == np.uint8 else ArrayInput(values, name)
    return decode(source) if is_image(source) else ArrayInput(source)


@dataclass(frozen=True, eq=False)
class InputImage:
    """An image prepared for one network.

    Attributes:
        id: Checksum of its pixels and of the size that was chosen, the same for every network.
        name: File name, or what stands for one.
        batch: What the network takes.
        original_size: Height and width of the image that was given.
        original: That image, reduced where it is large.
        preprocessed: Pixels of the preprocessed input, ``(h, w, 3)`` uint8.
        scale: Pixels of the preprocessed input for one of the original, vertical and horizontal.
        offset: Rows and columns of the scaled original that were cropped away.
        preprocessing: The steps of preprocessing, in words.
    """

    id: str
    name: str
    batch: Batch
    original_size: tuple[int, int]
    original: Image.Image
    preprocessed: NDArray[np.uint8]
    scale: tuple[float, float]
    offset: tuple[float, float]
    preprocessing: tuple[str, ...]


def prepare_input(model: Model, source: InputSource, size: Size = None) -> InputImage:
    """Prepare an image for a network, at ``size`` or the network's own; arrays as they are."""
    if isinstance(source, ArrayInput):
        return _prepare_array(model, source)
    batch = model.prepare(source, size=size)
    summary = summarize_input(model, batch)
    assert batch.views is not None  # it is an image that was preprocessed
    view = batch.views[0]
    shown = source.image.convert("RGB")
    if max(shown.size) > _MAX_SHOWN_SIDE:
        shown.thumbnail((_MAX_SHOWN_SIDE, _MAX_SHOWN_SIDE), Image.Resampling.LANCZOS)
    light = replace(view, original=replace(source, image=shown))  # frees a large original
    return InputImage(
        _checksum(source, size),
        source.name,
        replace(batch, views=(light,)),
        (source.image.height, source.image.width),
        shown,
        summary.preprocessed,
        view.scale,
        view.offset,
        summary.lines,
    )


def _prepare_array(model: Model, array: ArrayInput) -> InputImage:
    """The figure of the array stands for the original, too."""
    batch = model.prepare(array.values)
    if len(batch) > 1:
        raise UsageError(f"An array of {len(batch)} images was given for one. Give them one by one")
    batch = replace(batch, names=(array.name,), single=True)
    summary, digest = summarize_input(model, batch), hashlib.sha256(batch.values.numpy().tobytes())
    return InputImage(
        digest.hexdigest()[:16],
        array.name,
        batch,
        batch.size,
        Image.fromarray(summary.preprocessed),
        summary.preprocessed,
        (1.0, 1.0),
        (0.0, 0.0),
        summary.lines,
    )


def _checksum(source: DecodedImage, size: Size) -> str:
    digest = hashlib.sha256(f"{source.image.mode} {source.image.size} {size}".encode())
    digest.update(source.image.tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class LayerSummary:
    """The maps of one layer on one image, in brief.

    Attributes:
        layer: Index of the layer.
        shape: Of its maps, ``(C, H, W)``.
        mean: Mean over the channels, max-pooled to a thumbnail ``(h, w)``.
        inactive: Number of channels that are zero at every position.
        constant: Number of channels that have one other value at every position.
        non_finite: Number of channels that hold NaN or infinity.
        minimum: Smallest finite value.
        maximum: Largest finite value.
    """

    layer: int
    shape: tuple[int, int, int]
    mean: wire.Floats
    inactive: int
    constant: int
    non_finite: int
    minimum: float
    maximum: float


def summarize_layer(index: int, maps: wire.Floats) -> LayerSummary:
    """Summarize the maps ``(C, H, W)`` of a layer."""
    low, high, state = wire.extremes(maps)
    count, flat = len(maps), maps.reshape(len(maps), -1)
    with np.errstate(invalid="ignore", over="ignore"):  # a product is faster than a mean
        mean = (np.full(count, 1 / count, np.float32) @ flat).reshape(maps.shape[1:])
    return LayerSummary(
        index,
        (maps.shape[0], maps.shape[1], maps.shape[2]),
        wire.max_pool(mean[None], wire.THUMBNAIL_SIDE)[0],
        int((state == wire.ZERO).sum()),
        int((state == wire.CONSTANT).sum()),
        int((state >= wire.HOLDS_NAN).sum()),
        float(low.min()),
        float(high.max()),
    )


# Images that the app offers


def demo_images(images: Iterable[ImageLike] = ()) -> Mapping[str, Callable[[], InputSource]]:
    """Images to choose from, by name: those given, photographs, drawn shapes."""
    own = {source.name: partial(_itself, source) for source in map(read_input, images)}
    return {**own, **_photographs(), **_shapes()}


def _itself(source: InputSource) -> InputSource:
    return source


def _photographs() -> dict[str, Callable[[], DecodedImage]]:
    try:
        data = import_module("skimage.data")
    except ModuleNotFoundError:
        return {}

    def photograph(name: str) -> DecodedImage:
        return decode(getattr(data, name)(), name=name)

    return {name: partial(photograph, name) for name in _PHOTOGRAPHS}


def _shapes() -> dict[str, Callable[[], DecodedImage]]:
    dataset = open_dataset("shapes")

    def shape(name: str, index: int) -> DecodedImage:
        return decode(dataset.image(index), name=name)

    names = [f"shape {k + 1}" for k in range(_SHAPES)]
    return {name: partial(shape, name, k) for k, name in enumerate(names)}
