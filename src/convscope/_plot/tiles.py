"""Tiles: one map, kernel or image each, already in colors. A sheet puts them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convscope._errors import UsageError
from convscope._plot.colors import NAN, POS_INF, RESERVED
from convscope._plot.overlay import overlay
from convscope._plot.quantize import NOISE, Quantized, Range, State, quantize
from convscope._plot.text import number

NAN_SPAN = float("nan")
_STRIP = 8  # times as wide as high is the strip that stands for a line of values
_HIGHEST_STRIP = 24


class Frame(NamedTuple):
    """A rectangle to draw on a tile, in the tile's own pixels; bottom and right are excluded."""

    top: int
    left: int
    bottom: int
    right: int
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Tile:
    """One map, kernel or image.

    Attributes:
        pixels: uint8 palette indices ``(H, W)`` (see ``colors``), or RGB ``(H, W, 3)``.
        label: What it is, such as the channel number.
        note: Small print beside the label.
        low: Value at the lower end of the color map; NaN in a plain image.
        high: Value at the upper end.
        minimum: Lowest finite value shown.
        maximum: Highest finite value shown.
        state: ``"live"``, ``"zero"`` (every value exactly 0), ``"constant"``, ``"nan"`` or
            ``"inf"`` (some values are not finite), ``"image"`` (RGB; no values).
        frames: Rectangles drawn on it, at the scale at which it is shown.
    """

    pixels: NDArray[np.uint8]
    label: str = ""
    note: str = ""
    low: float = NAN_SPAN
    high: float = NAN_SPAN
    minimum: float = NAN_SPAN
    maximum: float = NAN_SPAN
    state: State | Literal["image"] = "image"
    frames: tuple[Frame, ...] = ()

    def __post_init__(self) -> None:
        height, width = self.pixels.shape[:2]
        for top, left, bottom, right, _ in self.frames:
            if not (0 <= top < bottom <= height and 0 <= left < right <= width):
                raise UsageError(
                    f"A frame of rows {top} to {bottom} and columns {left} to {right} is not "
                    f"inside a tile of {height}×{width}."
                )
        shape, kind = self.pixels.shape, self.pixels.dtype
        fits = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        if kind != np.uint8 or not fits or self.pixels.size == 0:
            raise UsageError(
                f"A tile needs (height, width) or (height, width, 3) uint8, not {shape} {kind}. "
                "Use map_tiles for values, image_tile for images."
            )

    @cached_property
    def repeats(self) -> int:
        """How often its rows are drawn: those of a line several times, to make a strip of it."""
        height, width = self.pixels.shape[:2]
        return min(max(1, width // _STRIP), _HIGHEST_STRIP) if height == 1 else 1

    @property
    def drawn(self) -> NDArray[np.uint8]:
        """``pixels`` with its rows as often as they are drawn."""
        return self.pixels if self.repeats == 1 else np.repeat(self.pixels, self.repeats, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of ``drawn``."""
        return self.pixels.shape[0] * self.repeats, self.pixels.shape[1]

    @property
    def colored(self) -> bool:
        """Whether its colors stand for values of the sheet's color map."""
        return self.low == self.low  # not NaN

    @cached_property
    def marks(self) -> tuple[int, ...]:
        """Which reserved indices (NaN, +inf, −inf) it shows; empty where all is finite."""
        if self.state not in ("nan", "inf"):
            return ()
        if self.pixels.ndim == 2:
            return tuple(i for i in RESERVED if (self.pixels == i).any())
        marks = [i for i, rgb in RESERVED.items() if (self.pixels == rgb).all(axis=2).any()]
        return tuple(marks) or (NAN if self.state == "nan" else POS_INF,)

    @property
    def clipped(self) -> bool:
        """Whether some values lie outside the span of the colors."""
        return self.minimum < self.low or self.maximum > self.high


@dataclass(frozen=True)
class Section:
    """A titled block of tiles.

    Attributes:
        heading: The title.
        tiles: The tiles, row by row.
        columns: Tiles in a row; by default what makes a well-proportioned sheet.
        rows: Names of the rows; with ``rows`` or ``heads`` the block is a dense matrix, and its
            tiles carry no text of their own.
        heads: Names of the columns.
    """

    heading: str
    tiles: tuple[Tile, ...]
    columns: int | None = None
    rows: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.tiles:
            raise UsageError(f"Section {self.heading!r} has no tiles. Give at least one.")
        if self.columns is not None and self.columns < 1:
            raise UsageError(f"A grid needs 1 column or more, not {self.columns}. Nearest: 1.")

    @property
    def matrix(self) -> bool:
        """Whether rows and columns are named instead of tiles."""
        return bool(self.rows or self.heads)


def map_tiles(
    values: NDArray[Any],
    *,
    channels: Sequence[int] | None = None,
    range: Range = "channel",
    signed: bool = False,
    labels: Sequence[str] | None = None,
) -> list[Tile]:
    """Make a tile of each feature map.

    Args:
        values: ``(C, H, W)``.
        channels: Channels to show, in this order; all by default.
        range: Colors span each ``"channel"``, the whole ``"layer"`` (all of ``values``, not only
            the chosen channels), or ``(low, high)``.
        signed: Make spans symmetric about zero, for the color map ``signed``.
        labels: One label per tile instead of the channel numbers.

    Returns:
        One tile per channel.

    Raises:
        UsageError: Where the shape, the range, a channel or the number of labels does not suit.

    >>> [tile.state for tile in map_tiles(np.stack([np.zeros((4, 4)), np.eye(4)]))]
    ['zero', 'live']
    """
    quantized = quantize(values, range, channels=channels, signed=signed)
    if labels is None:
        numbers = np.arange(len(values)) if channels is None else channels
        labels = [str(int(number)) for number in numbers]
    if len(labels) != len(quantized.indices):
        raise UsageError(
            f"{len(labels)} labels for {len(quantized.indices)} maps. Give one for each."
        )
    return _tiles(quantized, labels)


def _tiles(quantized: Quantized, labels: Sequence[str]) -> list[Tile]:
    ends = (
        span.tolist()
        for span in (quantized.low, quantized.high, quantized.minimum, quantized.maximum)
    )
    rows = zip(quantized.indices, labels, *ends, quantized.states, strict=True)
    return [Tile(pixels, label, "", *rest) for pixels, label, *rest in rows]


def image_tile(image: ArrayLike, label: str = "", note: str = "") -> Tile:
    """Make a tile of an image as it is.

    Args:
        image: uint8 ``(H, W, 3)``, or gray ``(H, W)``.
        label: What it is.
        note: Small print beside the label.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return Tile(pixels, label, note)


def overlay_tile(
    image: NDArray[np.uint8],
    values: NDArray[Any],
    label: str = "",
    note: str = "",
    *,
    cmap: str = "viridis",
    range: Range = "channel",
    opacity: float = 0.6,
    box: tuple[int, int, int, int] | None = None,
    fade: bool = False,
) -> Tile:
    """Make a tile of a map laid over an image; see ``overlay``.

    Args:
        image: uint8 ``(H, W, 3)``.
        values: The map, ``(h, w)``.
        label: What it is.
        note: Small print beside the label.
        cmap: Name of the color map.
        range: Colors span the map's own extremes, or ``(low, high)``.
        opacity: 0 (only the image) … 1 (only the map).
        box: Left, top, right and bottom of the map in the image's pixels; by default all of it.
        fade: Show more of the image where a value is near 0.

    Raises:
        UsageError: Where a shape, the range, the box or the opacity does not suit.
    """
    quantized = quantize(np.asarray(values)[None], range, signed=cmap == "signed")
    low, high = float(quantized.low[0]), float(quantized.high[0])
    pixels = overlay(
        image, values, cmap=cmap, low=low, high=high, opacity=opacity, box=box, fade=fade
    )
    minimum, maximum = float(quantized.minimum[0]), float(quantized.maximum[0])
    return Tile(pixels, label, note, low, high, minimum, maximum, quantized.states[0])


def rgb_filter_tiles(weights: NDArray[Any], *, channels: Sequence[int] | None = None) -> list[Tile]:
    """Make a tile of each first-layer filter, in color: mid-gray is 0, see ``RGB_FILTERS``.

    Args:
        weights: ``(O, 3, kh, kw)``.
        channels: Output channels to show, in this order; all by default.

    Raises:
        UsageError: Where the filters do not have 3 input channels.
    """
    block = _weights(weights)
    if block.shape[1] != 3:
        raise UsageError(
            f"RGB filters need 3 input channels, not {block.shape[1]}. Use kernel_tiles instead."
        )
    chosen = np.arange(len(block)) if channels is None else np.asarray(list(channels), np.intp)
    return [_rgb_filter(block[index], str(index)) for index in chosen]


def _rgb_filter(weights: NDArray[np.float32], label: str) -> Tile:
    finite = np.isfinite(weights)
    known = np.where(finite, weights, 0)
    magnitude = float(np.abs(known).max())
    levels = np.rint(127.5 + 127.5 * known / (magnitude or 1.0)).astype(np.uint8)
    pixels = np.ascontiguousarray(levels.transpose(1, 2, 0))
    state: State | Literal["image"] = "image"
    if not finite.all():
        state = "nan" if np.isnan(weights).any() else "inf"
        pixels[~finite.all(axis=0)] = RESERVED[NAN if state == "nan" else POS_INF]
    elif np.ptp(known) <= NOISE * magnitude:
        state = "constant" if magnitude else "zero"
    note = f"±{number(magnitude)}" if state == "image" else ""
    ends = (float(known.min()), float(known.max()))
    return Tile(pixels, label, note, minimum=ends[0], maximum=ends[1], state=state)


RGB_FILTERS = "weights as red, green, blue: mid-gray = 0, each filter ± its own largest weight"


def kernel_tiles(
    weights: NDArray[Any],
    *,
    outputs: Sequence[int] | None = None,
    inputs: Sequence[int] | None = None,
    range: Range = "layer",
) -> list[Tile]:
    """Make a signed tile of each kernel, for a section with ``rows`` and ``heads``.

    Args:
        weights: ``(O, I, kh, kw)``.
        outputs: Output channels to show, in this order; all by default.
        inputs: Input channels to show, in this order; all by default.
        range: Colors span each kernel (``"channel"``), the whole ``"layer"``, or ``(low, high)``.

    Returns:
        One tile per kernel, output by output.

    Raises:
        UsageError: Where ``weights`` does not have four axes.
    """
    block = _weights(weights)
    rows = np.arange(block.shape[0]) if outputs is None else np.asarray(list(outputs), np.intp)
    heads = np.arange(block.shape[1]) if inputs is None else np.asarray(list(inputs), np.intp)
    flat = block.reshape(-1, *block.shape[2:])
    chosen = (rows[:, None] * block.shape[1] + heads).reshape(-1)
    labels = [f"{o}←{i}" for o in rows for i in heads]
    return map_tiles(flat, channels=chosen.tolist(), range=range, signed=True, labels=labels)


def _weights(weights: NDArray[Any]) -> NDArray[np.float32]:
    block = np.asarray(weights, dtype=np.float32)
    if block.ndim != 4:
        raise UsageError(
            f"Filters need shape (outputs, inputs, height, width), not {block.shape}. "
            "Pass the weights of a convolution."
        )
    return block
