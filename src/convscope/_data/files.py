"""Folders and archives of image files."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from lzma import LZMAError
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from convscope._data.base import Dataset, Item, Subset
from convscope._errors import DatasetError, ImageError, one_line
from convscope._images import IMAGE_SUFFIXES, decode
from convscope._images.arrays import ARRAY_SUFFIX, read_array

_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
_SPLIT_NAMES = {name for names in _SPLITS.values() for name in names}
MAX_ARCHIVE_BYTES = 8 * 2**30


class Files(Dataset):
    """Pictures or ``.npy`` numbers, known by a path below a root; its first folder is the class.

    ``train/`` and ``test/`` (or ``val/``) folders on top are the data's own parts; the class is
    then the folder below. Labels are given where every picture lies in a class folder.
    """

    def _list(self, paths: Sequence[str], name: str) -> None:
        self.name = name
        self.ids, self._prefix = _below_common_root(sorted(filter(is_listed, paths)))
        if not self.ids:
            known = ", ".join((*IMAGE_SUFFIXES, ARRAY_SUFFIX))
            raise DatasetError(f"{name!r} holds no image. Read are: {known}")
        self.numbers = self.ids[0].lower().endswith(ARRAY_SUFFIX)
        self._tops = [path.split("/")[0].lower() for path in self.ids]
        self._split = _is_split(set(self._tops))
        self._folders = [_class_of(path, self._split) for path in self.ids]
        self._classes = tuple(sorted({folder for folder in self._folders if folder}))
        self.classes, self.labels = self._labeled(range(len(self.ids)))

    def _labeled(self, indices: Sequence[int]) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
        folders = [self._folders[i] for i in indices]
        if not all(folders) or len(self._classes) < 2:
            return (), None
        place = {folder: k for k, folder in enumerate(self._classes)}
        return self._classes, np.array([place[folder] for folder in folders], np.int64)

    def split(self, name: str) -> Dataset | None:
        chosen = [i for i, top in enumerate(self._tops) if top in _SPLITS[name]]
        if not self._split or not chosen:
            return None
        split = Subset(self, np.array(chosen, np.int64), f"{self.name} ({name})")
        split.classes, split.labels = self._labeled(chosen)
        return split


def is_listed(path: str) -> bool:
    """Whether a path names an image; hidden files and what macOS adds to archives do not."""
    hidden = any(split.startswith((".", "__MACOSX")) for split in path.split("/"))
    return path.lower().endswith((*IMAGE_SUFFIXES, ARRAY_SUFFIX)) and not hidden


def read_item(source: Path | bytes, name: str) -> Item:
    """A picture, or the numbers of a ``.npy`` file."""
    if name.lower().endswith(ARRAY_SUFFIX):
        found = read_array(source, name)
        return decode(found, name=name).image if found.dtype == np.uint8 else found
    return decode(io.BytesIO(source) if isinstance(source, bytes) else source, name=name).image


def _is_split(tops: set[str]) -> bool:
    """``train`` beside ``test``, or nothing else; ``train`` beside ``bus`` is a class."""
    kinds = [tops & set(names) for names in _SPLITS.values()]
    return all(kinds) or tops <= _SPLIT_NAMES


def _below_common_root(paths: list[str]) -> tuple[list[str], str]:
    """Drop the folders that all paths share, but never a split's name or a class."""
    prefix = ""
    while paths:
        heads = {path.split("/")[0] for path in paths}
        if len(heads) > 1 or any(path.count("/") < 2 for path in paths):
            break
        (head,) = heads
        if head.lower() in _SPLIT_NAMES:
            break
        prefix += head + "/"
        paths = [path[len(head) + 1 :] for path in paths]
    return paths, prefix


def _class_of(path: str, split: bool) -> str:
    folders = path.split("/")[:-1][1 if split else 0 :]
    return folders[0] if folders else ""


class Folder(Files):
    """A folder of image files, class sub-folders optional."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._list(list(_walk(root)), str(root))

    def image(self, index: int) -> Item:
        name = self.ids[index]
        try:
            return read_item(self.root / self._prefix / name, name)
        except ImageError:
            if self.root.is_dir():
                raise
            raise DatasetError(
                f"{str(self.root)!r} is gone. Bring it back, then run the same command again"
            ) from None

    def contents(self) -> bytes:
        """The sizes of all files."""
        base = f"{self.root}/{self._prefix}"
        sizes = np.fromiter((_size(base + name) for name in self.ids), np.int64, len(self.ids))
        return sizes.tobytes()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1


def _walk(root: Path) -> Iterator[str]:
    """Every file below ``root``, links to folders followed, each folder once."""
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename!r} cannot be read: {error.strerror}") from None

    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:  # a link back up
            below.clear()
            continue
        seen.add(here)
        below.sort()
        inside = Path(folder).relative_to(root).as_posix()
        yield from files if inside == "." else (f"{inside}/{file}" for file in files)


class Archive(Files):
    """A ``.zip`` or ``.tar`` of such a folder.

    Its images are read into memory at once (still encoded): a compressed tar cannot be entered in
    the middle. What does not fit belongs unpacked.
    """

    def __init__(self, path: Path) -> None:
        self._damaged: dict[str, str] = {}
        read = self._from_zip if path.suffix.lower() == ".zip" else self._from_tar
        members: dict[str, bytes] = {}
        try:
            for name, content in read(path):
                members[name] = content
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            LZMAError,
        ) as error:
            raise DatasetError(
                f"{str(path)!r} cannot be read as an archive: {one_line(error, 60)}. "
                "Fetch it again, or unpack it and give the folder"
            ) from None
        self._list(list(members), str(path))
        self._bytes = [members[self._prefix + name] for name in self.ids]

    def image(self, index: int) -> Item:
        name = self.ids[index]
        if reason := self._damaged.get(self._prefix + name):
            raise ImageError(f"{name!r} is damaged in {self.name}: {reason}")
        return read_item(self._bytes[index], name)

    def contents(self) -> bytes:
        sums = (zlib.crc32(content) for content in self._bytes)
        return np.fromiter(sums, np.int64, len(self._bytes)).tobytes()

    def _from_zip(self, path: Path) -> Iterator[tuple[str, bytes]]:
        with zipfile.ZipFile(path) as archive:
            members = [(m, plain(m.filename)) for m in archive.infolist() if not m.is_dir()]
            listed = [(member, name) for member, name in members if is_listed(name)]
            _check_size(path, sum(member.file_size for member, _ in listed))
            for member, name in listed:
                try:
                    content = archive.read(member)
                except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                    self._damaged[name], content = one_line(error), b""
                yield name, content

    def _from_tar(self, path: Path) -> Iterator[tuple[str, bytes]]:
        total = 0
        with tarfile.open(path) as archive:
            for member in archive:
                name = plain(member.name)
                if member.isfile() and is_listed(name):
                    total += member.size
                    _check_size(path, total)
                    stream = archive.extractfile(member)
                    yield name, stream.read() if stream else b""


def plain(name: str) -> str:
    """``./a//b.png`` and ``/a/b.png`` are ``a/b.png``."""
    return "/".join(split for split in PurePosixPath(name).parts if split != "/")


def _check_size(path: Path, size: int) -> None:
    if size > MAX_ARCHIVE_BYTES:
        raise DatasetError(
            f"{str(path)!r} holds more than {MAX_ARCHIVE_BYTES // 2**30} GiB of images. "
            "Unpack it, and give the folder"
        )
