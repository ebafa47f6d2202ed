"""The files of an atlas: written as a whole or not at all, by one writer at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from convscope._errors import AtlasError, one_line

FORMAT = 1
MANIFEST = "manifest.json"
SUMMARY = "summary.safetensors"
LISTING = "listing.safetensors"
NETWORK = "network.safetensors"
THUMBNAILS = "thumbnails.sqlite"
_LOCK = ".lock"
_KINDS = {
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


def part_path(folder: Path, shard: int) -> Path:
    """Where a finished shard is kept until all are."""
    return folder / f"part-{shard:06}.safetensors"


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears, complete and on the disk, at the end of the block; or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise disk_error(path.parent, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make sure that a renaming outlives a power cut, where the system can be asked to."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def disk_error(folder: Path, error: OSError) -> AtlasError:
    """One line for what the disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AtlasError(
            f"The disk that holds {str(folder)!r} is full. What is finished is kept: make room, "
            "then run the same command again"
        )
    return AtlasError(f"{str(folder)!r} cannot be written: {one_line(error)}")


def write_arrays(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], about: str = "") -> None:
    """Write arrays as safetensors, in the order of their names: equal arrays, equal bytes.

    ``about`` is kept as the metadata ``convscope``.
    """
    names = sorted(arrays)
    header: dict[str, Any] = {"__metadata__": {"convscope": about}} if about else {}
    start = 0
    for name in names:
        end = start + arrays[name].nbytes
        kind = _KINDS[arrays[name].dtype.str[1:]]
        shape = list(arrays[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(np.ascontiguousarray(arrays[name]).data.cast("B") if arrays[name].size else b"")


class Spool:
    """Arrays that are put aside one by one, on disk, until all are there to be written as a file.

    So memory holds one of them at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: dict[str, Any] = {}
        self._length = 0

    def add(self, file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put arrays aside in ``file``."""
        for name, values in sorted(arrays.items()):
            end = self._length + values.nbytes
            self._header[name] = {
                "dtype": _KINDS[values.dtype.str[1:]],
                "shape": list(values.shape),
                "data_offsets": [self._length, end],
            }
            file.write(np.ascontiguousarray(values).tobytes())
            self._length = end

    @contextmanager
    def filling(self) -> Iterator[BinaryIO]:
        """The block's file is what ``add`` takes; after it the safetensors file is in place."""
        beside = self._path.with_name(f".{self._path.name}.spool.tmp")
        try:
            with beside.open("w+b") as file:
                yield file
                text = json.dumps(self._header, ensure_ascii=False, separators=(",", ":")).encode()
                text += b" " * (-len(text) % 8)
                file.seek(0)
                with writing(self._path) as target:
                    target.write(len(text).to_bytes(8, "little") + text)
                    shutil.copyfileobj(file, target, 1 << 20)
        except OSError as error:
            raise disk_error(self._path.parent, error) from error
        finally:
            beside.unlink(missing_ok=True)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest."""
    with writing(folder / MANIFEST) as file:
        file.write((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; one line where the folder is no atlas, or one that is not understood."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        made = "convscope scan DATASET -o"
        what = "is no atlas: it has no manifest.json" if folder.is_dir() else "is no folder"
        raise AtlasError(f"{str(folder)!r} {what}. Make one: {made} {folder}") from None
    except (OSError, ValueError) as error:
        raise AtlasError(f"{str(path)!r} cannot be read: {one_line(error, 80)}") from None
    form = manifest.get("convscope_atlas") if isinstance(manifest, dict) else None
    if not isinstance(form, int):
        raise AtlasError(f"{str(path)!r} is not the manifest of an atlas. Give another folder: -o")
    if form > FORMAT:
        raise AtlasError(
            f"{str(folder)!r} was written by convscope {manifest.get('version', '?')}, in format "
            f"{form}; this one reads format {FORMAT}. Update: pip install -U convscope"
        )
    return dict(manifest)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other scans out of the folder; a killed process leaves nothing locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a")
    except OSError as error:
        raise disk_error(folder, error) from error
    with file:
        if not _locked(file):
            raise AtlasError(
                f"Another scan is writing into {str(folder)!r}. Wait for it, or give another "
                "folder: -o"
            )
        for left in folder.glob(".*.tmp"):  # by a process that was killed
            left.unlink(missing_ok=True)
        yield


def _locked(file: Any) -> bool:
    """Whether the lock on an open file was free, and is ours until it is closed."""
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
        # Some network file systems know no locks; that is no reason not to scan.
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True
