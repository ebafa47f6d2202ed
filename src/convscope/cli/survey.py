"""Verbs that survey a dataset: scan, top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli import options as opt
from convscope.cli.progress import Bar
from convscope.errors import UsageError

if TYPE_CHECKING:
    from convscope.atlas import Atlas, Exemplar
    from convscope.scanning import Step

AtlasFolder = Annotated[Path, typer.Argument(metavar="ATLAS", help="A folder that scan wrote.")]


def scan(
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="A folder of images, a .zip or .tar, an IDX folder, "
                       "torchvision:NAME,root=…, or shapes."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="ATLAS", help="The folder to write.")
    ],
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    top: Annotated[int, typer.Option(min=1, help="Images in each list.")] = 9,
    part: Annotated[
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
) -> None:  # fmt: skip
    """What each channel responds to in a dataset: one pass, written as an atlas.

    Ctrl-C and worse lose little: the same command again goes on where it was stopped.
    """
    from convscope.scanning import scan as run

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    try:
        with _Progress("opening", quiet=as_json) as bar:
            atlas = run(
                loaded, dataset, output, layers, top=top, part=part, size=opt.parse_size(size),
                pooled=pooled, sample=sample, seed=seed, batch=batch, shard=shard, workers=workers,
                engine=engine, address=address, on_step=bar.step, on_note=opt.note,
            )  # fmt: skip
    except KeyboardInterrupt:
        opt.note("interrupted; the same command goes on from here")
        raise
    if as_json:
        print(json.dumps({key: value for key, value in atlas.manifest.items() if key != "layers"},
                         indent=1, ensure_ascii=False))  # fmt: skip
        return
    _say(atlas)


def _say(atlas: Atlas) -> None:
    units = sum(layer.channels for layer in atlas.layers)
    typer.echo(f"{atlas.folder}: {units:,} units in {len(atlas.layers)} layers, over "
               f"{atlas.images:,} images of {atlas.dataset}")  # fmt: skip
    skipped = atlas.manifest["state"]["skipped"]
    if skipped:
        first = atlas.skipped[0]["reason"]
        opt.note(f"{skipped:,} image{'s' * (skipped > 1)} could not be read and "
                 f"{'are' if skipped > 1 else 'is'} named in the manifest; the first: "
                 f"{first}")  # fmt: skip
    last = atlas.layers[-1]
    typer.echo(f"Next: convscope report {atlas.folder}   or: "
               f"convscope top {atlas.folder} '{last.path}:0'")  # fmt: skip


def top(
    atlas: AtlasFolder,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="A unit: PATH:CHANNEL, for example conv1:3.")
    ],
    by: Annotated[str, typer.Option(help="mean or peak of the map.")] = "mean",
    bottom: Annotated[bool, typer.Option("--bottom", help="The lowest instead.")] = False,
    first: opt.First = None,
    columns: opt.Columns = None,
    cmap: Annotated[
        str, typer.Option(metavar="CMAP", help="Of the maps: magma, viridis or grey.")
    ] = "magma",
    theme: opt.Theme = "light",
    output: opt.Output = None,
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """The images that a unit responds to most: crops, its map over them, whole images."""
    from convscope.atlas import Unit, open_atlas
    from convscope.layers import file_name

    unit = open_atlas(atlas)[address]
    if not isinstance(unit, Unit):
        raise UsageError(f"{address!r} is a layer. Name a channel of it: '{address}:0'")
    found = (unit.bottom if bottom else unit.top)(by, first)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps({"unit": unit.address, "list": found.name, "ties": found.ties,
                          "exemplars": [_as_json(one) for one in found]}, indent=1,
                         ensure_ascii=False))  # fmt: skip
        return
    options: dict[str, Any] = {"columns": columns, "cmap": cmap, "theme": theme}
    sheet = unit.sheet(by, bottom=bottom, first=first, **options)  # type: ignore[arg-type]
    end = "bottom" if bottom else "top"
    target = output or Path(f"{file_name(unit.address)}.{end}.{by}.png")
    if not target.suffix:
        target = target / f"{file_name(unit.address)}.{end}.{by}.png"
    typer.echo(repr(found))
    typer.echo(sheet.save(target))
    if show:
        typer.launch(str(target))


def _as_json(one: Exemplar) -> dict[str, Any]:
    return {
        "rank": one.rank, "image": one.image, "id": one.id, "label": one.label, "score": one.score,
        "position": one.position, "crop": one.crop_box,
    }  # fmt: skip


class _Progress(Bar):
    """Its stages, with images a second."""

    _stage = ""

    def step(self, step: Step) -> None:
        if step.stage != self._stage:
            self._stage = step.stage
            self.restart()
            if step.stage == "scanning" and step.done:
                self.say(f"going on after {step.done:,} of {step.of:,} images")
        skipped = f", {step.skipped:,} skipped" if step.skipped else ""
        self.show(step.done, step.of, f"{step.stage}{skipped}", "images")
