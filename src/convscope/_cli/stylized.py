"""What ``dream`` and ``style`` share: options, and the files that they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._cli import options as opt

if TYPE_CHECKING:
    from convscope._optvis import StylizedImage


Seed = Annotated[int, typer.Option(help="The same seed gives the same picture.")]


Sides = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Of the picture's longer side; by default its own."),
]


Animate = Annotated[bool, typer.Option("--animate", help="Also its making, as an animated WebP.")]


Out = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="The picture; beside it NAME.sheet.png (before and after) and JSON.",
    ),
]


def longer_side(text: str | None) -> int | tuple[int, int] | None:
    """``512`` is a longer side, ``160x224`` both."""
    sides = opt.parse_size(text)
    return sides[0] if sides and text and "x" not in text else sides


def write_stylized(made: StylizedImage, output: Path | None, name: str, as_json: bool) -> None:
    """The picture, its sheet, its making if that was kept, and JSON."""
    target = output or Path(f"{name}.png")
    if not target.suffix:
        target = target / f"{name}.png"
    if made.moments and target.suffix.lower() == ".webp":
        target = made.save(target)
        files = [target]
    else:
        files = [made.save(target)]
        files += [made.save(target.with_suffix(".webp"))] * bool(made.moments)
    files.append(made.sheet().save(target.with_suffix(".sheet.png")))
    if as_json:
        print(
            json.dumps(
                {**made.to_dict(), "files": [str(file) for file in files]},
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    typer.echo(f"{made.title}: {made.sentence()}")
    for file in files:
        typer.echo(file)
