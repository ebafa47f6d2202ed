"""``convscope attribute``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._attribution.methods import METHODS
from convscope._cli import options as opt
from convscope._cli.options import FigureFile
from convscope._cli.progress import ProgressBar
from convscope._cli.tables import print_table

if TYPE_CHECKING:
    from convscope._attribution.attribution_result import AttributionResult


def attribute(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Input image.")],
    model: opt.ModelName = "demo",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="CLASS|ADDRESS",
            help="Class by name or number, or unit (PATH:CHANNEL[@Y,X]); by default the predicted "
            "class.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help=f"{', '.join(METHODS)}. Repeatable; all by default."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="LAYER",
            help="Layer for Grad-CAM and --channels; by default the last one of maps before the "
            "target.",
        ),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of channels to list, with their score drop when ablated.",
        ),
    ] = 0,
    randomization_test: Annotated[
        bool,
        typer.Option(
            "--randomization-test",
            help="Compute the maps again with randomized parameters (Adebayo et al., 2018).",
        ),
    ] = False,
    baseline: Annotated[
        str,
        typer.Option(
            metavar="zero|gray|blurred",
            help="Baseline of integrated gradients, occlusion and deletion; zero is black.",
        ),
    ] = "zero",
    atlas: Annotated[
        Path | None,
        typer.Option(
            metavar="ATLAS", help="Atlas of this model: show exemplars of the --channels."
        ),
    ] = None,
    theme: opt.Theme = "light",
    size: opt.Size = None,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    unchecked: opt.Unchecked = False,
    output: FigureFile = None,
    as_json: opt.Json = False,
) -> None:
    """Attribute a prediction to pixels and channels; check every map."""
    from convscope._attribution.attribute import attribute as run
    from convscope._layers import figure_name

    loaded = opt.load_model(model, weights, preprocess, classes, input_shape, unchecked)
    with ProgressBar(quiet=as_json) as bar:
        result = run(
            loaded,
            image,
            target,
            method=method or tuple(METHODS),
            layer=layer,
            channels=channels,
            randomization_test=randomization_test,
            baseline=baseline,
            size=opt.parse_size(size),
            atlas=atlas,
            on_step=bar.describe,
        )
    name = figure_name(image.name, f"attribution.{result.target.replace(' ', '-')}", ".png")
    written = result.save(output or Path(name), theme=theme)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
        return
    _print(result)
    typer.echo(written)


def _print(result: AttributionResult) -> None:
    typer.echo(result.sentence())
    for line in result.sentences():
        typer.echo(f"  {line}")
    if result.channels:
        print_table(
            ("channel", "gradient × activation", "score drop if ablated"),
            [
                (one.address, f"{one.attribution:.3g}", f"{one.score_drop:.3g}")
                for one in result.channels.channels
            ],
        )
