"""Image files: in a folder, in an archive, in WebDataset shards."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope._data.dataset import Dataset, Item, Subset, index_labels
from convscope._errors import DatasetError, ImageError, one_line
from convscope._images import IMAGE_SUFFIXES, decode
from convscope._images.arrays import ARRAY_SUFFIX, read_array

MAX_ARCHIVE_BYTES = 8 * 2**30
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
_SPLIT_FOLDERS = {name for names in _SPLITS.values() for name in names}
_LABEL_SUFFIX = ".cls"
_SHARD_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class _ImageFiles(Dataset):
    """Images or ``.npy`` arrays with a path below a root; the first folder is the class.

    ``train/`` and ``test/`` (or ``val/``) folders at the top are the data's own splits; the class
    is then the folder below. Data are labeled if every image is in a class folder.
    """

    def _set_paths(self, paths: Sequence[str], name: str) -> None:
        self.name = name
        self.ids, self._prefix = _drop_common_root(sorted(filter(_is_image_path, paths)))
        if not self.ids:
            known = ", ".join((*IMAGE_SUFFIXES, ARRAY_SUFFIX))
            raise DatasetError(f"{name!r} holds no image. Readable: {known}")
        self.preprocessed = self.ids[0].lower().endswith(ARRAY_SUFFIX)
        self._top_folders = [path.split("/")[0].lower() for path in self.ids]
        self._has_splits = _are_splits(set(self._top_folders))
        self._class_folders = [_class_folder(path, self._has_splits) for path in self.ids]
        self._classes = tuple(sorted({folder for folder in self._class_folders if folder}))
        self.classes, self.labels = self._labels_of(range(len(self.ids)))

    def _labels_of(
        self, indices: Sequence[int]
    ) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
        folders = [self._class_folders[i] for i in indices]
        if not all(folders) or len(self._classes) < 2:
            return (), None
        index = {folder: k for k, folder in enumerate(self._classes)}
        return self._classes, np.array([index[folder] for folder in folders], np.int64)

    def split(self, name: str) -> Dataset | None:
        chosen = [i for i, folder in enumerate(self._top_folders) if folder in _SPLITS[name]]
        if not self._has_splits or not chosen:
            return None
        split = Subset(self, np.array(chosen, np.int64), f"{self.name} ({name})")
        split.classes, split.labels = self._labels_of(chosen)
        return split


def _is_image_path(path: str) -> bool:
    """Whether a path names an image; hidden files and what macOS adds to archives do not."""
    hidden = any(name.startswith((".", "__MACOSX")) for name in path.split("/"))
    return path.lower().endswith((*IMAGE_SUFFIXES, ARRAY_SUFFIX)) and not hidden


def _read_item(source: Path | bytes, name: str) -> Item:
    """An image, or the array of a ``.npy`` file."""
    if name.lower().endswith(ARRAY_SUFFIX):
        array = read_array(source, name)
        return decode(array, name=name).image if array.dtype == np.uint8 else array
    return decode(io.BytesIO(source) if isinstance(source, bytes) else source, name=name).image


def _are_splits(folders: set[str]) -> bool:
    """``train`` beside ``test``, or nothing else; ``train`` beside ``bus`` is a class."""
    present = [folders & set(names) for names in _SPLITS.values()]
    return all(present) or folders <= _SPLIT_FOLDERS


def _drop_common_root(paths: list[str]) -> tuple[list[str], str]:
    """Drop the folders that all paths share, but never a split's name or a class."""
    prefix = ""
    while paths:
        heads = {path.split("/")[0] for path in paths}
        if len(heads) > 1 or any(path.count("/") < 2 for path in paths):
            break
        (head,) = heads
        if head.lower() in _SPLIT_FOLDERS:
            break
        prefix += head + "/"
        paths = [path[len(head) + 1 :] for path in paths]
    return paths, prefix


def _class_folder(path: str, has_splits: bool) -> str:
    folders = path.split("/")[:-1][1 if has_splits else 0 :]
    return folders[0] if folders else ""


