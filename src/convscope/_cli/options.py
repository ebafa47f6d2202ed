"""What several verbs take, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._errors import UsageError

if TYPE_CHECKING:
    from convscope._models import Model

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to look at.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="CONVSCOPE_MODEL",
        metavar="MODEL",
        help="The network: demo, torchvision:NAME, timm:NAME, keras:NAME, a file, FILE.py:factory.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights for it: .safetensors, .pth or .weights.h5."),
]
Preprocessing = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="HOW",
        help="imagenet, raw (0…255), unit (0…1), tf, caffe, or resize=256,crop=224,"
        "mean=0.5/0.5/0.5,std=…; for models that do not bring their own.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names: one a line, or a JSON list."),
]
InputShape = Annotated[
    str | None,
    typer.Option("--input", metavar="C,H,W", help="Input shape, where it cannot be known."),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW", help="Show pictures to the network at another size than its own."
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        "-l",
        metavar="LAYERS",
        help="A path, a glob (block?_conv1) or a kind (kind=conv). Repeatable.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", "-c", metavar="LIST", help="These channels: 3,7,12-20."),
]
First = Annotated[int | None, typer.Option("-n", "--first", min=1, help="So many channels.")]
Columns = Annotated[int | None, typer.Option(min=1, help="Pictures in a row.")]
Range = Annotated[
    str,
    typer.Option(metavar="RANGE", help="What the colors span: channel, layer, or LOW,HIGH."),
]
Theme = Annotated[str, typer.Option(metavar="THEME", help="light or dark.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Where to write; .png, .webp, .jpg, .svg or .pdf.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Show = Annotated[bool, typer.Option("--show", help="Open the pictures when they are written.")]

AtlasFolder = Annotated[Path, typer.Argument(metavar="ATLAS", help="A folder that scan wrote.")]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A folder of images (a sub-folder for each class), a .zip or .tar of one, a folder of "
        "IDX files (MNIST), or shapes.",
    ),
]
FirstImages = Annotated[
    int | None,
    typer.Option("--first", min=2, metavar="N", help="So many pictures, spread over the data."),
]
FigureFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="The picture.")
]
ImageFiles = Annotated[
    list[Path] | None,
    typer.Option("--image", metavar="FILE", help="A picture to look at. Repeatable."),
]


def load_model(
    name: str,
    weights: Path | None = None,
    preprocess: str | None = None,
    classes: Path | None = None,
    input_shape: str | None = None,
) -> Model:
    """The model that the options name; what had to be assumed is said on stderr."""
    from convscope._models import load

    model = load(
        name,
        weights=weights,
        preprocess=preprocess,
        classes=None if classes is None else read_classes(classes),
        input=None if input_shape is None else parse_shape(input_shape),
    )
    untrained = model.looks_untrained()
    if untrained:
        note(f"{name} looks untrained: {untrained}")
    return model


def note(text: str) -> None:
    """Say something on stderr that is no error."""
    typer.secho(f"note: {text}", err=True, dim=True)


def read_classes(path: Path) -> list[str]:
    """Class names from a file: a JSON list, or one name a line."""
    import json

    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except OSError as error:
        raise UsageError(f"--classes {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--classes {path} is not JSON: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"--classes {path} is not a list of names, one a line or as JSON")
    return [name for name in names if name.strip()]


def parse_shape(text: str) -> tuple[int, ...]:
    """``3,224,224``; of volumes ``1,16,64,64``."""
    numbers = text.replace("x", ",").split(",")
    if len(numbers) not in (3, 4) or not all(n.strip().isdigit() and int(n) > 0 for n in numbers):
        raise UsageError(
            f"--input {text} is not understood. Write channels,height,width: 3,224,224 "
            "(channels,slices,height,width for a network of volumes)"
        )
    return tuple(int(n) for n in numbers)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``224`` or ``160x224`` (height first)."""
    if text is None:
        return None
    numbers = text.split("x")
    if len(numbers) > 2 or not all(n.isdigit() and int(n) > 0 for n in numbers):
        raise UsageError(f"--size {text} is not understood. Write 224, or 160x224 (height first)")
    return int(numbers[0]), int(numbers[-1])


def parse_position(text: str) -> tuple[int, int]:
    """``12,7``: row and column."""
    numbers = text.split(",")
    if len(numbers) != 2 or not all(n.strip().isdigit() for n in numbers):
        raise UsageError(f"{text} is no position. Write row,column: 12,7")
    return int(numbers[0]), int(numbers[1])


def parse_channels(text: str | None) -> list[int] | None:
    """``3,7,12-20`` as a list, in the order given."""
    if text is None:
        return None
    channels: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        backwards = high.isdigit() and low.isdigit() and int(high) < int(low)
        if not low.isdigit() or (high and not high.isdigit()) or backwards:
            raise UsageError(f"--channels {text} is not understood. Write 3,7,12-20")
        channels += range(int(low), int(high or low) + 1)
    return channels


def parse_range(text: str) -> Any:
    """``channel``, ``layer`` or ``LOW,HIGH``."""
    if text in ("channel", "layer"):
        return text
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        raise UsageError(
            f"--range {text} is not understood. Write channel, layer, or two numbers: --range=-1,1"
        ) from None
    return low, high


class Steps:
    """What is being done, on stderr, while it is done: a spinner, or a bar where it can be told."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("loading", total=None)

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, what: str) -> None:
        """Name the step."""
        self._bar.update(self._task, description=what.replace("_", " "))

    def count(self, done: int, of: int) -> None:
        """Say how far it is."""
        self._bar.update(self._task, completed=done, total=of)
