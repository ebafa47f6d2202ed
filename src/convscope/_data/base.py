"""What the rest of convscope may know of a dataset."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Item = Image.Image | NDArray[np.float32]
"""A picture, or numbers that are ready for a model, in its own layout."""


class Dataset(abc.ABC):
    """An ordered list of pictures, each with an id that stays the same from run to run.

    - ``name``: what the user typed, for titles.
    - ``ids``: one per picture: its path below the dataset's root, or its index.
    - ``classes``: class names, empty where the data are not labeled.
    - ``labels``: one index into ``classes`` per picture, or ``None``.
    """

    name: str
    ids: Sequence[str]
    classes: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None
    parallel: bool = True
    """Whether pictures may be asked for from several threads at once."""
    numbers: bool = False
    """Whether it holds floats that are ready for a model instead of pictures."""

    def __len__(self) -> int:
        return len(self.ids)

    @abc.abstractmethod
    def image(self, index: int) -> Item:
        """The picture at ``index``, decoded, in mode ``RGB`` or ``L``; floats as they are.

        Raises ``ImageError`` for a file that cannot be read.
        """

    def fingerprint(self) -> str:
        """A checksum of ids, labels and contents, as far as these can be told quickly."""
        digest = hashlib.sha256()
        for text in (*self.ids, *self.classes):
            digest.update(text.encode("utf-8", "surrogateescape") + b"\n")
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        digest.update(self.contents())
        return digest.hexdigest()[:16]

    def contents(self) -> bytes:
        """What tells other contents under the same ids; empty where nothing does cheaply."""
        return b""

    def split(self, name: str) -> Dataset | None:
        """The data's own ``"train"`` or ``"test"`` split; ``None`` where they bring none.

        A class has the same index in every split.
        """
        return None


class Subset(Dataset):
    """Some pictures of another dataset, in the order given."""

    def __init__(self, parent: Dataset, indices: NDArray[np.int64], name: str) -> None:
        self.parent = parent
        self.indices = indices
        self.name = name
        self.ids = [parent.ids[i] for i in indices]
        self.classes = parent.classes
        self.labels = None if parent.labels is None else parent.labels[indices]

        self.parallel, self.numbers = parent.parallel, parent.numbers

    def image(self, index: int) -> Item:
        return self.parent.image(int(self.indices[index]))

    def contents(self) -> bytes:
        return self.parent.contents()


class SizedSequence(Protocol):
    """What a list, a torch Dataset with a length and a Hugging Face dataset have in common."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


DatasetLike = str | PathLike[str] | Dataset | SizedSequence
"""What ``open_dataset`` takes: a path, a specification such as ``shapes,count=100``, a ``Dataset``,
or a sequence of images, of ``(image, label)`` pairs, or of rows with named columns."""
