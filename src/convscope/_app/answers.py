"""What an answer is: a body and its kind; JSON, pictures, numbers as files.

Answers are made in ``network`` (layers, kernels), ``pictures`` (maps, values, fields), ``reasons``
(attribution, sensitivity), ``evidence`` (an atlas) and ``numbers`` (to keep). Each is a
function of a ``Session`` and knows no HTTP, so the server and an exported page tell the same.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from convscope._errors import UnknownLayer

JSON, BINARY, PNG, WEBP = "application/json", "application/octet-stream", "image/png", "image/webp"
THUMB = 56


@dataclass(frozen=True)
class Answer:
    """A body and what it is; ``lasting``: it can never be another one."""

    body: bytes
    type: str
    status: int = 200
    lasting: bool = False


def as_json(value: Any, status: int = 200) -> Answer:
    """Strict JSON: what is no number becomes null."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Answer(text.encode("utf-8", "replace"), JSON, status)


def finite(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def picture(image: Image.Image, kind: str = PNG) -> Answer:
    """A picture as a file."""
    stream = io.BytesIO()
    if kind == PNG:
        image.save(stream, "png", compress_level=1)
    else:
        image.save(stream, "webp", quality=75, method=2)
    return Answer(stream.getvalue(), kind, lasting=True)


def within(k: int, count: int, what: str) -> int:
    """``k``, where it is one of ``count``. Raises ``UnknownLayer``."""
    if not 0 <= k < count:
        raise UnknownLayer(f"No {what} {k}: there are {count}, from 0")
    return k


def short(dataset: str) -> str:
    """A dataset without the folders it lies in: pages are handed on."""
    return PurePath(dataset).name if "/" in dataset or "\\" in dataset else dataset
