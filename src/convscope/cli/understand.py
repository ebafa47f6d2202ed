"""Verbs that explain: attribute, ablate, sensitivity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from convscope.cli import options as opt

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A folder of images (a sub-folder for each class), a .zip or .tar of one, a folder of "
        "IDX files (MNIST), or shapes.",
    ),
]
First = Annotated[
    int | None,
    typer.Option("--first", min=2, metavar="N", help="So many pictures, spread over the data."),
]
Out = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="The picture.")]


def attribute(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    model: opt.ModelName = "demo",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="CLASS|ADDRESS",
            help="A class by name or number, or a unit (PATH:CHANNEL[@Y,X]); by default the class "
            "that is predicted.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="gradcam, integrated_gradients, gradient_x_input, smoothgrad, occlusion. "
            "Repeatable; all by default."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", "-l", metavar="LAYER", help="For Grad-CAM and --channels."),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="List the N channels that mattered most."),
    ] = 0,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also ask copies with shuffled weights.")
    ] = False,
    baseline: Annotated[
        str, typer.Option(help="What shows nothing: black, grey or blurred.")
    ] = "black",
    atlas: Annotated[
        Path | None,
        typer.Option(metavar="ATLAS", help="Show what the --channels respond to most in it."),
    ] = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Out = None,
    as_json: opt.Json = False,
) -> None:
    """Why this answer: where in the picture, and through which channels."""
    from convscope.attribution import attribute as run
    from convscope.attribution.methods import METHODS
    from convscope.specimen import picture_name

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with opt.Steps(quiet=as_json) as steps:
        found = run(
            loaded, image, target, method=method or tuple(METHODS), layer=layer, channels=channels,
            sanity=sanity, baseline=baseline, size=opt.parse_size(size), atlas=atlas,
            on_step=steps.say,
        )  # fmt: skip
    name = picture_name(image.name, f"why.{found.target.replace(' ', '-')}", ".png")
    written = found.save(output or Path(name), theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.card(), indent=1, ensure_ascii=False))
        return
    typer.echo(found.sentence())
    for line in found.sentences():
        typer.echo(f"  {line}")
    if found.channels:
        _table(
            ("channel", "share", "cost if silenced"),
            [(c.address, f"{c.share:.3g}", f"{c.cost:.3g}") for c in found.channels.listed],
        )
    typer.echo(written)


def ablate(
    dataset: Data,
    units: Annotated[
        list[str],
        typer.Argument(metavar="UNIT...", help="Units (PATH:CHANNEL), or layers: all channels."),
    ],
    model: opt.ModelName = "demo",
    each: Annotated[bool, typer.Option("--each", help="Every unit by itself.")] = False,
    duplicates: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, metavar="R",
            help="Find channels that follow another one with this correlation (0.95), silence "
            "them, and compute them from that one.",
        ),
    ] = None,
    fill: Annotated[str, typer.Option(help="What silenced channels hold: zero or mean.")] = "zero",
    first: First = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    output: Out = None,
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """What it costs to do without some channels: accuracy, overall and for each class."""
    from convscope.ablation import ablate as run
    from convscope.layers import file_name

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape)
    with opt.Steps(quiet=as_json) as steps:
        found = run(
            loaded, dataset, units, each=each, duplicates=duplicates, fill=fill, first=first,
            size=opt.parse_size(size), progress=steps.count,
        )  # fmt: skip
    written = None
    if found.losses:
        name = file_name(units[0]) + (".duplicates" if duplicates is not None else ".ablated")
        written = found.save(output or Path(f"{name}.png"), theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.card(), indent=1, ensure_ascii=False))
        return
    typer.echo(f"{found.pictures}: intact accuracy {found.intact.accuracy:.2%}")
    for loss in found.worst[:10]:
        typer.echo(f"  {found.sentence(loss)}")
    typer.echo(written or found.note)


def sensitivity(
    dataset: Data,
    model: opt.ModelName = "demo",
    layers: opt.Layers = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            help="brightness, contrast, hue, blur, noise, JPEG, rotation, scale, translation, "
            "occlusion, flip. Repeatable; all by default."
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Say what this unit follows. Repeatable."),
    ] = None,
    first: Annotated[
        int, typer.Option("--first", min=2, metavar="N", help="So many pictures, spread evenly.")
    ] = 64,
    pool: Annotated[
        str, typer.Option(help="A channel's answer: the mean or the peak of its map.")
    ] = "mean",
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    input_shape: opt.InputShape = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE|DIR", help="The overview, or a folder: "
                           "every layer's curves too.")
    ] = Path("sensitivity"),
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """What channels and layers are sensitive to: controlled changes, gratings, colours."""
    from convscope.tuning import sensitivity as run

    loaded = opt.load_model(model, weights, preprocess, None, input_shape)
    with opt.Steps(quiet=as_json) as steps:
        found = run(
            loaded, dataset, layers, changes=change, first=first, pool=pool,
            size=opt.parse_size(size), progress=steps.count,
        )  # fmt: skip
    written = found.save(output, theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(found.card(), indent=1, ensure_ascii=False))
        return
    typer.echo(found.sentence())
    names = list(found.layers[0].invariance)
    rows = [(la.layer.path, *(f"{la.overall()[n]:.2f}" for n in names)) for la in found.layers]
    _table(("invariance", *names), rows)
    for address in unit or ():
        typer.echo(found.unit(address))
    for path in written:
        typer.echo(path)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        options: dict[str, Any] = {"justify": "right"} if place else {}
        table.add_column(head, no_wrap=True, **options)
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # a file or a pipe has no edge to cut at
        console.width = 1000
    console.print(table)
