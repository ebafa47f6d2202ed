"""Verbs that make: demo, train."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli import options as opt

if TYPE_CHECKING:
    from convscope.training import Epoch


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")
    ] = Path("convscope-demo"),
) -> None:
    """Everything on the built-in network, offline, into ./convscope-demo/."""
    from convscope.demo import run

    for step in run(output):
        typer.echo(step)


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
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 0.1,
    shift: Annotated[int, typer.Option(min=0, help="Largest random shift, in pixels.")] = 2,
    flip: Annotated[bool, typer.Option(help="Mirror pictures at random.")] = False,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 (faster).")] = "float32",
    seed: Annotated[int, typer.Option(help="The same seed gives the same network.")] = 0,
    as_json: opt.Json = False,
) -> None:
    """Train a small network on labelled pictures, to look into it.

    The file is loaded with -m FILE.safetensors; a JSON card beside it says what it is. Ctrl-C keeps
    the last finished epoch.
    """  # fmt: skip
    from convscope.training import Recipe
    from convscope.training import train as run

    recipe = Recipe(epochs=epochs, batch=batch, rate=rate, shift=shift, flip=flip,
                    precision=precision, seed=seed)  # fmt: skip
    with _Progress(quiet=as_json) as progress:
        trained = run(
            dataset, output, architecture=architecture, size=opt.parse_size(size), recipe=recipe,
            command=shlex.join(["convscope", *sys.argv[1:]]),
            on_epoch=progress.epoch, on_batch=progress.batch,
        )  # fmt: skip
    if as_json:
        print(json.dumps(trained.card, indent=1))
        return
    typer.echo(f"{trained.path}: accuracy {trained.accuracy:.2%} on "
               f"{trained.card['accuracy']['images']:,} pictures it was not trained on")  # fmt: skip
    typer.echo(f"Next: convscope maps IMAGE -m {trained.path}")


class _Progress:
    """A bar on stderr, and a line for each epoch."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("reading pictures", total=None)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def batch(self, done: int, of: int) -> None:
        self._bar.update(self._task, completed=done, total=of, description="training")

    def epoch(self, epoch: Epoch) -> None:
        self._bar.console.print(
            f"epoch {epoch.number:>3} of {epoch.of}   loss {epoch.loss:.3f}   "
            f"accuracy {epoch.accuracy:.2%}", highlight=False,
        )  # fmt: skip