class ImageFolder(_ImageFiles):
    """A folder of image files, class sub-folders optional."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._set_paths(list(_walk(root)), str(root))

    def image(self, index: int) -> Item:
        name = self.ids[index]
        try:
            return _read_item(self.root / self._prefix / name, name)
        except ImageError:
            if self.root.is_dir():
                raise
            raise DatasetError(
                f"{str(self.root)!r} is gone. Bring it back, then run the same command again"
            ) from None

    def content_summary(self) -> bytes:
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
    visited: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename!r} cannot be read: {error.strerror}") from None

    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        here = os.path.realpath(folder)
        if here in visited:  # a link back up
            below.clear()
            continue
        visited.add(here)
        below.sort()
        inside = Path(folder).relative_to(root).as_posix()
        yield from files if inside == "." else (f"{inside}/{file}" for file in files)


class ImageArchive(_ImageFiles):
    """A ``.zip`` or ``.tar`` of such a folder.

    Its images are read into memory at once, still encoded: a compressed tar has no random access.
    An archive that does not fit in memory has to be unpacked.
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
        self._set_paths(list(members), str(path))
        self._bytes = [members[self._prefix + name] for name in self.ids]

    def image(self, index: int) -> Item:
        name = self.ids[index]
        if reason := self._damaged.get(self._prefix + name):
            raise ImageError(f"{name!r} is damaged in {self.name}: {reason}")
        return _read_item(self._bytes[index], name)

    def content_summary(self) -> bytes:
        sums = (zlib.crc32(content) for content in self._bytes)
        return np.fromiter(sums, np.int64, len(self._bytes)).tobytes()

    def _from_zip(self, path: Path) -> Iterator[tuple[str, bytes]]:
        with zipfile.ZipFile(path) as archive:
            members = [(m, _plain_path(m.filename)) for m in archive.infolist() if not m.is_dir()]
            listed = [(member, name) for member, name in members if _is_image_path(name)]
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
                name = _plain_path(member.name)
                if member.isfile() and _is_image_path(name):
                    total += member.size
                    _check_size(path, total)
                    stream = archive.extractfile(member)
                    yield name, stream.read() if stream else b""


def _plain_path(name: str) -> str:
    """``./a//b.png`` and ``/a/b.png`` become ``a/b.png``."""
    return "/".join(part for part in PurePosixPath(name).parts if part != "/")


def _check_size(path: Path, size: int) -> None:
    if size > MAX_ARCHIVE_BYTES:
        raise DatasetError(
            f"{str(path)!r} holds more than {MAX_ARCHIVE_BYTES // 2**30} GiB of images. "
            "Unpack it, and give the folder"
        )


class _Member(NamedTuple):
    shard: int
    name: str
    start: int
    size: int
    label: str | None


class WebDataset(Dataset):
    """Many ``.tar`` files, read in place, whatever their total size.

    Members with one stem are one sample: an image and, where it is labeled, its ``.cls``, an index
    or a name. Opening reads the headers alone, which takes seconds for a million images. An id is
    ``SHARD/NAME``.
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
        self._members = [one for k, path in enumerate(paths) for one in _list_members(k, path)]
        if not self._members:
            raise DatasetError(f"{name!r} holds no image, in {len(paths)} shards")
        self.ids = [f"{paths[one.shard].stem}/{one.name}" for one in self._members]
        labels = _parse_labels([one.label for one in self._members])
        self.classes, self.labels = index_labels(labels, None)
        self.preprocessed = self._members[0].name.lower().endswith(".npy")

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
        return _read_item(content, self.ids[index])

    def content_summary(self) -> bytes:
        """Names and sizes of all shards."""
        return str([(path.name, path.stat().st_size) for path in self._paths]).encode()


def match_shards(spec: str) -> list[Path] | None:
    """The files that ``train-{000..099}.tar`` or ``shards/*.tar`` matches; ``None`` for no pattern.

    >>> [path.name for path in match_shards("train-{08..10}.tar")]
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    if not spec.endswith(".tar") or Path(spec).exists():
        return None
    range_ = _SHARD_RANGE.search(spec)
    if range_:
        first, last = range_.groups()
        numbers = (f"{k:0{len(first)}}" for k in range(int(first), int(last) + 1))
        return [Path(spec[: range_.start()] + number + spec[range_.end() :]) for number in numbers]
    return sorted(map(Path, glob(spec))) if has_magic(spec) else None  # noqa: PTH207


def is_webdataset(path: Path) -> bool:
    """Whether a ``.tar`` has a label file beside each image."""
    try:
        with tarfile.open(path, "r:") as archive:
            names = [member.name for _, member in zip(range(8), archive, strict=False)]
    except (tarfile.TarError, OSError, EOFError):
        return False
    return any(name.endswith(_LABEL_SUFFIX) for name in names)


def _list_members(shard: int, path: Path) -> Iterator[_Member]:
    """The images of one shard, in its order."""
    labels: dict[str, str] = {}
    images: list[tuple[str, int, int]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = _plain_path(member.name)
                if member.isfile() and name.endswith(_LABEL_SUFFIX):
                    stream = archive.extractfile(member)
                    text = stream.read(256) if stream else b""
                    labels[_stem(name)] = text.decode("utf-8", "replace").strip()
                elif member.isfile() and _is_image_path(name):
                    images.append((name, member.offset_data, member.size))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DatasetError(
            f"Shard {str(path)!r} cannot be read: {one_line(error, 60)}. Fetch it again; a "
            "compressed shard has no random access: unpack it to .tar"
        ) from None
    for name, start, size in images:
        yield _Member(shard, name, start, size, labels.get(_stem(name)))


def _stem(name: str) -> str:
    """The path up to the first dot of the file's name, which identifies a sample."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _parse_labels(labels: Sequence[str | None]) -> list[int] | list[str] | None:
    known = [label for label in labels if label is not None]
    if len(known) < len(labels):
        return None
    return [int(label) for label in known] if all(map(str.isdecimal, known)) else known
