"""What ``dream`` and ``style`` share: options, and the files that they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._cli import options as opt

if TYPE_CHECKING:
    from convscope._optvis import StylizedImage

Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]
LongerSide = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        help="Longer side of the output image, in pixels (default: that of the input).",
    ),
]
Animate = Annotated[
    bool, typer.Option("--animate", help="Also write the optimization as an animated WebP.")
]
ImageFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Image to write; beside it NAME.sheet.png (before and after) and JSON.",
    ),
]


def parse_longer_side(text: str | None) -> int | tuple[int, int] | None:
    """``512`` is a longer side, ``160x224`` both."""
    sides = opt.parse_size(text)
    return sides[0] if sides and text and "x" not in text else sides


def write_stylized(image: StylizedImage, output: Path | None, name: str, as_json: bool) -> None:
    """Write the image, its sheet, its animation where frames were kept, and JSON."""
    target = output or Path(f"{name}.png")
    if not target.suffix:
        target = target / f"{name}.png"
    files = [image.save(target)]
    if image.frames and target.suffix.lower() != ".webp":
        files.append(image.save(target.with_suffix(".webp")))
    files.append(image.sheet().save(target.with_suffix(".sheet.png")))
    if as_json:
        result = {**image.to_dict(), "files": [str(file) for file in files]}
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    typer.echo(f"{image.title}: {image.sentence()}")
    for file in files:
        typer.echo(file)
