"""Preprocessing: from an image to the numbers a model takes, and back to the original's pixels.

``Preprocess`` resizes, crops and normalizes; the ``PreprocessedImage`` it makes maps positions back
to the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import ImageError, UsageError, closest
from convscope._images.decode import MAX_PIXELS, DecodedImage, ImageLike, decode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_OR_MORE = {"mean": ", or one per channel", "std": ", or one per channel", "scale": ""}


@dataclass(frozen=True)
class PreprocessedImage:
    """A preprocessed image, and the way back to the original.

    Attributes:
        original: The image, upright.
        pixels: The image after resize and crop, before normalization.
        scale: Preprocessed pixels per original pixel, ``(y, x)``.
        offset: Position of the crop's corner in the resized image, ``(y, x)``; negative where the
            image was padded.
    """

    original: DecodedImage
    pixels: Image.Image
    scale: tuple[float, float]
    offset: tuple[float, float]

    @property
    def name(self) -> str:
        """The name of the original."""
        return self.original.name

    def to_original(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """Map a box from preprocessed to original pixels, clipped at the border.

        Args:
            box: ``(top, left, bottom, right)``: edges, not centers; the whole preprocessed image is
                ``(0, 0, height, width)``.

        Returns:
            The box in the original, ``(top, left, bottom, right)``.
        """
        height, width = self.original.image.height, self.original.image.width
        (sy, sx), (oy, ox) = self.scale, self.offset
        y0, x0, y1, x1 = box
        rows = [min(max((y + oy) / sy, 0.0), float(height)) for y in (y0, y1)]
        columns = [min(max((x + ox) / sx, 0.0), float(width)) for x in (x0, x1)]
        return rows[0], columns[0], rows[1], columns[1]


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of images, as a model was trained with it.

    An image is resized, cropped to ``size`` from its center, scaled to 0…1 (times ``scale`` when
    that is not 1), and normalized: ``(x - mean) / std`` per channel.

    Args:
        size: ``(height, width)`` of the model's input; ``None`` keeps the image's own size.
        resize: The shorter side before the crop, or an exact ``(height, width)``; ``None`` resizes
            so that the image just covers ``size``. What is still smaller is padded with black.
        mean: One number, or one per channel in the given ``order``, in units of 0…``scale``.
        std: Likewise.
        scale: Value of a white pixel before normalization: 1, or 255 for models that take 0…255.
        order: Channel order, ``"RGB"`` or ``"BGR"``.
        interpolation: Name of a Pillow resampling filter.
        origin: Where these values come from; shown in figures.

    Raises:
        UsageError: Where a value makes no sense.
    """

    size: tuple[int, int] | None = None
    resize: int | tuple[int, int] | None = None
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0
    order: str = "RGB"
    interpolation: str = "bilinear"
    origin: str = field(default="as given", compare=False)

    def __post_init__(self) -> None:
        for key, number in (("size", int), ("resize", int), ("mean", float), ("std", float)):
            value = getattr(self, key)
            value = value.tolist() if hasattr(value, "tolist") else value
            if isinstance(value, list):  # from a JSON file, an array
                value = tuple(map(number, value))
            object.__setattr__(self, key, value)
        _check_sides("size", self.size)
        _check_sides("resize", (self.resize,) * 2 if isinstance(self.resize, int) else self.resize)
        _check_numbers(self)
        _check_names(self)

    def at(self, size: tuple[int, int]) -> Preprocess:
        """Change the size, the resize before the crop in proportion.

        Where the aspect ratio changes, a shorter side cannot be kept: the image then just covers
        ``size``.

        Args:
            size: ``(height, width)``.
        """
        if size == self.size:
            return self
        resize: Any = None
        if isinstance(self.resize, tuple):
            sides = zip(self.resize, size, self.size or self.resize, strict=True)
            resize = tuple(max(1, round(was * new / old)) for was, new, old in sides)
        elif self.resize and self.size and size[0] * self.size[1] == size[1] * self.size[0]:
            resize = max(1, round(self.resize * size[0] / self.size[0]))
        return replace(self, size=size, resize=resize)

    def view(self, source: ImageLike, channels: int = 3) -> PreprocessedImage:
        """Resize and crop an image.

        Args:
            source: Anything ``decode`` takes.
            channels: Number of the model's input channels, 1 or 3.

        Returns:
            The preprocessed image, uint8, not yet normalized.

        Raises:
            ImageError: Where the image cannot be read, or the model takes other channels.
        """
        if channels not in (1, 3):
            raise ImageError(
                f"The model takes {channels} channels and an image has 1 or 3. "
                f"Give a float array of shape ({channels}, height, width)"
            )
        decoded = decode(source)
        image = decoded.image.convert("L" if channels == 1 else "RGB")
        resized, scale = self._resize(image)
        pixels, offset = _center_crop(resized, self.size)
        return PreprocessedImage(decoded, pixels, scale, offset)

    def normalize(self, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalize a preprocessed image.

        Args:
            image: A PIL image, or uint8 ``(H, W[, C])``.

        Returns:
            float32 ``(C, H, W)``, the model's input.
        """
        values = np.asarray(image, np.float32)
        values = values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)
        values = values[:: -1 if self.order == "BGR" else 1]
        mean, std = (self._per_channel(key, len(values)) for key in ("mean", "std"))
        scaled = values / np.float32(255 / self.scale)
        return np.ascontiguousarray((scaled - mean) / std, np.float32)

    def restore(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Invert ``normalize``; values out of range are clipped, NaN becomes black.

        Args:
            values: float32 ``(C, H, W)``.

        Returns:
            uint8 ``(H, W)`` or ``(H, W, 3)``.
        """
        mean, std = (self._per_channel(key, len(values)) for key in ("mean", "std"))
        scaled = np.nan_to_num((values * std + mean) * np.float32(255 / self.scale))
        scaled = np.rint(np.clip(scaled[:: -1 if self.order == "BGR" else 1], 0, 255))
        pixels: NDArray[np.uint8] = np.moveaxis(scaled, 0, 2).astype(np.uint8)
        return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels

    def describe(self) -> str:
        """Describe it in one line: ``resize 256, crop 224×224, 0…1, mean … (torchvision)``."""
        parts = [f"resize {_sides(self.resize)}"] if self.resize else []
        if self.size and not self.resize:
            parts.append("resize to cover")
        if self.size and self.size != self.resize:
            parts.append(f"crop {_sides(self.size)}")
        if parts and self.interpolation.lower() != "bilinear":
            parts.append(self.interpolation.lower())
        parts.append(f"0…{self.scale:g}")
        if np.any(np.asarray(self.mean) != 0) or np.any(np.asarray(self.std) != 1):
            parts.append(f"mean {_numbers(self.mean)}, std {_numbers(self.std)}")
        parts += [self.order] if self.order != "RGB" else []
        return f"{', '.join(parts)} ({self.origin})"

    def _per_channel(self, key: str, channels: int) -> NDArray[np.float32]:
        numbers = np.asarray(getattr(self, key), np.float32).reshape(-1, 1, 1)
        if len(numbers) not in (1, channels):
            raise UsageError(
                f"{key}={_numbers(getattr(self, key))} is {len(numbers)} numbers for an input of "
                f"{channels} channel{'s' * (channels > 1)}. Give one, or one per channel"
            )
        return numbers

    def _resize(self, image: Image.Image) -> tuple[Image.Image, tuple[float, float]]:
        target = self._target(image.height, image.width)
        scale = (target[0] / image.height, target[1] / image.width)
        if target == (image.height, image.width):
            return image, scale
        if target[0] * target[1] > MAX_PIXELS:  # a strip whose shorter side is a few pixels long
            raise ImageError(
                f"An image of {_sides((image.height, image.width))} (height×width) would become "
                f"{_sides(target)} for this model. Crop it first"
            )
        how = Image.Resampling[self.interpolation.upper()]
        return image.resize(target[::-1], how), scale

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize
        short = min(height, width)
        if self.resize:  # the long side is cut, not rounded, as torchvision does
            return (max(1, self.resize * height // short), max(1, self.resize * width // short))
        if self.size is None:
            return height, width
        factor = max(self.size[0] / height, self.size[1] / width)
        return (
            max(self.size[0], round(height * factor)),
            max(self.size[1], round(width * factor)),
        )


def _center_crop(
    image: Image.Image, size: tuple[int, int] | None
) -> tuple[Image.Image, tuple[float, float]]:
    """Crop (or pad with black, where the image is smaller) as torchvision's CenterCrop does."""
    if size is None or size == (image.height, image.width):
        return image, (0.0, 0.0)
    top, left = _margin(image.height - size[0]), _margin(image.width - size[1])
    box = (left, top, left + size[1], top + size[0])
    return image.crop(box), (float(top), float(left))


def _margin(spare: int) -> int:
    """Half of what is to be cut, a half to the even; of what is missing, the smaller half."""
    return round(spare / 2) if spare >= 0 else -(-spare // 2)


def _check_sides(key: str, sides: Any) -> None:
    if sides is None or (isinstance(sides, tuple) and len(sides) == 2 and min(sides) > 0):
        return
    raise UsageError(f"{key} is (height, width) in pixels, not {sides!r}. Write {key}=(32, 32)")


def _check_numbers(given: Preprocess) -> None:
    for key in ("mean", "std", "scale"):
        numbers = getattr(given, key)
        several = numbers if isinstance(numbers, tuple) and key != "scale" else (numbers,)
        if not several or not all(isinstance(n, (int, float)) and isfinite(n) for n in several):
            raise UsageError(f"{key} is a number{_OR_MORE[key]}, not {numbers!r}")
        if key != "mean" and 0 in several:
            raise UsageError(f"{key} divides, so it cannot be 0 as in {numbers!r}")


def _check_names(given: Preprocess) -> None:
    if given.interpolation.upper() not in Image.Resampling.__members__:
        known = [name.lower() for name in Image.Resampling.__members__]
        raise UsageError(
            f"No interpolation {given.interpolation!r}.{closest(given.interpolation, known)} "
            f"Known: {', '.join(known)}"
        )
    if given.order not in ("RGB", "BGR"):
        raise UsageError(f"Channel order is 'RGB' or 'BGR', not {given.order!r}")


def _sides(sides: int | tuple[int, int]) -> str:
    return f"{sides[0]}×{sides[1]}" if isinstance(sides, tuple) else str(sides)


def _numbers(values: float | tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in np.atleast_1d(np.asarray(values)))


_NAMED = {
    "imagenet": Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD, origin="--preprocess imagenet"),
    "raw": Preprocess(scale=255.0, origin="--preprocess raw"),
    "unit": Preprocess(origin="--preprocess unit"),
    "tf": Preprocess(mean=0.5, std=0.5, origin="--preprocess tf"),
    "caffe": Preprocess(
        mean=(103.939, 116.779, 123.68), scale=255.0, order="BGR", origin="--preprocess caffe"
    ),
}
_KEYS = ("resize", "crop", "mean", "std", "scale", "order", "interpolation")


def parse_preprocess(text: str) -> Preprocess:
    """Parse a preprocessing as it is given to ``--preprocess``.

    Args:
        text: ``imagenet``, ``raw`` (0…255), ``unit`` (0…1), ``tf`` or ``caffe``, pairs such as
            ``crop=224``, or a name followed by pairs, separated by commas.

    Returns:
        The preprocessing; its ``origin`` is ``text``.

    Raises:
        UsageError: Where a name, a key or a value is unknown.

    >>> parse_preprocess("resize=256,crop=224,mean=imagenet,std=imagenet").size
    (224, 224)
    >>> parse_preprocess("imagenet,crop=32x48").size
    (32, 48)
    """
    base, changes = Preprocess(origin=f"--preprocess {text}"), dict[str, Any]()
    for part in text.lower().replace(" ", "").split(","):
        key, given, value = part.partition("=")
        if not given and part in _NAMED:
            base = replace(_NAMED[part], origin=f"--preprocess {text}")
        elif given and key in _KEYS:
            changes["size" if key == "crop" else key] = _parse_value(key, value)
        elif not given and part.replace(".", "").isdigit():
            raise UsageError(
                f"{part!r} stands alone in {text!r}. Numbers of one key are parted by slashes: "
                "mean=0.5/0.5/0.5"
            )
        else:
            known = (*_NAMED, *(f"{name}=" for name in _KEYS))
            raise UsageError(
                f"No preprocessing {part!r}.{closest(part, known)} Known: {', '.join(known)}"
            )
    return replace(base, **changes)


def _parse_value(key: str, value: str) -> Any:
    if key in ("order", "interpolation"):
        return value.upper() if key == "order" else value
    if key in ("mean", "std") and value == "imagenet":
        return IMAGENET_MEAN if key == "mean" else IMAGENET_STD
    try:
        if key in ("crop", "resize"):
            sides = tuple(int(side) for side in value.split("x"))
            if len(sides) > 2 or min(sides) < 1:
                raise ValueError
            if key == "resize":
                return sides[0] if len(sides) == 1 else sides
            return sides * 2 if len(sides) == 1 else sides
        numbers = tuple(float(number) for number in value.split("/"))
        return numbers[0] if len(numbers) == 1 else numbers
    except ValueError:
        raise UsageError(
            f"{key}={value} is not understood. Write crop=224 or crop=224x160, "
            "mean=0.5 or mean=0.485/0.456/0.406"
        ) from None
