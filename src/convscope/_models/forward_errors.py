"""What a network raises for an input, as one line that says what to do."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from convscope._errors import ModelError
from convscope._models.inputs import Input

_ALONE = "Give a module that takes the image alone, and whose forward calls it with"
_AXES = {"image": "C,H,W", "volume": "C,D,H,W", "signal": "C,L"}


def forward_error(
    name: str, input: Input, values: Tensor, error: Exception, modules: Sequence[Any]
) -> ModelError:
    """The error of a pass over ``values``; ``modules`` are the network's, itself the first."""
    other = _expected_otherwise(error, modules)
    if other:
        return ModelError(f"{name} takes no plain array of images: {other}")
    line = " ".join(str(error).split())[:200].rstrip(".")
    channels, height, width = values.shape[1:]
    sides: tuple[int, ...] = (height, width)
    if input.kind != "image":
        sides = (input.depth, height // input.depth, width) if input.depth else (width,)
    shape = "×".join(map(str, (channels, *sides)))
    advice = _advice(input, values, line, [type(module).__name__ for module in modules])
    return ModelError(
        f"{name} failed on an input of {shape}: {type(error).__name__}: {line}. {advice}"
    )


def _expected_otherwise(error: Exception, modules: Sequence[Any]) -> str:
    """What a network takes instead of an array, where what it does with the array shows it."""
    first = parameters_of(modules[0])[:1] if modules else []
    name = first[0].name if first else ""
    code = "\n".join(frame.line or "" for frame in traceback.extract_tb(error.__traceback__))
    key = re.search(rf"\b{name}\[['\"](\w+)['\"]\]", code) if name else None
    if key and isinstance(error, (IndexError, TypeError, KeyError, ValueError)):
        return f"it reads {name}[{key[1]!r}]. {_ALONE} a dict: {{{key[1]!r}: image}}"
    attribute = re.search(r"'Tensor' object has no attribute '(\w+)'", str(error))
    if attribute and name and re.search(rf"\b{name}\.{attribute[1]}\b", code):
        return f"it reads {name}.{attribute[1]}. {_ALONE} what it expects"
    if "'indices' to have one of the following scalar types: Long, Int" in str(error):
        return f"it looks numbers up in a table, such as those of words. {_ALONE} all it expects"
    return ""


def parameters_of(network: Any) -> list[inspect.Parameter]:
    """The parameters of its forward function, where it has one that says them."""
    try:
        return list(inspect.signature(network.forward).parameters.values())
    except (AttributeError, TypeError, ValueError):
        return []


def _advice(input: Input, values: Tensor, line: str, kinds: list[str]) -> str:
    if "Conv3d" in kinds and not input.depth:
        return "It takes volumes. Give their shape: --input C,D,H,W"
    if not input.signal and "Expected 2D (unbatched) or 3D (batched) input to conv1d" in line:
        return "It takes signals. Give their shape: --input C,L"
    if input.signal and "Conv2d" in kinds and "Conv1d" not in kinds:
        return "It takes images. Give their shape: --input C,H,W"
    network = re.escape(kinds[0]) if kinds else ""
    if re.search(
        r"required (positional|keyword-only) argument|expects \d+ (named )?input\(s\)"
        rf"|\b{network}\.forward\(\) takes 1 positional argument but 2 were given",
        line,
    ):
        return f"It takes more than one input. {_ALONE} the others"
    if "not implemented for" in line:
        return "The processor lacks this for the type of its weights: give network.float()"
    if input.shape and (input.channels, *(input.size or ())) != tuple(values.shape[1:]):
        return f"It takes {'×'.join(map(str, input.shape))}"
    return f"If the size is wrong: --input {_AXES[input.kind]}"
