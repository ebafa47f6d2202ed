"""The files of an atlas: their names, and how they are written, safely and by one process only."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from convscope._errors import AtlasError, one_line
from convscope._io import atomic_file

FORMAT = 1
MANIFEST = "manifest.json"
SUMMARY = "summary.safetensors"
LISTING = "listing.safetensors"
NETWORK = "network.safetensors"
THUMBNAILS = "thumbnails.sqlite"
_LOCK = ".lock"
_DTYPES = {
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
    "u1": "U8",
    "u2": "U16",
    "u4": "U32",
    "u8": "U64",
    "i4": "I32",
    "i8": "I64",
}

Arrays = Mapping[str, NDArray[Any]]


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a finished shard, kept until all shards are merged."""
    return folder / f"part-{shard:06}.safetensors"


def shard_paths(folder: Path) -> list[Path]:
    """The files of all finished shards."""
    return sorted(folder.glob("part-*.safetensors"))


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that appears, complete and flushed to the disk, at the end of the block.

    Raises:
        AtlasError: It cannot be written; says so where the disk is full.
    """
    with disk_errors(path.parent), atomic_file(path, durable=True) as file:
        yield file


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an ``AtlasError`` of one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AtlasError(
                f"The disk that holds {str(folder)!r} is full. Finished work is kept: free some "
                "space, then run the same command again"
            ) from error
        raise AtlasError(f"{str(folder)!r} cannot be written: {one_line(error)}") from error


class _Header:
    """The header of a safetensors file, array by array."""

    def __init__(self, metadata: str = "") -> None:
        self._entries: dict[str, Any] = {}
        if metadata:
            self._entries["__metadata__"] = {"convscope": metadata}
        self._length = 0

    def add(self, name: str, values: NDArray[Any]) -> None:
        start, self._length = self._length, self._length + values.nbytes
        self._entries[name] = {
            "dtype": _DTYPES[values.dtype.str[1:]],
            "shape": list(values.shape),
            "data_offsets": [start, self._length],
        }

    def encoded(self) -> bytes:
        text = json.dumps(self._entries, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def write_arrays(path: Path, arrays: Arrays, metadata: str = "") -> None:
    """Write arrays as safetensors, sorted by name: equal arrays give equal bytes.

    Args:
        path: The file to write.
        arrays: Arrays by name.
        metadata: A text to store under the key ``convscope``.
    """
    header = _Header(metadata)
    for name in sorted(arrays):
        header.add(name, arrays[name])
    with durable_file(path) as file:
        file.write(header.encoded())
        for name in sorted(arrays):
            file.write(_buffer(arrays[name]))


@contextmanager
def array_writer(path: Path) -> Iterator[Callable[[Arrays], None]]:
    """Yield a function that adds arrays to the safetensors file at ``path``.

    The arrays wait in a temporary file on disk, so memory holds one group of them at a time. The
    file at ``path`` appears at the end of the block.
    """
    spool = path.with_name(f".{path.name}.spool.tmp")
    header = _Header()
    try:
        with disk_errors(path.parent), spool.open("w+b") as file:

            def add(arrays: Arrays) -> None:
                for name, values in sorted(arrays.items()):
                    header.add(name, values)
                    file.write(_buffer(values))

            yield add
            file.seek(0)
            with durable_file(path) as target:
                target.write(header.encoded())
                shutil.copyfileobj(file, target, 1 << 20)
    finally:
        spool.unlink(missing_ok=True)


def _buffer(values: NDArray[Any]) -> memoryview | bytes:
    return np.ascontiguousarray(values).data.cast("B") if values.size else b""


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest."""
    with durable_file(folder / MANIFEST) as file:
        file.write((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest.

    Raises:
        AtlasError: The folder is no atlas, or its format is newer than this version reads.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        problem = (
            "is not an atlas: it has no manifest.json" if folder.is_dir() else "is not a folder"
        )
        raise AtlasError(
            f"{str(folder)!r} {problem}. Make an atlas: convscope scan DATASET -o {folder}"
        ) from None
    except (OSError, ValueError) as error:
        raise AtlasError(f"{str(path)!r} cannot be read: {one_line(error, 80)}") from None
    version = manifest.get("convscope_atlas") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise AtlasError(f"{str(path)!r} is not the manifest of an atlas. Give another folder: -o")
    if version > FORMAT:
        raise AtlasError(
            f"{str(folder)!r} was written by convscope {manifest.get('version', '?')}, in format "
            f"{version}; this version reads format {FORMAT}. Update: pip install -U convscope"
        )
    return dict(manifest)


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other scans out of it; a killed process leaves nothing locked."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a")
    with file:
        if not _acquired(file):
            raise AtlasError(
                f"Another scan is writing into {str(folder)!r}. Wait for it, or give another "
                "folder: -o"
            )
        for leftover in [*folder.glob(".*.tmp*"), *folder.glob("pooled/.*.tmp*")]:
            leftover.unlink(missing_ok=True)  # of a process that was killed
        yield


def _acquired(file: Any) -> bool:
    """Lock an open file until it is closed; false where another process holds the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; that is no reason not to scan.
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


class ImageIds(Sequence[str]):
    """The ids of millions of images, held as one run of UTF-8 bytes."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[str]: ...
    def __getitem__(self, key: int | slice) -> str | Sequence[str]:
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(len(self)))]
        index = range(len(self))[key]
        start = self._ends[index - 1] if index else 0
        return bytes(self._text[start : self._ends[index]]).decode("utf-8", "surrogateescape")


def write_listing(folder: Path, ids: Sequence[str], labels: NDArray[np.int64] | None) -> None:
    """Write the images' ids and, for labeled data, their labels."""
    encoded = [id.encode("utf-8", "surrogateescape") for id in ids]
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(id) for id in encoded], dtype=np.int64),
    }
    if labels is not None:
        arrays["labels"] = labels.astype(np.int64)
    write_arrays(folder / LISTING, arrays)


def read_listing(folder: Path) -> tuple[ImageIds, NDArray[np.int64] | None]:
    """The images' ids, and their labels or ``None``."""
    with safe_open(folder / LISTING, "np") as file:
        labels = file.get_tensor("labels") if "labels" in file.keys() else None  # noqa: SIM118
        return ImageIds(file.get_tensor("ids"), file.get_tensor("ends")), labels
