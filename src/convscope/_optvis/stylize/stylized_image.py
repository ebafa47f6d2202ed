"""The result of DeepDream or style transfer: the image, its settings, and figures of it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from convscope._errors import UsageError
from convscope._io import write_bytes, write_text
from convscope._models import Model
from convscope._optvis.animation import AnimationFrame, animation, image_tiles
from convscope._optvis.stylize.source_image import SourceImage
from convscope._plot import Section, Sheet, Theme

_CELLS = (256, 720)  # longest side of an image on a sheet, in pixels: usual, largest
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True, eq=False)
class StylizedImage:
    """An image made by DeepDream or style transfer.

    Attributes:
        values: The image, float32 ``(C, H, W)``, 0…1.
        before: The image it was made from, likewise.
        references: Other images that were used, by role (``style``, ``guide``).
        title: What it is, for figures.
        model: The model's title.
        measures: Objective or losses before and after, at eight bits, by name.
        curve: The score or loss at every step, ``(steps,)``.
        steps: Number of steps done.
        planned_steps: Number of steps requested.
        settings: All other settings, by name.
        notes: How the image was preprocessed, and warnings.
        frames: Frames of the optimization, where requested (``animate=True``).
    """

    values: NDArray[np.float32]
    before: NDArray[np.float32]
    references: Mapping[str, NDArray[np.float32]]
    title: str
    model: str
    measures: Mapping[str, tuple[float, float]]
    curve: NDArray[np.float32]
    steps: int
    planned_steps: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    frames: tuple[AnimationFrame, ...] = ()

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The pixels ``(H, W, 3)``, or ``(H, W)``: the first channel of any other number."""
        levels = _levels(self.values)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)) if len(levels) == 3 else levels[0]

    def sentence(self) -> str:
        """The measures before and after, in one line."""
        parts = [f"{name} {old:.3g} → {new:.3g}" for name, (old, new) in self.measures.items()]
        return "; ".join(parts)

    def lines(self) -> tuple[str, ...]:
        """Settings and notes as lines below a title."""
        steps = f"{self.steps} steps"
        if self.steps < self.planned_steps:
            steps = f"interrupted after {self.steps} of {self.planned_steps} steps"
        settings = (f"{name} {_text(value)}" for name, value in self.settings.items())
        return (f"model {self.model}", " · ".join([steps, *settings]), self.sentence(), *self.notes)

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Draw the images before and after side by side, with the references.

        Args:
            theme: ``"light"`` or ``"dark"``.
        """
        tiles = [
            *image_tiles(_levels(self.before), "before"),
            *(
                tile
                for name, one in self.references.items()
                for tile in image_tiles(_levels(one), name)
            ),
            *image_tiles(_levels(self.values), "after"),
        ]
        columns = 2 + len(self.references) if len(self.values) in (1, 3) else len(self.values)
        section = Section("", tuple(tiles), columns)
        return Sheet(
            self.title, self.lines(), (section,), cmap="gray", theme=theme, cell=self._cell
        )

    @property
    def _cell(self) -> int:
        return min(max(_CELLS[0], *map(int, self.values.shape[1:])), _CELLS[1])

    def animation_frames(self, *, theme: Theme = "light") -> list[Image.Image]:
        """Draw the frames of the optimization as labeled images of one size."""
        lines = (f"model {self.model}", self.sentence())
        return [
            Sheet(
                self.title,
                lines,
                (Section("", tuple(image_tiles(frame.pixels, frame.label))),),
                cmap="gray",
                theme=theme,
                cell=self._cell,
            ).image
            for frame in self.frames
        ]

    def save(self, path: str | Path) -> Path:
        """Write the image itself, with its settings as metadata, and JSON beside it.

        For the figure with title and text: ``.sheet().save(path)``.

        Args:
            path: A .png, .jpg or .webp file; as ``.webp`` it is an animation where frames were
                kept (``animate=True``).

        Returns:
            The path.
        """
        path = Path(path)
        if path.suffix.lower() not in _FORMATS:
            known = ", ".join(_FORMATS)
            raise UsageError(f"No image can be written as {path.name!r}. Known: {known}")
        write_bytes(path, self._content(path.suffix.lower()))
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        write_text(path.with_suffix(".json"), text)
        return path

    def _content(self, ending: str) -> bytes:
        if ending == ".webp" and self.frames:
            return animation(self.animation_frames())
        options: dict[str, Any] = {"lossless": True} if ending == ".webp" else {}
        if ending == ".png":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("Title", self.title)
            options["pnginfo"].add_itxt("Description", "\n".join(self.lines()))
        elif ending != ".webp":
            options = {"quality": 92, "subsampling": 0}
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, _FORMATS[ending], **options)
        return file.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON."""
        return {
            "title": self.title,
            "model": self.model,
            "steps": self.steps,
            "planned_steps": self.planned_steps,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "measures": {name: list(pair) for name, pair in self.measures.items()},
            "curve": [round(float(v), 6) for v in self.curve],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"StylizedImage({self.title} by {self.model}: {self.sentence()})"


def _levels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return levels


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)


def to_array(images: Tensor) -> NDArray[np.float32]:
    """The first of some images as an array ``(C, H, W)``."""
    values: NDArray[np.float32] = images[0].detach().cpu().numpy()
    return values


def input_notes(model: Model, source: SourceImage) -> tuple[str, ...]:
    """How the image was preprocessed, and warnings about the model."""
    height, width = source.size
    normalization = replace(model.input.preprocess, size=None, resize=None)
    notes = (
        f"model input {width}×{height}, {normalization.describe()}",
        f"image {source.note}" * bool(source.note),
        model.untrained_note(),
    )
    return tuple(filter(None, notes))
