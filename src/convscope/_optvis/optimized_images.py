"""Optimized images with their evaluation, and figures of them."""

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

from convscope._io import temporary_path, write_bytes, write_text
from convscope._layers import file_name
from convscope._optvis.animation import AnimationFrame, animation, image_tiles
from convscope._plot import Section, Sheet, Theme, Tile, image_tile, map_tiles


@dataclass(frozen=True)
class RunInfo:
    """The settings of one optimization.

    Attributes:
        model: The model's title.
        size: ``(height, width)`` of the images.
        steps: Number of steps done.
        planned_steps: Number of steps requested.
        seed: Seed of the random numbers.
        param: The parametrization, in words.
        augmentation: The augmentation per step, in words.
        coarse: The smaller size of the first steps, in words.
        preprocessing: The model's normalization.
        note: A warning about the model, or empty.
        compared_images: Number of images the activation is compared with; 0 for none.
    """

    model: str
    size: tuple[int, int]
    steps: int
    planned_steps: int
    seed: int
    param: str
    augmentation: str
    coarse: str
    preprocessing: str
    note: str = ""
    compared_images: int = 0

    def lines(self) -> list[str]:
        """The settings as lines below a title."""
        steps = f"{self.steps} steps"
        if self.steps < self.planned_steps:
            steps = f"interrupted after {self.steps} of {self.planned_steps} steps"
        height, width = self.size
        lines = [
            f"model {self.model}",
            f"{steps} · {width}×{height} · seed {self.seed} · parametrization: {self.param}",
        ]
        if self.augmentation:
            lines.append(f"augmentation per step: {self.augmentation}")
        lines.append(f"normalization: {self.preprocessing}")
        return [*lines, *filter(None, [self.coarse, self.note])]


