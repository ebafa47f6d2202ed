"""``convscope train``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.progress import ProgressBar
from convscope._errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from convscope._models import Model
    from convscope._train import EpochResult, TrainingResult
    from convscope._watch import Frames, Watch


def train(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A folder of images with a sub-folder for each class, a .zip or .tar of one, a "
            "folder of IDX files (MNIST), or shapes[,count=…,size=…].",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="File for the weights, .safetensors."),
    ],
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", help="Architecture: simplecnn or compact.")
    ] = "simplecnn",
    size: opt.Size = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Number of passes over the training split.")
    ] = 10,
    batch: Annotated[int, typer.Option(min=2, help="Number of images in a step.")] = 128,
    rate: Annotated[
        float, typer.Option(help="Highest learning rate of the one-cycle schedule.")
    ] = 0.02,
    shift: Annotated[int, typer.Option(min=0, help="Largest random translation, in pixels.")] = 2,
    flip: Annotated[bool, typer.Option(help="Mirror images at random.")] = False,
    precision: Annotated[
        str, typer.Option(help="Number format: float32, or bfloat16 (faster).")
    ] = "float32",
    seed: Annotated[
        int, typer.Option(help="Random seed; the same seed gives the same network.")
    ] = 0,
    patience: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Stop after N epochs without a better accuracy and keep the best epoch; 0: never.",
        ),
    ] = 0,
    resume: Annotated[
        bool, typer.Option(help="Continue where the same command was interrupted, or start again.")
    ] = True,
    watched: Annotated[
        list[str] | None,
        typer.Option(
            "--watch",
            metavar="LAYER",
            help="Layer whose feature maps are drawn after each epoch, and animated at the end. "
            "Repeatable.",
        ),
    ] = None,
    watch_image: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Image whose feature maps --watch draws.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Train a small network on labeled images.

    The weights are loaded with -m FILE.safetensors; their metadata are written beside them as
    JSON. After Ctrl-C the same command continues after the last finished epoch.
    """
    from convscope._train import Recipe
    from convscope._train import train as run

    watch, frames = _watch(watched, watch_image, output.with_suffix(".watch"))
    recipe = Recipe(
        epochs=epochs,
        batch=batch,
        rate=rate,
        shift=shift,
        flip=flip,
        precision=precision,
        seed=seed,
        patience=patience,
    )
    with ProgressBar("reading images", quiet=as_json) as bar:
        result = run(
            dataset,
            output,
            architecture=architecture,
            size=opt.parse_size(size),
            recipe=recipe,
            resume=resume,
            command=shlex.join(["convscope", *sys.argv[1:]]),
            watch=watch,
            on_epoch=lambda epoch: bar.print(_epoch_line(epoch)),
            on_batch=_batch_progress(bar),
        )
    figure = result.confusion.save(output.with_suffix(".confusion.png"))
    if as_json:
        print(json.dumps(result.metadata, indent=1))
    else:
        _print_result(result, [figure, *(frames.animations if frames else ())])


def _watch(
    layers: list[str] | None, image: Path | None, folder: Path
) -> tuple[Callable[[Model], Watch] | None, Frames | None]:
    """The watch that ``--watch`` and ``--watch-image`` describe together."""
    if not layers and not image:
        return None, None
    if not image:
        raise UsageError(
            f"--watch {' '.join(layers or ())} needs an image. Name one: --watch-image FILE"
        )
    if not layers:
        raise UsageError(f"--watch-image {image} needs a layer. Name one: --watch conv1")
    from convscope._watch import Frames, watch

    frames = Frames(folder)
    return lambda model: watch(model, image, layers, to=frames), frames


def _print_result(result: TrainingResult, figures: list[Path]) -> None:
    accuracy = result.metadata["accuracy"]
    typer.echo(
        f"{result.path}: accuracy {result.accuracy:.2%} on {accuracy['images']:,} test images"
    )
    if "chosen" in accuracy:
        typer.echo(
            f"epoch {accuracy['epoch']} was the best on these images, so this accuracy is slightly "
            "too high"
        )
    typer.echo(result.confusion.sentence())
    for path in figures:
        typer.echo(path)
    typer.echo(f"Next: convscope maps IMAGE -m {result.path}")


def _batch_progress(bar: ProgressBar) -> Callable[[int, int], None]:
    """Show batches on a bar, and note where an interrupted training resumes."""
    begun = False

    def on_batch(done: int, total: int) -> None:
        nonlocal begun
        if done > 1 and not begun:
            bar.print(f"resuming at {done / total:.0%}, where it was interrupted")
        begun = True
        bar.update(done, total, "training")

    return on_batch


def _epoch_line(epoch: EpochResult) -> str:
    return (
        f"epoch {epoch.number:>3} of {epoch.total}   loss {epoch.loss:.3f}   "
        f"accuracy {epoch.accuracy:.2%}"
    )
