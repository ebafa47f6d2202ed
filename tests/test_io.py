"""Atomic files: all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope._io import atomic_file, temporary_path, write_bytes, write_text


def test_a_file_is_written_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    assert write_text(path, "größe") == path
    assert path.read_bytes() == "größe".encode()
    assert write_bytes(path, b"2").read_bytes() == b"2"
    assert [file.name for file in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("durable", [False, True])
def test_an_interrupted_write_leaves_the_previous_file(tmp_path: Path, durable: bool) -> None:
    path = write_bytes(tmp_path / "weights.bin", b"before")

    def interrupted() -> None:
        with atomic_file(path, durable=durable) as file:
            file.write(b"half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["weights.bin"]


def test_a_durable_file_holds_what_was_written(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "x", durable=True) as file:
        file.write(b"1")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_bytes() == b"1"


def test_a_temporary_path_keeps_the_ending_and_is_gone_afterwards(tmp_path: Path) -> None:
    with temporary_path(tmp_path / "maps.npz") as temporary:
        assert temporary.suffix == ".npz"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"1")
    assert [file.name for file in tmp_path.iterdir()] == ["maps.npz"]


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), temporary_path(tmp_path / "x"):
        pass
    assert not list(tmp_path.iterdir())
