"""What a network raises, in one line that says what to do."""

from __future__ import annotations

import re

from torch import Tensor

from convscope._errors import ModelError
from convscope._models.batch import Input


def failed(
    name: str, input: Input, values: Tensor, error: Exception, volumes: bool = False
) -> ModelError:
    """The error for a network that failed on ``(N, C, H, W)``; ``volumes``: it convolves them."""
    line = " ".join(str(error).split())[:200].rstrip(".")
    channels, height, width = values.shape[1:]
    sides = (input.depth, height // input.depth, width) if input.depth else (height, width)
    shape = "×".join(map(str, (channels, *sides)))
    advice = _advice(input, values, line, volumes)
    return ModelError(
        f"{name} failed on an input of {shape}: {type(error).__name__}: {line}. {advice}"
    )


def _advice(input: Input, values: Tensor, line: str, volumes: bool) -> str:
    if volumes and not input.depth:
        return "It takes volumes. Tell it: --input C,D,H,W"
    if "required positional argument" in line or re.search(
        r"expects \d+ (named )?input\(s\)", line
    ):
        return (
            "It takes more than one input. Give a module that takes the picture alone, and "
            "whose forward calls it with the others"
        )
    if "not implemented for" in line:
        return "The processor lacks this for the type of its weights: give network.float()"
    if input.shape and (input.channels, *(input.size or ())) != tuple(values.shape[1:]):
        return f"It takes {'×'.join(map(str, input.shape))}"
    return f"If the size is wrong: --input {'C,D,H,W' if input.depth else 'C,H,W'}"
