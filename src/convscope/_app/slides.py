"""Pictures as they lie under the microscope, and what a layer makes of one in brief."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._app import wire
from convscope._app.captured import Floats
from convscope._errors import UsageError
from convscope._images import Picture, decode, is_picture
from convscope._images.arrays import ARRAY_SUFFIX, read_array
from convscope._models import Batch, Model, summarize_input

_SHOWN = 1280  # an original is shown with at most so many pixels a side


@dataclass(frozen=True, eq=False)
class Numbers:
    """One image that is no picture: floats, ready for the network, in its own layout."""

    values: Any
    name: str = "array"


Given = Picture | Numbers


def given(source: Any) -> Given:
    """What a caller gave to look at: a picture, or numbers (an array, a ``.npy`` file)."""
    if isinstance(source, (str, Path)) and Path(source).suffix.lower() == ARRAY_SUFFIX:
        values, name = read_array(source), Path(source).name
        return decode(values, name=name) if values.dtype == np.uint8 else Numbers(values, name)
    return decode(source) if is_picture(source) else Numbers(source)


@dataclass(frozen=True, eq=False)
class Slide:
    """A picture under the microscope.

    - ``id``: a checksum of its bytes and of the size that was asked for: the same for every network
    - ``batch``: as the model takes it; ``original``: height and width of the picture that was given
    - ``shown``: that picture, reduced where it is large; ``seen``: ``(h, w, 3)`` uint8
    - ``lines``: what was done to it
    """

    id: str
    name: str
    batch: Batch
    original: tuple[int, int]
    shown: Image.Image
    seen: NDArray[np.uint8]
    scale: tuple[float, float]
    offset: tuple[float, float]
    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Glance:
    """A layer on one picture, in brief: its mean map, and what its channels are."""

    layer: int
    shape: tuple[int, int, int]
    mean: Floats
    zero: int
    constant: int
    odd: int
    low: float
    high: float


def make_slide(model: Model, picture: Given, size: Any = None) -> Slide:
    """A picture prepared for a network, at ``size`` or the network's own; numbers as they are."""
    if isinstance(picture, Numbers):
        return _slide_of_numbers(model, picture)
    batch = model.prepare(picture, size=size)
    specimen = summarize_input(model, batch)
    assert batch.views is not None  # it is a picture
    view = batch.views[0]
    shown = picture.image.convert("RGB")
    if max(shown.size) > _SHOWN:
        shown.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
    light = replace(view, original=replace(picture, image=shown))  # a large original is let go
    return Slide(
        _checksum(picture, size),
        picture.name,
        replace(batch, views=(light,)),
        (picture.image.height, picture.image.width),
        shown,
        specimen.preprocessed,
        view.scale,
        view.offset,
        specimen.lines,
    )


def _slide_of_numbers(model: Model, numbers: Numbers) -> Slide:
    """Numbers stand for themselves: what is shown of them is drawn."""
    batch = model.prepare(numbers.values)
    if len(batch) > 1:
        raise UsageError(f"An array of {len(batch)} images was given for one. Give them one by one")
    batch = replace(batch, names=(numbers.name,), single=True)
    specimen, digest = summarize_input(model, batch), hashlib.sha256(batch.values.numpy().tobytes())
    return Slide(
        digest.hexdigest()[:16],
        numbers.name,
        batch,
        batch.size,
        Image.fromarray(specimen.preprocessed),
        specimen.preprocessed,
        (1.0, 1.0),
        (0.0, 0.0),
        specimen.lines,
    )


def _checksum(picture: Picture, size: Any) -> str:
    digest = hashlib.sha256(f"{picture.image.mode} {picture.image.size} {size}".encode())
    digest.update(picture.image.tobytes())
    return digest.hexdigest()[:16]


def make_glance(index: int, values: Floats) -> Glance:
    """A layer's maps ``(C, H, W)`` in brief."""
    low, high, state = wire.extremes(values)
    count, flat = len(values), values.reshape(len(values), -1)
    with np.errstate(invalid="ignore", over="ignore"):  # as a product: all layers are waited for
        mean = (np.full(count, 1 / count, np.float32) @ flat).reshape(values.shape[1:])
    return Glance(
        index,
        (values.shape[0], values.shape[1], values.shape[2]),
        wire.pooled(mean[None], 24)[0],
        int((state == wire.ZERO).sum()),
        int((state == wire.CONSTANT).sum()),
        int((state >= wire.HOLDS_NAN).sum()),
        float(low.min()),
        float(high.max()),
    )
