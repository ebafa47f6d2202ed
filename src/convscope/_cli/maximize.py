"""``convscope maximize``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar
from convscope._errors import UsageError

if TYPE_CHECKING:
    from convscope._optvis import OptimizationStep, OptimizedImage, OptimizedImages
from convscope._cli.progress import optimization_progress

Addresses = Annotated[
    list[str],
    typer.Argument(
        metavar="ADDRESS...",
        help="Units (PATH:CHANNEL), sums of them ('conv2:3 - 0.5 * conv2:7'), or layers: all "
        "their channels.",
    ),
]


def maximize(
    addresses: Addresses,
    model: opt.ModelName = "demo",
    steps: Annotated[int, typer.Option(min=1, help="Steps of ascent.")] = 256,
    size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Of the picture; by default the model's.")
    ] = None,
    param: Annotated[
        str,
        typer.Option(
            help="What is adjusted: fourier (waves), pixels, or maco (the phases of "
            "waves as strong as those of --images)."
        ),
    ] = "fourier",
    seed: Annotated[int, typer.Option(help="The same seed gives the same picture.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each, from other starts.")] = 1,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DATASET|ATLAS", help="To compare the activations with."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Start from it instead of from noise.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="What each layer saw in it, place by place."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="What each layer saw in it, exaggerated.")
    ] = None,
    opacity: Annotated[
        bool, typer.Option("--opacity", help="See through what the gradient never cared for.")
    ] = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Also the climb, as an animated WebP.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The pictures so far, written anew every two seconds."),
    ] = None,
    columns: opt.Columns = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="A sheet, or a folder: each picture by itself too. With the evidence as JSON.",
        ),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """What a unit would like to see most: gradient ascent on the picture, weights fixed.

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope._optvis import maximize as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with ProgressBar("optimizing", quiet=as_json) as bar:
        found = run(
            loaded,
            _wanted(addresses, grid, like),
            steps=steps,
            size=opt.parse_size(size),
            param=param,
            seed=seed,
            count=count,
            start=None if start is None else str(start),
            images=None if images is None else str(images),
            opacity=opacity,
            animate=animate,
            on_step=optimization_progress(bar, _previewing(preview, f"model {loaded.title}")),
        )
    name = f"{addresses[0]}.grid" if grid else _common(found)
    written = _save(found, output, columns, name)
    films = [found.save(written.with_suffix(".webp"), columns=columns)[0]] if animate else []
    if as_json:
        print(json.dumps([one.to_dict() for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        typer.echo(f"{one.label}: {one.sentence()}")
    for file in dict.fromkeys([written, *films]):
        typer.echo(file)


def _wanted(addresses: list[str], grid: Path | None, like: Path | None) -> Any:
    """Units and layers as typed, or what layers saw in a picture."""
    from convscope._optvis import activation_grid, caricature

    if grid and (like or len(addresses) > 1):
        raise UsageError("--grid draws one layer of one picture. Leave out the other")
    if grid:
        return activation_grid(str(grid), addresses[0])
    return [caricature(str(like), path) for path in addresses] if like else addresses


def _save(found: OptimizedImages, output: Path | None, columns: int | None, name: str) -> Path:
    """A single picture as its own sheet, several as a contact sheet; a folder holds all."""
    from convscope._layers import file_name

    first: OptimizedImage = found[0]
    if output is not None and not output.suffix:
        return found.save(output, columns=columns)[0]
    target = output or Path(f"{file_name(name)}.maximize.png")
    return first.save(target) if len(found) == 1 else found.save(target, columns=columns)[0]


def _common(found: OptimizedImages) -> str:
    """The unit, the layer of all units, or how many there are."""
    if len(found) == 1:
        return found[0].objective
    paths = {one.objective.rpartition(":")[0] for one in found}
    return paths.pop() if len(paths) == 1 else f"{len(found)}-pictures"


def _previewing(file: Path | None, about: str) -> Callable[[OptimizationStep], object]:
    from convscope._optvis.animation import Preview

    return (lambda step: None) if file is None else Preview(file, about)
