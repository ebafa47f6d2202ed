"""Verbs that paint over a picture: dream, style."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli import options as opt
from convscope.cli.climb import telling
from convscope.cli.progress import Bar

if TYPE_CHECKING:
    from convscope.ascent import Repainted

Seed = Annotated[int, typer.Option(help="The same seed gives the same picture.")]
Sides = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Of the picture's longer side; by default its own."),
]
Animate = Annotated[bool, typer.Option("--animate", help="Also its making, as an animated WebP.")]
Out = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE|DIR",
                 help="The picture; beside it NAME.sheet.png (before and after) and JSON."),
]  # fmt: skip


def dream(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to dream on.")],
    model: opt.ModelName = "demo",
    what: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="ADDRESS",
            help="A layer, a unit (PATH:CHANNEL) or a sum; by default a layer at three "
            "quarters of the depth. Repeatable.",
        ),
    ] = None,
    guide: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Dream of what the layer sees in this.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="At each size.")] = 10,
    octaves: Annotated[
        int | None, typer.Option(min=1, help="Sizes; by default down to half the model's.")
    ] = None,
    scale: Annotated[float, typer.Option(help="From one size to the next.")] = 1.4,
    rate: Annotated[float, typer.Option(help="How far a pixel moves in a step, of 0…1.")] = 0.006,
    size: Sides = None,
    tile: Annotated[int, typer.Option(help="Larger pictures are looked at in such tiles.")] = 512,
    seed: Seed = 0,
    animate: Animate = False,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Out = None,
    as_json: opt.Json = False,
) -> None:
    """DeepDream: paint into a picture what a layer sees in it.

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope.ascent import dream as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    wanted = what[0] if what and len(what) == 1 else what
    with Bar("painting", quiet=as_json) as bar:
        made = run(
            loaded, image, wanted, guide=guide, steps=steps, octaves=octaves, scale=scale,
            rate=rate, size=_sides(size), tile=tile, seed=seed, animate=animate,
            on_step=telling(bar),
        )  # fmt: skip
    _write(made, output, f"{image.stem}.dream", as_json)


def style(
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="The picture to paint over.")],
    manner: Annotated[Path, typer.Argument(metavar="STYLE", help="Whose style it takes.")],
    model: opt.ModelName = "demo",
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", "-l", metavar="LAYERS", help="That hold the style. Repeatable."),
    ] = None,
    content_layer: Annotated[
        str | None, typer.Option(metavar="PATH", help="That holds the content.")
    ] = None,
    content_weight: Annotated[
        float, typer.Option(help="Of the content beside the style; the same for every network.")
    ] = 0.2,
    smoothness: Annotated[float, typer.Option(help="Weight of the total variation.")] = 0.0,
    colours: Annotated[str, typer.Option(help="Those of the style, or of the content.")] = "style",
    steps: Annotated[int, typer.Option(min=1, help="At each size.")] = 80,
    octaves: Annotated[int, typer.Option(min=1, help="Sizes, each twice the one before.")] = 2,
    size: Annotated[
        str | None,
        typer.Option(metavar="N|HxW", help="Of the picture's longer side; by default its own, 512 "
                     "at the most."),
    ] = None,
    style_scale: Annotated[float, typer.Option(help="Larger: coarser strokes.")] = 1.0,
    seed: Seed = 0,
    animate: Animate = False,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Out = None,
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """Paint a picture in the style of another (Gatys et al., 2016).

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope.ascent import style as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with Bar("painting", quiet=as_json) as bar:
        made = run(
            loaded, content, manner, layers=layers, content_layer=content_layer,
            content_weight=content_weight, smoothness=smoothness, colours=colours, steps=steps,
            octaves=octaves, size=_sides(size), style_scale=style_scale, seed=seed,
            animate=animate, on_step=telling(bar),
        )  # fmt: skip
    _write(made, output, f"{content.stem}.style", as_json)


def _sides(text: str | None) -> int | tuple[int, int] | None:
    """``512`` is a longer side, ``160x224`` both."""
    sides = opt.parse_size(text)
    return sides[0] if sides and text and "x" not in text else sides


def _write(made: Repainted, output: Path | None, name: str, as_json: bool) -> None:
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
        print(json.dumps({**made.card(), "files": [str(file) for file in files]}, indent=1,
                         ensure_ascii=False))  # fmt: skip
        return
    typer.echo(f"{made.title}: {made.sentence()}")
    for file in files:
        typer.echo(file)
