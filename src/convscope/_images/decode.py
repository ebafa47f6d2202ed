"""Decoding images.

``decode`` turns any image into upright 8-bit RGB or gray, and notes what it had to decide on the
way.
"""

from __future__ import annotations

import io
import math
import shlex
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from convscope._errors import ConvscopeError, ImageError, closest, one_line

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".avif",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
)
MAX_PIXELS = 178_956_970  # where Pillow itself refuses, by default
# Only these are tried, whatever the file is called: some of Pillow's readers start programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_AVIF_HEADS = (b"ftypavif", b"ftypavis")
_ORIENTATION = 0x0112
_UPRIGHT = dict(
    enumerate(
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        start=2,
    )
)
_filters = threading.Lock()


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        image: Mode ``RGB`` or ``L``, upright.
        name: Its file name, or ``"image"``.
        notes: What decoding had to decide, such as ``"frame 1 of 12"``.
    """

    image: Image.Image
    name: str
    notes: tuple[str, ...] = ()


class SupportsArray(Protocol):
    """An array of any framework: numpy, torch, TensorFlow, JAX."""

    def __array__(self) -> Any: ...


ImageLike: TypeAlias = str | Path | BinaryIO | Image.Image | DecodedImage | SupportsArray
"""One image: a path, an open file, a PIL image, a uint8 array, or a model-ready float array."""

ImagesLike: TypeAlias = ImageLike | Sequence[ImageLike]
"""One image, several as a list, or an array with a batch axis."""


def is_image(source: Any) -> bool:
    """Whether ``source`` is a path, an open file, a PIL image or anything uint8."""
    if isinstance(source, (str, Path, Image.Image, DecodedImage)) or hasattr(source, "read"):
        return True
    return _type_name(source) == "uint8"


def decode(source: ImageLike, *, name: str | None = None) -> DecodedImage:
    """Decode an image.

    Rotated images (EXIF) are set upright, the first frame of an animation is taken, transparency is
    laid on white, and 16 bits are reduced to 8; ``notes`` says so.

    Args:
        source: A path, an open binary file, a PIL image, or a uint8 array: ``(H, W)``,
            ``(H, W, 1 | 3 | 4)`` or, as torchvision reads them, ``(1 | 3 | 4, H, W)``.
        name: Its name, where the source has none.

    Returns:
        The image, 8-bit RGB or gray.

    Raises:
        ImageError: Where it is no image, damaged, missing, or so large that it may be meant to
            exhaust the memory.
    """
    if isinstance(source, DecodedImage):
        return source
    if isinstance(source, (str, Path)):
        return _from_path(source, name)
    if isinstance(source, Image.Image):
        return _guarded(source, name or _last_part(getattr(source, "filename", None)))
    if hasattr(source, "read"):
        named = name or _last_part(getattr(source, "name", None))
        return _guarded(_seekable(source, named), named)
    return _normalize(_from_array(source), name or "image", [])


def pixels_of(data: bytes) -> tuple[int, int] | None:
    """Read the size of an image from its header, without decoding it.

    Args:
        data: A file's content.

    Returns:
        ``(width, height)`` in pixels; ``None`` where it is no image.

    Raises:
        ImageError: Where the image is too large to be opened.
    """
    try:
        return _open(io.BytesIO(data)).size
    except Image.DecompressionBombError:
        raise ImageError(_too_large("The image")) from None
    except Exception:  # damaged headers make Pillow raise nearly anything
        return None


@cache
def reads_avif() -> bool:
    """Whether this Pillow was built with AVIF; before 11.3 none of the published ones was."""
    return "avif" in features.modules and bool(features.check_module("avif"))


def _type_name(source: Any) -> str:
    """``"uint8"`` for the arrays of every framework; empty for what is no array."""
    dtype = getattr(source, "dtype", "")
    return str(getattr(dtype, "name", dtype)).removeprefix("torch.")


def _last_part(path: Any) -> str:
    return Path(path).name if path and isinstance(path, (str, Path)) else "image"


def _from_path(source: str | Path, name: str | None) -> DecodedImage:
    try:
        path = Path(source).expanduser()
        if not path.is_file():
            raise ImageError(_not_a_file(source, path))
        with path.open("rb") as stream:
            return _guarded(stream, name or path.name)
    except (OSError, RuntimeError) as error:  # no permission, a name too long, no such ~user
        raise ImageError(f"{str(source)!r} cannot be opened: {one_line(error)}") from None


def _not_a_file(source: str | Path, path: Path) -> str:
    if path.is_dir() and str(source):
        folder = shlex.quote(str(source))
        return f"{str(source)!r} is a folder, not an image. Give its images: {folder}/*"
    if path.exists() and str(source):
        return f"{str(source)!r} is no regular file. Write it to one first"
    if "://" in str(source):
        return f"{str(source)!r} is not fetched from the network. Download it and give the file"
    beside = (p.name for p in path.parent.iterdir()) if path.parent.is_dir() else ()
    near = closest(path.name, beside)
    return f"No image {str(source)!r}.{near} See: ls {shlex.quote(str(path.parent))}"


def _seekable(source: Any, name: str) -> BinaryIO:
    """All of an open file, as Pillow needs it; from its start where it can be rewound."""
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
    content = source.read()
    if not isinstance(content, bytes):
        raise ImageError(f"{name!r} is open as text. Open it as bytes: open(path, 'rb')")
    return io.BytesIO(content)


def _guarded(source: BinaryIO | Image.Image, name: str) -> DecodedImage:
    """``_read``, with whatever Pillow raises as an ``ImageError`` of one line."""
    try:
        return _read(source, name)
    except (ConvscopeError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name!r} {_what_else(source)}") from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name)) from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise ImageError(
            f"{name!r} cannot be decoded: {one_line(error)}. It may be damaged or cut short; "
            "fetch it again, or save it anew as PNG"
        ) from None


def _read(source: BinaryIO | Image.Image, name: str) -> DecodedImage:
    if isinstance(source, Image.Image):
        image = source
    else:
        image = _open(source)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(_too_large(name))
    # Pillow reduces 16-bit color while it reads and says so nowhere else.
    tiles = str(getattr(image, "tile", ""))
    deep = any(raw in tiles for raw in (";16B", ";16L", ";16N"))
    image.load()
    notes = ["16 bits reduced to 8"] if deep and not image.mode.startswith("I") else []
    return _normalize(image, name, notes)


def _open(stream: BinaryIO) -> Image.Image:
    with _no_warnings():
        image = Image.open(stream, formats=(*_FORMATS, *(["AVIF"] if reads_avif() else [])))
        if image.format == "TIFF":
            image.getexif()  # else its complaints come while the pixels are read
    return image


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow warns of what is refused or noted here. The filters are global, hence the lock; it is
    held while headers are read, never while pixels are."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large(name: str) -> str:
    return (
        f"{name!r} has more than {MAX_PIXELS // 10**6} million pixels; it was not opened. "
        "Reduce it first"
    )


def _what_else(source: BinaryIO | Image.Image) -> str:
    """What a file that is no image looks like."""
    avif = ", AVIF" if reads_avif() else ""
    known = f"Give JPEG, PNG, WebP{avif}, GIF, BMP, TIFF or PPM"
    if isinstance(source, Image.Image):
        return f"is not an image. {known}"
    source.seek(0)
    head = source.read(12)
    if not head:
        return f"is empty: it has no bytes. {known}"
    if head[4:] in _AVIF_HEADS and not reads_avif():
        return "is AVIF, which this Pillow does not read: pip install -U 'pillow>=11.3'"
    head = head[:8]
    return f"is not an image that is read here: it begins with {head!r}. {known}"


def _from_array(source: Any) -> Image.Image:
    kind = _type_name(source)
    if kind != "uint8":
        what = f"An array of {kind}" if kind else f"A {type(source).__name__}"
        hint = ". From 0…1: (255 * x).round().astype('uint8')" if "float" in kind else ""
        raise ImageError(f"{what} is not an image: give a file, a PIL image or uint8{hint}")
    values = np.asarray(source.cpu() if hasattr(source, "cpu") else source)
    shape = values.shape
    if values.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if 0 in shape or not (values.ndim == 2 or values.shape[2:] in ((3,), (4,))):
        raise ImageError(
            f"A uint8 array of shape {shape} is not an image. "
            "Give (height, width), (height, width, 3) or (3, height, width)"
        )
    return Image.fromarray(np.ascontiguousarray(values))


def _normalize(image: Image.Image, name: str, notes: list[str]) -> DecodedImage:
    if 0 in image.size:
        raise ImageError(f"{name!r} is {image.width}×{image.height} pixels: there is nothing in it")
    with _no_warnings():
        frames, orientation = _frames(image), image.getexif().get(_ORIENTATION, 1)
    if frames > 1:
        notes.append(f"frame {image.tell() + 1} of {frames}")
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
        notes.append("turned upright as its EXIF says")
    gray = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image, name, notes)
    if image.mode.endswith(("A", "a")) or "transparency" in image.info:
        image = _on_white(image, notes)
    if image.mode == "CMYK":
        notes.append("converted from CMYK")
    return DecodedImage(image.convert("L" if gray else "RGB"), name, tuple(notes))


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a later frame is damaged, or the file is closed; the first one is at hand
        return 1


def _to_eight_bits(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high > 65535:
        raise ImageError(
            f"{name!r} holds values from {low:g} to {high:g}; an image has 0 to 65535. "
            "Give it as a float array in the model's own scale"
        )
    if image.mode.startswith("I;16") or high > 255:
        white, note = 65535, "16 bits reduced to 8"
    elif image.mode == "F" and high <= 1:
        white, note = 1, "floats of 0 to 1 taken as black to white"
    else:
        white, note = 255, f"values of {low:g} to {high:g} taken as 8 bits"
    notes.append(note)
    return Image.fromarray(np.round(values * (255 / white)).astype(np.uint8))


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        notes.append("transparency laid on white")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")
