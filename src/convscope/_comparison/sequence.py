"""Checkpoints of one network on one picture: a strip of maps, and an animation."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import ModelError, UsageError
from convscope._models import Model, load, probabilities
from convscope._models.input_summary import InputSummary, summarize_input
from convscope._plot import Section, Sheet, Theme, Tile, map_tiles
from convscope._plot.output import write

_MILLISECONDS = 600
_SHOWN = 8
_RANGES = "colors: each channel from its lowest (0) to its highest value (1) over all states"


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """The maps of some layers in several states of one network, for one picture.

    - ``names``: of the states; ``answers``: what each takes the picture for
    - ``maps``: by path, ``(states, C, h, w)``
    """

    names: tuple[str, ...]
    answers: tuple[str, ...]
    maps: dict[str, NDArray[np.float32]]
    specimen: InputSummary

    def sentence(self) -> str:
        """Where the channels move most, in one line."""
        steps = {path: _steps(values) for path, values in self.maps.items()}
        path, step = max(
            ((path, int(moves.argmax())) for path, moves in steps.items()),
            key=lambda one: float(steps[one[0]][one[1]]),
        )
        return (
            f"from {self.names[0]} to {self.names[-1]}: {self.answers[0]} → {self.answers[-1]}; "
            f"the largest step is in {path}, from {self.names[step]} to {self.names[step + 1]} "
            f"({steps[path][step]:.0%} of its mean magnitude)"
        )

    def sheet(self, *, most: int = _SHOWN, theme: Theme = "light") -> Sheet:
        """A strip: a row for each channel that moves most, a column for each state."""
        sections = []
        for path, values in self.maps.items():
            chosen = self._moving(values, most)
            tiles = [tile for k in chosen for tile in self._row(values, k)]
            rows = tuple(map(str, chosen))
            sections.append(
                Section(
                    f"{path}, the channels that move most",
                    tuple(tiles),
                    len(self.names),
                    rows,
                    self.names,
                )
            )
        lines = (
            *self.specimen.lines,
            self.sentence(),
            _RANGES,
        )
        title = f"{self.specimen.name} · {len(self.names)} states of {self.specimen.model}"
        return Sheet(title, lines, tuple(sections), theme=theme)

    def _moving(self, values: NDArray[np.float32], most: int) -> list[int]:
        moves = np.abs(np.diff(values, axis=0)).max((0, 2, 3))
        return [int(k) for k in np.argsort(-moves, kind="stable")[:most]]

    def _row(self, values: NDArray[np.float32], channel: int) -> list[Tile]:
        """From 0, the channel's lowest value over all states, to 1, its highest."""
        maps = values[:, channel]
        low, high = float(maps.min()), float(maps.max())
        return map_tiles((maps - low) / ((high - low) or 1.0), range=(0.0, 1.0))

    def _frame(self, state: int, theme: Theme) -> Image.Image:
        """All shown channels in one state, on the ranges of all states."""
        sections = []
        for path, values in self.maps.items():
            tiles = [self._row(values, k)[state] for k in self._moving(values, _SHOWN)]
            sections.append(Section(path, tuple(tiles), _SHOWN))
        name = f"{state + 1} of {len(self.names)}: {self.names[state]} · {self.answers[state]}"
        sheet = Sheet(name, (_RANGES,), tuple(sections), theme=theme, cell=112)
        return sheet.image.convert("RGB")

    def save(self, path: str | Path, *, theme: Theme = "light") -> Path:
        """Write the strip as a picture; as ``.webp`` the animation, a frame for each state."""
        path = Path(path)
        if path.suffix != ".webp":
            return self.sheet(theme=theme).save(path)
        frames = [self._frame(k, theme) for k in range(len(self.names))]
        size = (max(f.width for f in frames), max(f.height for f in frames))
        even = [Image.new("RGB", size, frame.getpixel((0, 0))) for frame in frames]
        for canvas, frame in zip(even, frames, strict=True):
            canvas.paste(frame, (0, 0))
        file = io.BytesIO()
        even[0].save(
            file,
            "WEBP",
            save_all=True,
            append_images=even[1:],
            duration=_MILLISECONDS,
            loop=0,
            lossless=True,
        )
        return write(path, file.getvalue)

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()


def _steps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far maps move from state to state, as shares of their mean magnitude."""
    moves = np.abs(np.diff(values, axis=0)).mean((1, 2, 3))
    return np.asarray(moves / (float(np.abs(values).mean()) or 1.0), np.float32)


def checkpoints(
    models: Sequence[Any],
    image: Any,
    layers: str | Iterable[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
) -> Checkpoints:
    """Several states of one network on one picture: how its maps came to be.

    - ``models``: loaded models or anything ``load`` takes, in order; ``names``: of the states, by
      default theirs.

    Raises ``UsageError`` for fewer than two, ``ModelError`` where their layers differ.
    """
    states = [load(model) for model in models]
    if len(states) < 2:
        raise UsageError(f"{len(states)} checkpoint was given; a sequence has two or more")
    chosen = (
        states[0].layers.representative() if layers is None else states[0].layers.select(layers)
    )
    paths = [layer.path for layer in chosen if layer.is_map]
    if not paths:
        raise UsageError("None of the layers has maps. Name a convolution")
    found = [_maps(state, image, paths, size) for state in states]
    for path in paths:
        shapes = [one[path].shape for one, _ in found]
        if len(set(shapes)) > 1:
            other = next(k for k, shape in enumerate(shapes) if shape != shapes[0])
            raise ModelError(
                f"Layer {path!r} is {shapes[0]} in {states[0].name} and {shapes[other]} in "
                f"{states[other].name}: these are no checkpoints of one network"
            )
    batch = states[0].prepare(image, size=size)
    return Checkpoints(
        tuple(names or _told_apart(states)),
        tuple(answer for _, answer in found),
        {path: np.stack([one[path] for one, _ in found]) for path in paths},
        summarize_input(states[0], batch),
    )


def _maps(
    model: Model, image: Any, paths: Sequence[str], size: Any
) -> tuple[dict[str, NDArray[np.float32]], str]:
    batch = model.prepare(image, size=size)
    found = model.activations(batch, list(paths))
    chances = probabilities(model.logits(batch))[0]
    best = int(chances.argmax())
    answer = f"{model.class_name(best)} {float(chances[best]):.0%}"
    return {path: found[path][0].cpu().numpy() for path in paths}, answer


def _told_apart(states: Sequence[Model]) -> list[str]:
    """The models' names, files without folders; numbered where they bear one name."""
    names = [Path(state.weights_file or state.name).name for state in states]
    if len(set(names)) == len(names):
        return names
    return [f"{k} · {name}" for k, name in enumerate(names, 1)]
