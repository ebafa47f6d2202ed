"""What the rest of convscope knows of a dataset."""

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
"""An image, or a float array that is ready for a model, in the model's own layout."""


class Dataset(abc.ABC):
    """An ordered collection of images, each with an id that stays the same from run to run.

    Subclasses set the attributes and define ``image``.

    Attributes:
        name: What the user typed, for titles.
        ids: One for each image: its path below the dataset's root, or its index.
        classes: Class names; empty for unlabeled data.
        labels: One index into ``classes`` for each image, int64 ``(N,)``; ``None`` for unlabeled
            data.
        thread_safe: Whether several threads may call ``image`` at once.
        preprocessed: Whether the items are float arrays, ready for a model, instead of images.
    """

    name: str
    ids: Sequence[str]
    classes: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None
    thread_safe: bool = True
    preprocessed: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @abc.abstractmethod
    def image(self, index: int) -> Item:
        """Read one image.

        Args:
            index: Its index in the dataset.

        Returns:
            The image in mode ``RGB`` or ``L``; a float array as it is, in the model's layout.

        Raises:
            ImageError: The image cannot be read.
        """

    def fingerprint(self) -> str:
        """A checksum of ids, labels and contents, as far as it can be computed quickly."""
        digest = hashlib.sha256()
        for text in (*self.ids, *self.classes):
            digest.update(text.encode("utf-8", "surrogateescape") + b"\n")
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        digest.update(self.content_summary())
        return digest.hexdigest()[:16]

    def content_summary(self) -> bytes:
        """Bytes that differ where the contents differ under equal ids, such as file sizes.

        Empty where nothing cheap tells.
        """
        return b""

    def split(self, name: str) -> Dataset | None:
        """The data's own split. A class has the same index in every split.

        Args:
            name: ``"train"`` or ``"test"``.

        Returns:
            The split; ``None`` where the data have none of that name.
        """
        return None


class Subset(Dataset):
    """Some images of another dataset.

    Args:
        parent: The dataset.
        indices: Which images, in this order: int64 ``(N,)``.
        name: Its name, for titles.
    """

    def __init__(self, parent: Dataset, indices: NDArray[np.int64], name: str) -> None:
        self.parent = parent
        self.indices = indices
        self.name = name
        self.ids = [parent.ids[i] for i in indices]
        self.classes = parent.classes
        self.labels = None if parent.labels is None else parent.labels[indices]
        self.thread_safe, self.preprocessed = parent.thread_safe, parent.preprocessed

    def image(self, index: int) -> Item:
        return self.parent.image(int(self.indices[index]))

    def content_summary(self) -> bytes:
        return self.parent.content_summary()


class SizedSequence(Protocol):
    """What a list, a torch Dataset with a length and a Hugging Face dataset have in common."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


DatasetLike = str | PathLike[str] | Dataset | SizedSequence
"""What ``open_dataset`` takes: a path, a specification such as ``shapes,count=100``, a ``Dataset``,
or a sequence of images, of ``(image, label)`` pairs, or of rows with named columns."""


def index_labels(labels: Any, names: Any) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
    """Class names and labels as indices, from labels that are class names or numbers from 0 up."""
    values = np.asarray([] if labels is None else labels)
    if values.ndim != 1 or not len(values):
        return (), None
    if values.dtype.kind == "U":
        classes, indices = np.unique(values, return_inverse=True)
        return tuple(map(str, classes)), indices.astype(np.int64)
    if values.dtype.kind not in "iu" or values.min() < 0:
        return (), None
    known = names if names and len(names) > values.max() else range(int(values.max()) + 1)
    return tuple(map(str, known)), values.astype(np.int64)
