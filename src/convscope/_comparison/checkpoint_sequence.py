"""``checkpoints``: the feature maps of one image over the checkpoints of one network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import ModelError, UsageError
from convscope._images import ImageLike
from convscope._io import write_bytes
from convscope._models import InputSummary, Model, ModelLike, load, probabilities, summarize_input
from convscope._plot import Section, Sheet, Theme, Tile, map_tiles
from convscope._plot.animation import animated_webp

_MILLISECONDS = 600
_SHOWN_CHANNELS = 8
_COLORS = "colors: each channel from its lowest (0) to its highest value (1) over all checkpoints"


@dataclass(frozen=True, eq=False)
class CheckpointSequence:
    """The feature maps of one image in several checkpoints of one network.

    Attributes:
        names: The names of the checkpoints.
        predictions: The class each checkpoint predicts, with its probability.
        maps: Feature maps ``(checkpoints, C, h, w)`` by layer path.
        input_summary: The image and its preprocessing.
    """

    names: tuple[str, ...]
    predictions: tuple[str, ...]
    maps: dict[str, NDArray[np.float32]]
    input_summary: InputSummary

    def sentence(self) -> str:
        """Return how the prediction changed, and where the maps changed most.

        Returns:
            One sentence.
        """
        changes = {path: _relative_changes(values) for path, values in self.maps.items()}
        path = max(changes, key=lambda path: float(changes[path].max()))
        step = int(changes[path].argmax())
        return (
            f"from {self.names[0]} to {self.names[-1]}: {self.predictions[0]} → "
            f"{self.predictions[-1]}; the largest change is in {path}, from {self.names[step]} to "
            f"{self.names[step + 1]} ({changes[path][step]:.0%} of its mean magnitude)"
        )

    def sheet(self, *, max_channels: int = _SHOWN_CHANNELS, theme: Theme = "light") -> Sheet:
        """Return a figure with a row for each channel and a column for each checkpoint.

        Args:
            max_channels: The largest number of channels of each layer, the most changed first.
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The figure.
        """
        sections = []
        for path, values in self.maps.items():
            channels = _most_changed(values, max_channels)
            tiles = [tile for k in channels for tile in _channel_tiles(values, k)]
            heading, rows = f"{path}, the channels that change most", tuple(map(str, channels))
            sections.append(Section(heading, tuple(tiles), len(self.names), rows, self.names))
        summary = self.input_summary
        lines = (*summary.lines, self.sentence(), _COLORS)
        title = f"{summary.name} · {len(self.names)} checkpoints of {summary.model}"
        return Sheet(title, lines, tuple(sections), theme=theme)

    def _frame(self, checkpoint: int, theme: Theme) -> Image.Image:
        sections = []
        for path, values in self.maps.items():
            channels = _most_changed(values, _SHOWN_CHANNELS)
            tiles = [_channel_tiles(values, k)[checkpoint] for k in channels]
            sections.append(Section(path, tuple(tiles), _SHOWN_CHANNELS))
        title = (
            f"{checkpoint + 1} of {len(self.names)}: {self.names[checkpoint]} · "
            f"{self.predictions[checkpoint]}"
        )
        return Sheet(title, (_COLORS,), tuple(sections), theme=theme, cell=112).image

    def save(self, path: str | Path, *, theme: Theme = "light") -> Path:
        """Write the figure; as ``.webp``, an animation with a frame for each checkpoint.

        Args:
            path: The file to write.
            theme: ``"light"`` or ``"dark"``.

        Returns:
            The path.
        """
        path = Path(path)
        if path.suffix != ".webp":
            return self.sheet(theme=theme).save(path)
        frames = [self._frame(k, theme) for k in range(len(self.names))]
        return write_bytes(path, animated_webp(frames, [_MILLISECONDS] * len(frames)))

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()


def _most_changed(values: NDArray[np.float32], limit: int) -> list[int]:
    """The channels whose maps change most between consecutive checkpoints."""
    changes = np.abs(np.diff(values, axis=0)).max((0, 2, 3))
    return [int(k) for k in np.argsort(-changes, kind="stable")[:limit]]


def _channel_tiles(values: NDArray[np.float32], channel: int) -> list[Tile]:
    """A tile for each checkpoint, from the channel's lowest value in all of them to its highest."""
    maps = values[:, channel]
    low, high = float(maps.min()), float(maps.max())
    return map_tiles((maps - low) / ((high - low) or 1.0), range=(0.0, 1.0))


def _relative_changes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean change from each checkpoint to the next, as a share of the mean magnitude."""
    changes = np.abs(np.diff(values, axis=0)).mean((1, 2, 3))
    return np.asarray(changes / (float(np.abs(values).mean()) or 1.0), np.float32)


def checkpoints(
    models: Sequence[ModelLike],
    image: ImageLike,
    layers: str | Iterable[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
) -> CheckpointSequence:
    """Show how the feature maps of one image changed over the checkpoints of one network.

    Args:
        models: The checkpoints in order: models, or anything ``load`` takes.
        image: The input image.
        layers: Layers with maps; by default a few through the depth.
        names: The names of the checkpoints; by default those of their files.
        size: Input size in pixels, where it is not the model's own.

    Returns:
        The sequence: ``.sheet()``, and ``.save("states.webp")`` for an animation.

    Raises:
        UsageError: There are fewer than two checkpoints, or no layer has maps.
        ModelError: The shapes of a layer differ between the checkpoints.
    """
    loaded = [load(model) for model in models]
    if len(loaded) < 2:
        raise UsageError(f"Give two checkpoints or more, not {len(loaded)}")
    first = loaded[0]
    chosen = first.layers.representative() if layers is None else first.layers.select(layers)
    paths = [layer.path for layer in chosen if layer.is_map]
    if not paths:
        raise UsageError("None of the layers has maps. Name a convolution")
    recorded = [_record(model, image, paths, size) for model in loaded]
    _check_shapes(paths, loaded, [maps for maps, _ in recorded])
    return CheckpointSequence(
        tuple(names or _distinct_names(loaded)),
        tuple(prediction for _, prediction in recorded),
        {path: np.stack([maps[path] for maps, _ in recorded]) for path in paths},
        summarize_input(first, first.prepare(image, size=size)),
    )


def _check_shapes(
    paths: Sequence[str], models: Sequence[Model], maps: Sequence[dict[str, NDArray[np.float32]]]
) -> None:
    for path in paths:
        expected = maps[0][path].shape
        for model, own in zip(models, maps, strict=True):
            if own[path].shape != expected:
                raise ModelError(
                    f"Layer {path!r} is {expected} in {models[0].name} and {own[path].shape} in "
                    f"{model.name}: these are not checkpoints of one network"
                )


def _record(
    model: Model, image: ImageLike, paths: Sequence[str], size: Any
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Feature maps by path, and the predicted class with its probability."""
    batch = model.prepare(image, size=size)
    activations = model.activations(batch, list(paths))
    shares = probabilities(model.logits(batch))[0]
    best = int(shares.argmax())
    prediction = f"{model.class_name(best)} {float(shares[best]):.0%}"
    return {path: activations[path][0].cpu().numpy() for path in paths}, prediction


def _distinct_names(models: Sequence[Model]) -> list[str]:
    """File names without folders, or the models' names; numbered where they are not distinct."""
    names = [Path(model.weights_file or model.name).name for model in models]
    if len(set(names)) == len(names):
        return names
    return [f"{k} · {name}" for k, name in enumerate(names, 1)]
