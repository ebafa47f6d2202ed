"""``convscope maximize``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar, optimization_progress
from convscope._errors import UsageError

if TYPE_CHECKING:
    from convscope._optvis import OptimizationStep, OptimizedImage, OptimizedImages
    from convscope._optvis.maximize import ObjectiveLike

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
    steps: Annotated[int, typer.Option(min=1, help="Number of optimization steps.")] = 256,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW", help="Size of the image, in pixels (default: the model's input)."
        ),
    ] = None,
    param: Annotated[
        str,
        typer.Option(
            help="Parametrization: fourier, pixels, or maco (Fourier phases, with the magnitudes "
            "of --images)."
        ),
    ] = "fourier",
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    count: Annotated[
        int, typer.Option(min=1, help="Number of images per objective, from different noise.")
    ] = 1,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DATASET|ATLAS", help="Images to compare the activations with."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Image to start from instead of noise.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE", help="Draw an activation grid: one image per position of this image."
        ),
    ] = None,
    caricature: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Exaggerate the activations of this image."),
    ] = None,
    opacity: Annotated[
        bool, typer.Option("--opacity", help="Fade what the gradient did not reach.")
    ] = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Also write the optimization as an animated WebP.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the current images to this file every two seconds."
        ),
    ] = None,
    columns: opt.Columns = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    unchecked: opt.Unchecked = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Figure to write, or a folder: each image by itself too. JSON beside it.",
        ),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Optimize images that maximize units (activation maximization).

    Ctrl-C ends it early and keeps what is done.
    """
    from convscope._optvis import OptimizedImage, OptimizedImages
    from convscope._optvis import maximize as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape, unchecked)
    with ProgressBar("optimizing", quiet=as_json) as bar:
        result = run(
            loaded,
            _objective(addresses, grid, caricature),
            steps=steps,
            size=opt.parse_size(size),
            param=param,
            seed=seed,
            count=count,
            start=None if start is None else str(start),
            images=None if images is None else str(images),
            opacity=opacity,
            animate=animate,
            on_step=optimization_progress(bar, _preview(preview, f"model {loaded.title}")),
        )
    optimized = OptimizedImages([result]) if isinstance(result, OptimizedImage) else result
    written = [_save(optimized, output, columns, f"{addresses[0]}.grid" if grid else "")]
    if animate:
        written += optimized.save(written[0].with_suffix(".webp"), columns=columns)[:1]
    if as_json:
        print(json.dumps([one.to_dict() for one in optimized], indent=1, ensure_ascii=False))
        return
    for one in optimized:
        typer.echo(f"{one.label}: {one.sentence()}")
    for file in dict.fromkeys(written):
        typer.echo(file)


def _objective(
    addresses: list[str], grid: Path | None, caricature_of: Path | None
) -> ObjectiveLike | list[ObjectiveLike]:
    from convscope._optvis import activation_grid, caricature

    if grid and (caricature_of or len(addresses) > 1):
        raise UsageError("--grid takes one layer and one image. Leave out the rest")
    if grid:
        return activation_grid(str(grid), addresses[0])
    if caricature_of:
        return [caricature(str(caricature_of), path) for path in addresses]
    return list(addresses)


def _save(images: OptimizedImages, output: Path | None, columns: int | None, name: str) -> Path:
    """A single image as its own figure, several as a contact sheet; a folder holds all."""
    from convscope._layers import file_name

    first: OptimizedImage = images[0]
    if output is not None and not output.suffix:
        return images.save(output, columns=columns)[0]
    target = output or Path(f"{file_name(name or _common_name(images))}.maximize.png")
    return first.save(target) if len(images) == 1 else images.save(target, columns=columns)[0]


def _common_name(images: OptimizedImages) -> str:
    """The unit, the layer of all units, or their number."""
    if len(images) == 1:
        return images[0].objective
    paths = {one.objective.rpartition(":")[0] for one in images}
    return paths.pop() if len(paths) == 1 else f"{len(images)}-images"


def _preview(file: Path | None, title_line: str) -> Callable[[OptimizationStep], object]:
    from convscope._optvis.animation import Preview

    return (lambda step: None) if file is None else Preview(file, title_line)
