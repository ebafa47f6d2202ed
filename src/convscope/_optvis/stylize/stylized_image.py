"""What a dream or a style made of a picture, with all that belongs to it."""

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
from convscope._models import Model
from convscope._optvis.animation import AnimationFrame, animation, image_tiles
from convscope._optvis.stylize.source_image import SourceImage
from convscope._plot import Section, Sheet, Theme
from convscope._plot.output import write

_CELLS = (256, 720)  # the longest side of a picture on a sheet in pixels: about, at the most
_STILLS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True, eq=False)
class StylizedImage:
    """A picture that a network has painted over.

    - ``values``: the picture, float32 ``(channels, height, width)``, 0…1; ``before``: the one it
      was made from
    - ``beside``: other pictures that had a say, by what they are (``style``, ``guide``)
    - ``title``: what it is; ``model``
    - ``measures``: what was to be raised or lowered, before and after, on the pictures themselves
    - ``curve``: the score that was climbed, at every step
    - ``steps``: done, of ``wanted``; ``settings``: all others; ``notes``: what has to be said
    - ``moments``: of its making, where they were asked for
    """

    values: NDArray[np.float32]
    before: NDArray[np.float32]
    beside: Mapping[str, NDArray[np.float32]]
    title: str
    model: str
    measures: Mapping[str, tuple[float, float]]
    curve: NDArray[np.float32]
    steps: int
    wanted: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    moments: tuple[AnimationFrame, ...] = ()

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The pixels ``(H, W, 3)``, or ``(H, W)``: the first channel of any other number."""
        levels = _levels(self.values)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)) if len(levels) == 3 else levels[0]

    def sentence(self) -> str:
        """What came of it, in one line."""
        parts = [f"{name} {old:.3g} → {new:.3g}" for name, (old, new) in self.measures.items()]
        return "; ".join(parts)

    def lines(self) -> tuple[str, ...]:
        """For under a title."""
        steps = f"{self.steps} steps"
        if self.steps < self.wanted:
            steps = f"interrupted after {self.steps} of {self.wanted} steps"
        told = (f"{name} {_text(value)}" for name, value in self.settings.items())
        return (f"model {self.model}", " · ".join([steps, *told]), self.sentence(), *self.notes)

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Before and after side by side, and what else had a say."""
        tiles = [
            *image_tiles(_levels(self.before), "before"),
            *(
                tile
                for name, one in self.beside.items()
                for tile in image_tiles(_levels(one), name)
            ),
            *image_tiles(_levels(self.values), "after"),
        ]
        columns = 2 + len(self.beside) if len(self.values) in (1, 3) else len(self.values)
        section = Section("", tuple(tiles), columns)
        return Sheet(
            self.title, self.lines(), (section,), cmap="gray", theme=theme, cell=self._cell
        )

    @property
    def _cell(self) -> int:
        return min(max(_CELLS[0], *map(int, self.values.shape[1:])), _CELLS[1])

    def moving(self, *, theme: Theme = "light") -> list[Image.Image]:
        """The moments as labeled pictures of one size."""
        lines = (f"model {self.model}", self.sentence())
        return [
            Sheet(
                self.title,
                lines,
                (Section("", tuple(image_tiles(moment.pixels, moment.label))),),
                cmap="gray",
                theme=theme,
                cell=self._cell,
            ).image
            for moment in self.moments
        ]

    def save(self, path: str | Path) -> Path:
        """Write the picture itself, its words in it as metadata, and all of them as JSON beside it.

        As ``.webp`` it is the animation of its making where moments were kept (``animate=True``).
        For the picture with its words around it: ``.sheet().save(path)``.
        """
        path = Path(path)
        if path.suffix.lower() not in _STILLS:
            known = ", ".join(_STILLS)
            raise UsageError(f"No picture can be written as {path.name!r}. Known: {known}")
        written = write(path, lambda: self._content(path.suffix.lower()))
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        write(path.with_suffix(".json"), lambda: text.encode())
        return written

    def _content(self, ending: str) -> bytes:
        if ending == ".webp" and self.moments:
            return animation(self.moving())
        options: dict[str, Any] = {"lossless": True} if ending == ".webp" else {}
        if ending == ".png":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("Title", self.title)
            options["pnginfo"].add_itxt("Description", "\n".join(self.lines()))
        elif ending != ".webp":
            options = {"quality": 92, "subsampling": 0}
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, _STILLS[ending], **options)
        return file.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON."""
        return {
            "title": self.title,
            "model": self.model,
            "steps": self.steps,
            "wanted": self.wanted,
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


def to_array(picture: Tensor) -> NDArray[np.float32]:
    """The first of some pictures as numbers ``(C, H, W)``."""
    values: NDArray[np.float32] = picture[0].detach().cpu().numpy()
    return values


def circumstances(model: Model, canvas: SourceImage) -> tuple[str, ...]:
    """How the picture was shown, and what has to be said of picture and model."""
    height, width = canvas.size
    plain = replace(model.input.preprocess, size=None, resize=None)
    notes = (
        f"shown to the model at {width}×{height}, {plain.describe()}",
        f"the picture was {canvas.note}" * bool(canvas.note),
        model.untrained_note(),
    )
    return tuple(filter(None, notes))
