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
    from convscope._scan import ScanProgress


def scan(
    dataset: opt.Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="ATLAS", help="Folder of the atlas to write.")
    ],
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    top: Annotated[
        int, typer.Option(min=1, help="Number of images in each list of the highest and lowest.")
    ] = 9,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT", help="Split to scan, of data with both: train or test (default: all)."
        ),
    ] = None,
    size: opt.Size = None,
    pooled: Annotated[
        bool,
        typer.Option(
            "--pooled", help="Keep the mean of every channel for every image (2 bytes each)."
        ),
    ] = False,
    sample: Annotated[
        int,
        typer.Option(
            min=1, help="Number of random images whose mean and peak are kept for every channel."
        ),
    ] = 512,
    seed: Annotated[int, typer.Option(help="Seed of the random images.")] = 0,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Batch size, in images (default: what fits in memory)."),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of images in a shard; finished shards survive an interruption "
            "(default: 256 to 8192).",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of decoding threads (default: one per core, at most 8)."),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="Where to compute: local, or ray for a cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of the Ray cluster (default: start one on this machine).",
        ),
    ] = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    unchecked: opt.Unchecked = False,
    as_json: opt.Json = False,
) -> None:
    """Scan a dataset: find what each channel responds to, in one pass, and write an atlas.

    Run the same command again to resume an interrupted scan.
    """
    from convscope._scan import scan as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape, unchecked)
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
                progress=_scan_progress(bar),
                on_note=opt.note,
            )
    except KeyboardInterrupt:
        opt.note("interrupted; run the same command again to resume")
        raise
    if as_json:
        manifest = {key: value for key, value in atlas.manifest.items() if key != "layers"}
        print(json.dumps(manifest, indent=1, ensure_ascii=False))
    else:
        _print_summary(atlas)


def _print_summary(atlas: Atlas) -> None:
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


def _scan_progress(bar: ProgressBar) -> Callable[[ScanProgress], None]:
    """Show the stages of a scan on a bar, with images a second."""
    stage = ""

    def on_progress(progress: ScanProgress) -> None:
        nonlocal stage
        if progress.stage != stage:
            stage = progress.stage
            bar.restart()
            if stage == "scanning" and progress.done:
                bar.print(f"resuming after {progress.done:,} of {progress.total:,} images")
        skipped = f", {progress.skipped:,} skipped" if progress.skipped else ""
        bar.update(progress.done, progress.total, f"{stage}{skipped}", "images")

    return on_progress
