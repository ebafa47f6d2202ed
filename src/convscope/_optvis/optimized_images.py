"""OptimizedImage pictures, the evidence that belongs to them, and sheets of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._layers import file_name
from convscope._optvis.animation import AnimationFrame, animation, image_tiles
from convscope._plot import Section, Sheet, Theme, Tile, map_tiles, picture_tile
from convscope._plot.output import write


@dataclass(frozen=True)
class RunInfo:
    """What is common to the pictures of one climb.

    - ``model``; ``size``: ``(height, width)``; ``steps``: done, of ``wanted``; ``seed``
    - ``pixels``: what was adjusted; ``moves``: how the picture was moved before every look;
      ``coarse``: the smaller size of the first steps
    - ``preprocessing``: what the model does to a picture; ``note``: what has to be said of it
    - ``compared``: how many images the activation is compared with; 0 for none
    """

    model: str
    size: tuple[int, int]
    steps: int
    wanted: int
    seed: int
    pixels: str
    moves: str
    coarse: str
    preprocessing: str
    note: str = ""
    compared: int = 0

    def lines(self) -> list[str]:
        """For under a title."""
        steps = f"{self.steps} steps"
        if self.steps < self.wanted:
            steps = f"interrupted after {self.steps} of {self.wanted} steps"
        lines = [
            f"model {self.model}",
            f"{steps} · {self.size[1]}×{self.size[0]} · seed {self.seed} · pixels: {self.pixels}",
        ]
        if self.moves:
            lines.append(f"before each look: {self.moves}")
        lines.append(f"numbers as the model takes them: {self.preprocessing}")
        return [*lines, *filter(None, [self.coarse, self.note])]


@dataclass(frozen=True, eq=False)
class OptimizedImage:
    """A picture on which one objective is as high as a climb could get it.

    - ``values``: the picture, float32 ``(channels, height, width)``, 0…1, before normalization
    - ``objective``: its name, an address for a unit; ``index``: which of several pictures of it
    - ``activation``: on the picture as it is, at eight bits; ``kept``: shares of it that are left
      after small changes, by name
    - ``highest``: on the images compared with; ``None`` without any
    - ``dead``: no gradient reached the picture by itself, so it shows nothing; with few steps that
      is no proof
    - ``curve``: the objective at every step, on the moved picture
    - ``opacity``: ``(height, width)``, 0…1: where the gradient was; ``None`` unless asked for
    - ``moments``: of the climb, where they were asked for (``animate=True``)
    """

    values: NDArray[np.float32]
    objective: str
    index: int
    activation: float
    kept: dict[str, float]
    highest: float | None
    dead: bool
    curve: NDArray[np.float32]
    about: RunInfo
    opacity: NDArray[np.float32] | None = None
    moments: tuple[AnimationFrame, ...] = ()

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The pixels ``(H, W, 3)``, or ``(H, W)``: the first channel of any other number.

        What is see-through fades to gray.
        """
        shown = self.values
        if self.opacity is not None:
            shown = 0.5 + (shown - 0.5) * self.opacity
        levels = np.rint(shown * 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)) if len(levels) == 3 else levels[0]

    @property
    def ratio(self) -> float | None:
        """The activation beside the highest on real images, where that is above 0."""
        if self.highest is None or self.highest <= 0:
            return None
        return self.activation / self.highest

    def sentence(self) -> str:
        """What the picture is worth, in one line."""
        if self.dead:
            return (
                f"dead: nothing switched it on in {self.about.steps} steps, so no gradient reached "
                "the picture, and it shows nothing"
            )
        parts = [f"activation {self.activation:.3g}"]
        if self.ratio is not None:
            parts.append(f"{self.ratio:.1f} × the highest of {self.about.compared:,} images")
        elif self.highest is not None:
            parts.append(f"highest of {self.about.compared:,} images {self.highest:.3g}")
        if self.kept:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in self.kept.items())
            parts.append(f"of it left after {shares}")
        return "; ".join(parts)

    def tiles(self, label: str | None = None) -> list[Tile]:
        """The picture as tiles: one, or one a channel where it has neither 1 nor 3."""
        if len(self.values) in (1, 3):
            return [picture_tile(self.image, label or self.label, self.short())]
        names = [f"input channel {k}" for k in range(len(self.values))]
        return map_tiles(self.values, range=(0.0, 1.0), labels=names)

    @property
    def label(self) -> str:
        return f"{self.objective} #{self.index}" if self.index else self.objective

    def short(self) -> str:
        """The evidence in a few characters, for a small tile."""
        if self.dead:
            return "dead"
        ratio = "" if self.ratio is None else f" = {self.ratio:.1f} × best image"
        return f"{self.activation:.3g}{ratio}"

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """The picture with its evidence."""
        title = f"{self.objective} · what raises it most"
        faded = ["fades to gray where the gradient hardly ever was"] * (self.opacity is not None)
        lines = (*self.about.lines(), self.sentence(), *faded)
        section = Section("", tuple(self.tiles()))
        cell = max(256, *self.about.size)
        return Sheet(title, lines, (section,), cmap="gray", theme=theme, cell=cell)

    def save(self, path: str | Path, *, bare: bool = False) -> Path:
        """Write the sheet, or with ``bare`` the pixels alone; the evidence as JSON beside it.

        As ``.webp`` the sheet is an animation where moments were kept.
        """
        path = Path(path)
        if bare:
            written = self._bare(path)
        elif self.moments and path.suffix.lower() == ".webp":
            written = write(path, lambda: animation(OptimizedImages([self]).moving()))
        else:
            written = self.sheet().save(path)
        _write_json(path.with_suffix(".json"), self.to_dict())
        return written

    def _bare(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
        Image.fromarray(self._pixels()).save(temporary)
        return temporary.replace(path)

    def _pixels(self) -> NDArray[np.uint8]:
        """For a file: with an alpha channel where parts are see-through."""
        if self.opacity is None or len(self.values) != 3:
            return self.image
        levels = np.concatenate([self.values, self.opacity[None]]).transpose(1, 2, 0)
        pixels: NDArray[np.uint8] = np.rint(levels * 255).astype(np.uint8)
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON."""
        return {
            "objective": self.objective,
            "index": self.index,
            "dead": self.dead,
            "activation": self.activation,
            "kept": self.kept,
            "highest": self.highest,
            "ratio": self.ratio,
            **asdict(self.about),
            "curve": [round(float(v), 6) for v in self.curve],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"OptimizedImage({self.label} of {self.about.model}: {self.sentence()})"


class OptimizedImages(Sequence[OptimizedImage]):
    """Several optimized pictures; prints as a list, draws as a contact sheet."""

    def __init__(
        self, pictures: Iterable[OptimizedImage], *, columns: int | None = None, title: str = ""
    ) -> None:
        self._pictures = tuple(pictures)
        self._columns, self._named = columns, title

    def __len__(self) -> int:
        return len(self._pictures)

    @overload
    def __getitem__(self, key: int) -> OptimizedImage: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[OptimizedImage]: ...
    def __getitem__(self, key: int | slice) -> OptimizedImage | Sequence[OptimizedImage]:
        return self._pictures[key]

    def sheet(self, *, columns: int | None = None, theme: Theme = "light") -> Sheet:
        """All of them as one titled picture, a section for each layer."""
        columns = columns or self._columns
        about = self[0].about
        lines = about.lines()
        dead = sum(one.dead for one in self)
        if dead:
            lines.append(f"{dead} of {len(self)} are dead: nothing switched them on")
        beside = f", and beside the highest of {about.compared:,} images" if about.compared else ""
        lines.append(f"above each picture: its activation{beside}")
        cell = None if columns else min(224, max(96, *about.size))
        sections = tuple(self._sections(columns))
        return Sheet(self._title(), tuple(lines), sections, cmap="gray", theme=theme, cell=cell)

    def moving(self, *, columns: int | None = None, theme: Theme = "light") -> list[Image.Image]:
        """The moments of the climb as labeled pictures of one size."""
        shown = [one for one in self if one.moments]
        title = f"{self[0].label} · what raises it most" if len(self) == 1 else self._title()
        cell = max(256, *self[0].about.size) if len(self) == 1 else 128
        images = []
        for k in range(min(len(one.moments) for one in shown)):
            tiles = tuple(t for one in shown for t in image_tiles(one.moments[k].pixels, one.label))
            lines = [f"model {self[0].about.model}", shown[0].moments[k].label]
            lines += ["those that are dead are left out"] * (len(shown) < len(self))
            section = Section("", tiles, columns or self._columns)
            sheet = Sheet(title, tuple(lines), (section,), cmap="gray", theme=theme, cell=cell)
            images.append(sheet.image)
        return images

    def _title(self) -> str:
        layers = list(dict.fromkeys(_layer(one) for one in self))
        if self._named:
            return self._named
        if "" in layers:
            return f"{len(self)} pictures · what raises each objective most"
        named = layers[0] if len(layers) == 1 else f"{len(self)} units of {len(layers)} layers"
        return f"{named} · what raises each unit most"

    def _sections(self, columns: int | None) -> Iterator[Section]:
        """One for each layer, or a single one where most layers have but a few units."""
        layers = list(dict.fromkeys(_layer(one) for one in self))
        if len(self) < 4 * len(layers) and len(layers) > 1:
            yield Section("", tuple(tile for one in self for tile in one.tiles()), columns)
            return
        for layer in layers:
            ones = [one for one in self if _layer(one) == layer]
            tiles = [t for one in ones for t in one.tiles(one.label.removeprefix(f"{layer}:"))]
            yield Section(layer if len(layers) > 1 else "", tuple(tiles), columns)

    def save(self, path: str | Path, *, columns: int | None = None) -> list[Path]:
        """Write the contact sheet and its JSON; into a folder, also every picture by itself."""
        path = Path(path)
        if path.suffix:
            _write_json(path.with_suffix(".json"), {"pictures": [one.to_dict() for one in self]})
            if path.suffix.lower() == ".webp" and any(one.moments for one in self):
                return [write(path, lambda: animation(self.moving(columns=columns)))]
            return [self.sheet(columns=columns).save(path)]
        singles = [one.save(path / f"{file_name(one.label)}.png", bare=True) for one in self]
        return [self.sheet(columns=columns).save(path / "sheet.png"), *singles]

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return "\n".join(["OptimizedImages:", *(f"  {one!r}" for one in self)])


def _layer(one: OptimizedImage) -> str:
    """The layer of a unit; any other objective stands among its like."""
    path, colon, channel = one.objective.rpartition(":")
    return path if colon and channel.isdigit() and " " not in path else ""


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)
