"""Options that several verbs share, and how their values are parsed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope._errors import UsageError

if TYPE_CHECKING:
    from convscope._models import Model

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="CONVSCOPE_MODEL",
        metavar="MODEL",
        help="Model: demo, torchvision:NAME, timm:NAME, keras:NAME, a file, or FILE.py:factory.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights to load: .safetensors, .pth, .ckpt or .weights.h5."),
]
Preprocessing = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="SPEC",
        help="Preprocessing, for models that do not bring their own: imagenet, raw (0…255), unit "
        "(0…1), tf, caffe, or resize=256,crop=224,mean=0.5/0.5/0.5,std=….",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names, one a line or as a JSON list."),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="C,H,W", help="Input shape, for models that do not define one."
    ),
]
Unchecked = Annotated[
    bool,
    typer.Option(
        "--unchecked",
        help="Show also layers that differ from a plain forward hook's record, with a note.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        help="Input size of the network, in pixels (default: the model's own).",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        "-l",
        metavar="LAYERS",
        help="Layers: a path, a glob (block?_conv1) or a kind (kind=conv). Repeatable.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", "-c", metavar="LIST", help="Channels to draw, e.g. 3,7,12-20."),
]
First = Annotated[int | None, typer.Option("-n", "--first", min=1, help="Number of channels.")]
Columns = Annotated[int | None, typer.Option(min=1, help="Number of tiles in a row.")]
Range = Annotated[
    str,
    typer.Option(metavar="RANGE", help="Range of the color scale: channel, layer, or LOW,HIGH."),
]
Theme = Annotated[str, typer.Option(metavar="THEME", help="Color theme: light or dark.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Figure to write (.png, .webp, .jpg, .svg, .pdf), or a folder "
        "(default: the working directory).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Show = Annotated[bool, typer.Option("--show", help="Open what was written.")]

AtlasFolder = Annotated[
    Path, typer.Argument(metavar="ATLAS", help="Atlas: a folder that convscope scan wrote.")
]
OptionalAtlas = Annotated[
    Path | None, typer.Argument(metavar="ATLAS", help="Atlas: a folder that convscope scan wrote.")
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="Dataset: a folder of images (a sub-folder for each class), a .zip or .tar of one, a "
        "folder of IDX files (MNIST), torchvision:NAME,root=…, or shapes[,count=…,size=…].",
    ),
]
FirstImages = Annotated[
    int | None,
    typer.Option(
        "--first",
        min=2,
        metavar="N",
        help="Number of images, spread evenly over the dataset (default: all).",
    ),
]
FigureFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Figure to write."),
]
ImageFiles = Annotated[
    list[Path] | None,
    typer.Option("--image", metavar="FILE", help="Image to show. Repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]


def load_model(
    name: str,
    weights: Path | None = None,
    preprocess: str | None = None,
    classes: Path | None = None,
    input_shape: str | None = None,
    unchecked: bool = False,
) -> Model:
    """Load the model that the options name; note on stderr where it looks untrained."""
    from convscope._models import load

    model = load(
        name,
        weights=weights,
        preprocess=preprocess,
        classes=None if classes is None else read_classes(classes),
        input=None if input_shape is None else parse_shape(input_shape),
        unchecked=unchecked,
    )
    if untrained := model.untrained_note(name):
        note(untrained)
    return model


def note(text: str) -> None:
    """Print a note, which is not an error, on stderr."""
    typer.secho(f"note: {text}", err=True, dim=True)


def read_classes(path: Path) -> list[str]:
    """Read class names from a file: a JSON list, or one name a line."""
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
    """Parse ``3,224,224``; ``1,16,64,64`` for volumes, ``2,100`` for signals."""
    numbers = text.replace("x", ",").split(",")
    is_number = [number.strip().isdigit() and int(number) > 0 for number in numbers]
    if len(numbers) not in (2, 3, 4) or not all(is_number):
        raise UsageError(
            f"--input {text} is not understood. Write channels,height,width: 3,224,224 "
            "(channels,slices,height,width for volumes; channels,length for signals)"
        )
    return tuple(int(n) for n in numbers)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse ``224`` or ``160x224`` (height first)."""
    if text is None:
        return None
    numbers = text.split("x")
    if len(numbers) > 2 or not all(n.isdigit() and int(n) > 0 for n in numbers):
        raise UsageError(f"--size {text} is not understood. Write 224, or 160x224 (height first)")
    return int(numbers[0]), int(numbers[-1])


def parse_position(text: str) -> tuple[int, int]:
    """Parse ``12,7``: row and column."""
    numbers = text.split(",")
    if len(numbers) != 2 or not all(n.strip().isdigit() for n in numbers):
        raise UsageError(f"{text} is no position. Write row,column: 12,7")
    return int(numbers[0]), int(numbers[1])


def parse_channels(text: str | None) -> list[int] | None:
    """Parse ``3,7,12-20`` into a list, in the order given."""
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
    """Parse ``channel``, ``layer`` or ``LOW,HIGH``."""
    if text in ("channel", "layer"):
        return text
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        raise UsageError(
            f"--range {text} is not understood. Write channel, layer, or two numbers: --range=-1,1"
        ) from None
    return low, high
