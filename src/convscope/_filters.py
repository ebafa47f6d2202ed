"""Learned filters as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UnknownLayer
from convscope._layers import Layer
from convscope._models import ModelLike, load
from convscope._plot import (
    RGB_FILTERS,
    Range,
    Section,
    Sheet,
    Theme,
    kernel_tiles,
    map_tiles,
    rgb_filter_tiles,
)


@dataclass(frozen=True, eq=False)
class Filters:
    """The learned kernels of one layer.

    Attributes:
        values: float32 ``(out, in, height, width)``; ``in`` counts the channels of one group.
        layer: The layer that holds them.
        model: The model's title.
        color: Whether the inputs are the red, green and blue of the image, in this order.
        untrained: A warning where the weights look untrained, else empty.
    """

    values: NDArray[np.float32]
    layer: Layer
    model: str
    color: bool
    untrained: str = ""

    def grid(
        self,
        *,
        first: int | None = None,
        channels: Sequence[int] | None = None,
        inputs: Sequence[int] | None = None,
        columns: int | None = None,
        range: Range = "layer",
        theme: Theme = "light",
    ) -> Sheet:
        """Draw the filters as one titled figure.

        Filters whose inputs are the image's colors are drawn in color, others as a mosaic: a row
        per output channel, a column per input channel, weights on a signed color map. A mosaic
        shows at most 24 outputs and 32 inputs unless ``first``, ``channels`` or ``inputs`` request
        more.

        Args:
            first: Number of output channels to show, from channel 0.
            channels: Output channels to show, in this order, instead of ``first``.
            inputs: Input channels to show.
            columns: Filters per row, where they are no mosaic.
            range: Colors span each ``"channel"``, the whole ``"layer"``, or ``(low, high)``.
            theme: ``"light"`` or ``"dark"``.

        Raises:
            UnknownLayer: Where there is no such channel.
        """
        outputs = self._outputs(first, channels)
        if self.color:
            tiles = rgb_filter_tiles(self.values, channels=outputs)
            section = Section("", tuple(tiles), columns)
            lines = (*self._lines(outputs, None), RGB_FILTERS)
            return Sheet(self._title(), lines, (section,), theme=theme, noun="filter")
        if self.values.shape[1] == 1:
            return self._single_input(outputs, columns, range, theme)
        outputs = outputs if first or channels is not None else outputs[:24]
        return self._mosaic(outputs, inputs, range, theme)

    def save(self, path: str | Path) -> Path:
        """Write the grid; the file's ending decides the format.

        Args:
            path: A .png, .webp, .jpg, .svg or .pdf file.

        Returns:
            The path.
        """
        return self.grid().save(path)

    def _repr_html_(self) -> str:
        return self.grid()._repr_html_()

    def __repr__(self) -> str:
        return f"Filters({self._title()}, of {self.model})"

    def _mosaic(
        self, outputs: Sequence[int], inputs: Sequence[int] | None, range: Range, theme: Theme
    ) -> Sheet:
        heads = list(inputs) if inputs is not None else list(_range(self.values.shape[1], 32))
        self._check(heads, self.values.shape[1], "input")
        tiles = kernel_tiles(self.values, outputs=outputs, inputs=heads, range=range)
        names = tuple(map(str, outputs)), tuple(map(str, heads))
        section = Section("", tuple(tiles), len(heads), *names)
        lines = (*self._lines(outputs, heads), "rows: output channels; columns: input channels")
        return Sheet(self._title(), lines, (section,), cmap="signed", theme=theme, noun="kernel")

    def _single_input(
        self, outputs: Sequence[int], columns: int | None, range: Range, theme: Theme
    ) -> Sheet:
        tiles = map_tiles(self.values[:, 0], channels=outputs, range=range, signed=True)
        section = Section("", tuple(tiles), columns)
        lines = tuple(self._lines(outputs, None))
        return Sheet(self._title(), lines, (section,), cmap="signed", theme=theme, noun="filter")

    def _title(self) -> str:
        out, into, height, width = self.values.shape
        return f"{self.layer.path} · {self.layer.kind}: {out} filters of {into}×{height}×{width}"

    def _lines(self, outputs: Sequence[int], inputs: Sequence[int] | None) -> list[str]:
        lines = [f"model {self.model}"]
        if len(outputs) < len(self.values):
            lines.append(f"{len(outputs)} of {len(self.values)} filters")
        if inputs is not None and len(inputs) < self.values.shape[1]:
            lines.append(f"{len(inputs)} of {self.values.shape[1]} input channels")
        if self.untrained:
            lines.append(self.untrained)
        return lines

    def _outputs(self, first: int | None, channels: Sequence[int] | None) -> list[int]:
        chosen = list(channels) if channels is not None else list(_range(len(self.values), first))
        self._check(chosen, len(self.values), "channel")
        return chosen

    def _check(self, chosen: Sequence[int], count: int, what: str) -> None:
        for index in chosen:
            if not 0 <= index < count:
                raise UnknownLayer(
                    f"No {what} {index} in the filters of {self.layer.path!r} of {self.model}: "
                    f"it has {count}, 0 to {count - 1}"
                )


def _range(count: int, limit: int | None) -> range:
    return range(min(count, limit or count))


def filters(model: ModelLike, layer: str) -> Filters:
    """Read the learned kernels of a layer.

    Args:
        model: A loaded model, or anything ``load`` takes.
        layer: The layer's path.

    Returns:
        The kernels, ``(out, in, height, width)``; linear layers count as 1×1, 1-D convolutions as
        1×k.

    Raises:
        UnknownLayer: Where there is no such layer, or it has no kernel.
    """
    loaded = load(model)
    (chosen,) = loaded.layers.select(layer)[:1]
    values = loaded.weights(chosen.path)
    first = next((la for la in loaded.layers if "conv" in la.families), None)
    color = chosen == first and values.ndim == 4 and values.shape[1] == loaded.input.channels == 3
    if color and loaded.input.preprocess.order == "BGR":
        values = np.ascontiguousarray(values[:, ::-1])
    return Filters(_as_kernels(values), chosen, loaded.title, color, loaded.untrained_note())


def _as_kernels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if values.ndim == 2:
        return values[:, :, None, None]
    if values.ndim == 3:
        return values[:, :, None, :]
    return values.reshape(*values.shape[:2], -1, values.shape[-1])
