"""WebDataset shards: many ``.tar`` files, read in place, whatever their size together."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from convscope._data.base import Dataset, Item
from convscope._data.files import is_listed, plain, read_item
from convscope._data.wrapped import indexed
from convscope._errors import DatasetError, ImageError, one_line

_LABEL = ".cls"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class _Member(NamedTuple):
    shard: int
    name: str
    start: int
    size: int
    label: str | None


class Shards(Dataset):
    """Members with one stem are one sample: a picture and, where it is labeled, its ``.cls``.

    Opening reads the headers alone, which takes seconds for a million images; pictures are read
    where they lie. Labels are whole numbers or names. An id is ``SHARD/NAME``.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        self._paths = [path for path in paths if path.is_file()]
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            raise DatasetError(
                f"{name!r}: no shard {str(missing[0])!r}. {len(self._paths)} of {len(paths)} exist"
                if missing
                else f"{name!r} matches no file. See: ls {Path(name).parent}"
            )
        self._members = [one for k, path in enumerate(paths) for one in _listed(k, path)]
        if not self._members:
            raise DatasetError(f"{name!r} holds no image, in {len(paths)} shards")
        self.ids = [f"{paths[one.shard].stem}/{one.name}" for one in self._members]
        found = [one.label for one in self._members]
        self.classes, self.labels = indexed(_numbers_or_names(found), None)
        self.numbers = self._members[0].name.lower().endswith(".npy")

    def image(self, index: int) -> Item:
        one = self._members[index]
        path = self._paths[one.shard]
        try:
            with path.open("rb") as stream:
                stream.seek(one.start)
                content = stream.read(one.size)
        except FileNotFoundError:
            raise DatasetError(
                f"Shard {str(path)!r} is gone. Bring it back, then run the same command again"
            ) from None
        except OSError as error:
            raise ImageError(f"{one.name!r} of {path} cannot be read: {one_line(error)}") from None
        return read_item(content, self.ids[index])

    def contents(self) -> bytes:
        """Names and sizes of all shards."""
        return str([(path.name, path.stat().st_size) for path in self._paths]).encode()


def shards_named(spec: str) -> list[Path] | None:
    """The files that ``train-{000..099}.tar`` or ``shards/*.tar`` names; ``None`` for no pattern.

    >>> [path.name for path in shards_named("train-{08..10}.tar")]
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    if not spec.endswith(".tar") or Path(spec).exists():
        return None
    found = _RANGE.search(spec)
    if found:
        first, last = found.groups()
        numbers = (f"{k:0{len(first)}}" for k in range(int(first), int(last) + 1))
        return [Path(spec[: found.start()] + one + spec[found.end() :]) for one in numbers]
    return sorted(map(Path, glob(spec))) if has_magic(spec) else None  # noqa: PTH207


def is_sharded(path: Path) -> bool:
    """Whether a ``.tar`` brings a label beside each picture, as WebDataset has it."""
    try:
        with tarfile.open(path, "r:") as archive:
            names = [member.name for _, member in zip(range(8), archive, strict=False)]
    except (tarfile.TarError, OSError, EOFError):
        return False
    return any(name.endswith(_LABEL) for name in names)


def _listed(shard: int, path: Path) -> Iterator[_Member]:
    """The pictures of one shard, in its order."""
    labels: dict[str, str] = {}
    pictures: list[tuple[str, int, int]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = plain(member.name)
                if member.isfile() and name.endswith(_LABEL):
                    stream = archive.extractfile(member)
                    text = stream.read(256) if stream else b""
                    labels[_stem(name)] = text.decode("utf-8", "replace").strip()
                elif member.isfile() and is_listed(name):
                    pictures.append((name, member.offset_data, member.size))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DatasetError(
            f"Shard {str(path)!r} cannot be read: {one_line(error, 60)}. Fetch it again; a "
            "compressed one cannot be entered in the middle: unpack it to .tar"
        ) from None
    for name, start, size in pictures:
        yield _Member(shard, name, start, size, labels.get(_stem(name)))


def _stem(name: str) -> str:
    """All before the first dot of the file's name, as WebDataset has it."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _numbers_or_names(labels: Sequence[str | None]) -> list[int] | list[str] | None:
    known = [label for label in labels if label is not None]
    if len(known) < len(labels):
        return None
    return [int(label) for label in known] if all(map(str.isdecimal, known)) else known
