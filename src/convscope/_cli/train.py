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
    from convscope._train import Epoch, Trained
    from convscope._watch import Frames, Watch


def train(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A folder of images with a sub-folder for each class, a .zip or .tar of "
            "one, a folder of IDX files (MNIST), or shapes[,count=…,size=…]."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Weights, as .safetensors.")
    ],
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", help="simplecnn or compact.")
    ] = "simplecnn",
    size: opt.Size = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training part.")] = 10,
    batch: Annotated[int, typer.Option(min=2, help="Pictures in a step.")] = 128,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 0.02,
    shift: Annotated[int, typer.Option(min=0, help="Largest random shift, in pixels.")] = 2,
    flip: Annotated[bool, typer.Option(help="Mirror pictures at random.")] = False,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 (faster).")] = "float32",
    seed: Annotated[int, typer.Option(help="The same seed gives the same network.")] = 0,
    patience: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Stop after N epochs without a better accuracy and keep the best; 0: never.",
        ),
    ] = 0,
    resume: Annotated[
        bool, typer.Option(help="Go on where the same command was interrupted, or start afresh.")
    ] = True,
    watched: Annotated[
        list[str] | None,
        typer.Option(
            "--watch",
            metavar="LAYER",
            help="The feature maps of this layer after each "
            "epoch, and an animation at the end. Repeatable.",
        ),
    ] = None,
    watch_image: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="The picture for --watch.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Train a small network on labeled pictures, to look into it.

    The file is loaded with -m FILE.safetensors; its metadata are written beside it as
    JSON. After Ctrl-C     the same command goes on after the last finished epoch.
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
        trained = run(
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
    picture = trained.confusion.save(output.with_suffix(".confusion.png"))
    if as_json:
        print(json.dumps(trained.metadata, indent=1))
    else:
        _say(trained, [picture, *(frames.animations if frames else ())])


def _watch(
    layers: list[str] | None, image: Path | None, folder: Path
) -> tuple[Callable[[Model], Watch] | None, Frames | None]:
    """What ``--watch`` and ``--watch-image`` ask for together."""
    if not layers and not image:
        return None, None
    if not image:
        raise UsageError(
            f"--watch {' '.join(layers or ())} looks at which picture? Name one: --watch-image FILE"
        )
    if not layers:
        raise UsageError(f"Which layer is to look at {image}? Name one: --watch conv1")
    from convscope._watch import Frames, watch

    frames = Frames(folder)
    return lambda model: watch(model, image, layers, to=frames), frames


def _say(trained: Trained, pictures: list[Path]) -> None:
    said = trained.metadata["accuracy"]
    typer.echo(
        f"{trained.path}: accuracy {trained.accuracy:.2%} on "
        f"{said['images']:,} pictures it was not trained on"
    )
    if "chosen" in said:
        typer.echo(
            f"epoch {said['epoch']} was the best on these pictures, so that is a little too high"
        )
    typer.echo(trained.confusion.sentence())
    for picture in pictures:
        typer.echo(picture)
    typer.echo(f"Next: convscope maps IMAGE -m {trained.path}")


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


def _epoch_line(epoch: Epoch) -> str:
    return (
        f"epoch {epoch.number:>3} of {epoch.of}   loss {epoch.loss:.3f}   "
        f"accuracy {epoch.accuracy:.2%}"
    )