@dataclass(frozen=True, eq=False)
class OptimizedImage:
    """An image optimized for one objective.

    Attributes:
        values: The image, float32 ``(C, H, W)``, 0…1, before normalization.
        objective: Name of the objective; an address for a unit.
        index: Number among several images of the same objective.
        activation: The objective on the image as saved, at eight bits.
        robustness: Share of the activation that remains after small perturbations, by name.
        highest: Highest activation on the images compared with; ``None`` without any.
        dead: Whether no gradient reached the image, so that it shows nothing; after few steps this
            is no proof that the unit is dead.
        curve: The objective at every step, on the augmented image, ``(steps,)``.
        run: The settings of the optimization.
        opacity: Where the gradient was, ``(H, W)``, 0…1; ``None`` unless requested.
        frames: Frames of the optimization, where requested (``animate=True``).
    """

    values: NDArray[np.float32]
    objective: str
    index: int
    activation: float
    robustness: dict[str, float]
    highest: float | None
    dead: bool
    curve: NDArray[np.float32]
    run: RunInfo
    opacity: NDArray[np.float32] | None = None
    frames: tuple[AnimationFrame, ...] = ()

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The pixels ``(H, W, 3)``, or ``(H, W)``: the first channel of any other number.

        Transparent parts fade to gray.
        """
        values = self.values
        if self.opacity is not None:
            values = 0.5 + (values - 0.5) * self.opacity
        levels = np.rint(values * 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)) if len(levels) == 3 else levels[0]

    @property
    def ratio(self) -> float | None:
        """The activation relative to the highest on real images, where that is above 0."""
        if self.highest is None or self.highest <= 0:
            return None
        return self.activation / self.highest

    def sentence(self) -> str:
        """The evaluation in one line."""
        if self.dead:
            return (
                f"dead: inactive in all {self.run.steps} steps, so no gradient reached the image, "
                "and it shows nothing"
            )
        parts = [f"activation {self.activation:.3g}"]
        if self.ratio is not None:
            parts.append(f"{self.ratio:.1f} × the highest of {self.run.compared_images:,} images")
        elif self.highest is not None:
            parts.append(f"highest of {self.run.compared_images:,} images {self.highest:.3g}")
        if self.robustness:
            shares = ", ".join(f"{share:.0%} ({name})" for name, share in self.robustness.items())
            parts.append(f"robustness {shares}")
        return "; ".join(parts)

    def tiles(self, label: str | None = None) -> list[Tile]:
        """Tiles of the image: one, or one per channel where it has neither 1 nor 3."""
        if len(self.values) in (1, 3):
            return [image_tile(self.image, label or self.label, self.short())]
        names = [f"input channel {k}" for k in range(len(self.values))]
        return map_tiles(self.values, range=(0.0, 1.0), labels=names)

    @property
    def label(self) -> str:
        """The objective, numbered where there are several images of it."""
        return f"{self.objective} #{self.index}" if self.index else self.objective

    def short(self) -> str:
        """The evaluation in a few characters, for a small tile."""
        if self.dead:
            return "dead"
        ratio = "" if self.ratio is None else f" = {self.ratio:.1f} × highest"
        return f"{self.activation:.3g}{ratio}"

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """Draw the image with its evaluation.

        Args:
            theme: ``"light"`` or ``"dark"``.
        """
        title = f"{self.objective} · optimized image"
        faded = ["fades to gray where the gradient was small"] * (self.opacity is not None)
        lines = (*self.run.lines(), self.sentence(), *faded)
        section = Section("", tuple(self.tiles()))
        cell = max(256, *self.run.size)
        return Sheet(title, lines, (section,), cmap="gray", theme=theme, cell=cell)

    def save(self, path: str | Path, *, bare: bool = False) -> Path:
        """Write the figure, and the evaluation as JSON beside it.

        Args:
            path: The file; as ``.webp`` it is an animation where frames were kept.
            bare: Whether to write the image alone, without title and text.

        Returns:
            The path.
        """
        path = Path(path)
        if bare:
            with temporary_path(path) as temporary:
                Image.fromarray(self._pixels()).save(temporary)
        elif self.frames and path.suffix.lower() == ".webp":
            write_bytes(path, animation(OptimizedImages([self]).animation_frames()))
        else:
            self.sheet().save(path)
        _write_json(path.with_suffix(".json"), self.to_dict())
        return path

    def _pixels(self) -> NDArray[np.uint8]:
        """For a file: with an alpha channel where parts are transparent."""
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
            "robustness": self.robustness,
            "highest": self.highest,
            "ratio": self.ratio,
            **asdict(self.run),
            "curve": [round(float(v), 6) for v in self.curve],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"OptimizedImage({self.label} of {self.run.model}: {self.sentence()})"


class OptimizedImages(Sequence[OptimizedImage]):
    """Several optimized images; prints as a list, draws as a contact sheet."""

    def __init__(
        self, images: Iterable[OptimizedImage], *, columns: int | None = None, title: str = ""
    ) -> None:
        self._images = tuple(images)
        self._columns, self._given_title = columns, title

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, key: int) -> OptimizedImage: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[OptimizedImage]: ...
    def __getitem__(self, key: int | slice) -> OptimizedImage | Sequence[OptimizedImage]:
        return self._images[key]

    def sheet(self, *, columns: int | None = None, theme: Theme = "light") -> Sheet:
        """Draw all images in one titled figure, a section per layer.

        Args:
            columns: Images per row.
            theme: ``"light"`` or ``"dark"``.
        """
        columns = columns or self._columns
        run = self[0].run
        lines = run.lines()
        dead = sum(one.dead for one in self)
        if dead:
            lines.append(f"{dead} of {len(self)} are dead: inactive in every step")
        number = run.compared_images
        relative = f", and relative to the highest of {number:,} images" if number else ""
        lines.append(f"above each image: its activation{relative}")
        cell = None if columns else min(224, max(96, *run.size))
        sections = tuple(self._sections(columns))
        return Sheet(self._title(), tuple(lines), sections, cmap="gray", theme=theme, cell=cell)

    def animation_frames(
        self, *, columns: int | None = None, theme: Theme = "light"
    ) -> list[Image.Image]:
        """Draw the frames of the optimization as labeled images of one size."""
        moving = [one for one in self if one.frames]
        title = f"{self[0].label} · optimized image" if len(self) == 1 else self._title()
        cell = max(256, *self[0].run.size) if len(self) == 1 else 128
        images = []
        for k in range(min(len(one.frames) for one in moving)):
            tiles = tuple(t for one in moving for t in image_tiles(one.frames[k].pixels, one.label))
            lines = [f"model {self[0].run.model}", moving[0].frames[k].label]
            lines += ["dead units are left out"] * (len(moving) < len(self))
            section = Section("", tiles, columns or self._columns)
            sheet = Sheet(title, tuple(lines), (section,), cmap="gray", theme=theme, cell=cell)
            images.append(sheet.image)
        return images

    def _title(self) -> str:
        layers = list(dict.fromkeys(_layer(one) for one in self))
        if self._given_title:
            return self._given_title
        if "" in layers:
            return f"{len(self)} optimized images"
        units = layers[0] if len(layers) == 1 else f"{len(self)} units of {len(layers)} layers"
        return f"{units} · optimized images"

    def _sections(self, columns: int | None) -> Iterator[Section]:
        """One per layer, or a single one where most layers have only a few units."""
        layers = list(dict.fromkeys(_layer(one) for one in self))
        if len(self) < 4 * len(layers) and len(layers) > 1:
            yield Section("", tuple(tile for one in self for tile in one.tiles()), columns)
            return
        for layer in layers:
            images = [one for one in self if _layer(one) == layer]
            tiles = [t for one in images for t in one.tiles(one.label.removeprefix(f"{layer}:"))]
            yield Section(layer if len(layers) > 1 else "", tuple(tiles), columns)

    def save(self, path: str | Path, *, columns: int | None = None) -> list[Path]:
        """Write the contact sheet and its JSON; into a folder, also each image by itself.

        Args:
            path: A file, or a folder.
            columns: Images per row.

        Returns:
            The paths.
        """
        path = Path(path)
        if path.suffix:
            _write_json(path.with_suffix(".json"), {"images": [one.to_dict() for one in self]})
            if path.suffix.lower() == ".webp" and any(one.frames for one in self):
                return [write_bytes(path, animation(self.animation_frames(columns=columns)))]
            return [self.sheet(columns=columns).save(path)]
        singles = [one.save(path / f"{file_name(one.label)}.png", bare=True) for one in self]
        return [self.sheet(columns=columns).save(path / "sheet.png"), *singles]

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return "\n".join(["OptimizedImages:", *(f"  {one!r}" for one in self)])


def _layer(one: OptimizedImage) -> str:
    """The layer of a unit; empty for any other objective."""
    path, colon, channel = one.objective.rpartition(":")
    return path if colon and channel.isdigit() and " " not in path else ""


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))
