"""``convscope scan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable

    from convscope._atlas import Atlas
    from convscope._scan import Step


def scan(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A folder of images, a .zip or .tar, an IDX folder, "
            "torchvision:NAME,root=…, or shapes.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="ATLAS", help="The folder to write.")
    ],
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    top: Annotated[int, typer.Option(min=1, help="Images in each list.")] = 9,
    split: Annotated[
        str | None, typer.Option(help="train or test, of data that bring both; all by default.")
    ] = None,
    size: opt.Size = None,
    pooled: Annotated[
        bool,
        typer.Option("--pooled", help="Keep the mean of every channel and image: 2 bytes each."),
    ] = False,
    sample: Annotated[
        int, typer.Option(min=1, help="Random images of which every channel is kept.")
    ] = 512,
    seed: Annotated[int, typer.Option(help="Which random images.")] = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images that enter the network together.")
    ] = None,
    shard: Annotated[
        int | None, typer.Option(min=1, help="Images after which the work is safe on disk.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode.")] = None,
    engine: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of a Ray cluster; else one is started.")
    ] = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    as_json: opt.Json = False,
) -> None:
    """What each channel responds to in a dataset: one pass, written as an atlas.

    Ctrl-C and worse lose little: the same command again goes on where it was stopped.
    """
    from convscope._scan import scan as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    try:
        with ProgressBar("opening", quiet=as_json) as bar:
            atlas = run(
                loaded,
                dataset,
                output,
                layers,
                top=top,
                split=split,
                size=opt.parse_size(size),
                pooled=pooled,
                sample=sample,
                seed=seed,
                batch=batch,
                shard=shard,
                workers=workers,
                engine=engine,
                address=address,
                on_step=_scan_progress(bar),
                on_note=opt.note,
            )
    except KeyboardInterrupt:
        opt.note("interrupted; the same command goes on from here")
        raise
    if as_json:
        print(
            json.dumps(
                {key: value for key, value in atlas.manifest.items() if key != "layers"},
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    _say(atlas)


def _say(atlas: Atlas) -> None:
    units = sum(layer.channels for layer in atlas.layers)
    typer.echo(
        f"{atlas.folder}: {units:,} units in {len(atlas.layers)} layers, over "
        f"{atlas.images:,} images of {atlas.dataset}"
    )
    skipped = atlas.manifest["state"]["skipped"]
    if skipped:
        first = atlas.skipped[0]["reason"]
        opt.note(
            f"{skipped:,} image{'s' * (skipped > 1)} could not be read and "
            f"{'are' if skipped > 1 else 'is'} named in the manifest; the first: "
            f"{first}"
        )
    last = atlas.layers[-1]
    typer.echo(
        f"Next: convscope report {atlas.folder}   or: convscope top {atlas.folder} '{last.path}:0'"
    )


def _scan_progress(bar: ProgressBar) -> Callable[[Step], None]:
    """Show the stages of a scan on a bar, with images a second."""
    stage = ""

    def on_step(step: Step) -> None:
        nonlocal stage
        if step.stage != stage:
            stage = step.stage
            bar.restart()
            if stage == "scanning" and step.done:
                bar.print(f"resuming after {step.done:,} of {step.of:,} images")
        skipped = f", {step.skipped:,} skipped" if step.skipped else ""
        bar.update(step.done, step.of, f"{stage}{skipped}", "images")

    return on_step
