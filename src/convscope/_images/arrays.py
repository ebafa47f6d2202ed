"""Arrays in files, for inputs that are no images, such as many bands or a volume: ``.npy``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._errors import ImageError, one_line

ARRAY_SUFFIX = ".npy"


def read_array(source: str | Path | bytes, name: str = "") -> NDArray[Any]:
    """Read the array of a ``.npy`` file; nothing in it is unpickled.

    Args:
        source: The file, or its content.
        name: Its name in messages.

    Returns:
        The array, uint8 or float32.

    Raises:
        ImageError: Where it is damaged, or holds neither floats nor uint8.
    """
    name = name or (str(source) if isinstance(source, (str, Path)) else "array")
    try:
        stream = io.BytesIO(source if isinstance(source, bytes) else Path(source).read_bytes())
        array = np.load(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(f"{name!r} cannot be read as an array: {one_line(error)}") from None
    if np.issubdtype(array.dtype, np.floating):
        return np.asarray(array, np.float32)
    if array.dtype != np.uint8:
        raise ImageError(
            f"{name!r} holds {array.dtype}. Floats are taken as ready for the model, uint8 as an "
            "image: array.astype('float32')"
        )
    return np.asarray(array)
