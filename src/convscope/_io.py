"""Files that are written as a whole or not at all: an interrupted write leaves the previous one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` at the end.

    For libraries that want a path; the ending is the same. Missing folders are made. Where the
    block raises, nothing is left of the temporary file and ``path`` is as it was.

    Args:
        path: The file to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that appears as ``path``, complete, at the end of the block.

    Args:
        path: The file to write. Missing folders are made.
        durable: Whether file and folder are flushed to the disk, to outlive a power cut.
    """
    with temporary_path(path) as temporary, temporary.open("wb") as file:
        yield file
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        _sync(path.parent)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write ``data`` to ``path`` as a whole or not at all, and return ``path``."""
    with atomic_file(path) as file:
        file.write(data)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` in UTF-8 as a whole or not at all, and return ``path``."""
    return write_bytes(path, text.encode())


def _sync(folder: Path) -> None:
    """Make sure that a renaming outlives a power cut, where the system can be asked to."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
