"""The files of an atlas: equal arrays give equal bytes; a failed write leaves the previous file."""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import convscope as cs
from convscope._atlas.files import (
    array_writer,
    disk_errors,
    durable_file,
    read_listing,
    read_manifest,
    shard_path,
    shard_paths,
    write_arrays,
    write_listing,
    write_manifest,
    writer_lock,
)
from convscope._errors import AtlasError

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(2.5),
    "é/c": np.zeros((0, 4), np.int64),
    "d": np.arange(8, dtype=np.uint8)[::2],
    "e": np.float16([[1, 2], [3, 4]]).T,
}


def test_arrays_are_read_back_by_the_library(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.safetensors", ARRAYS, "about these")
    found = load_file(tmp_path / "a.safetensors")
    assert set(found) == set(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values.reshape(found[name].shape))
        assert found[name].dtype == values.dtype
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"convscope": "about these"}


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", ARRAYS)
    write_arrays(tmp_path / "b", dict(reversed(ARRAYS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_added_in_groups_give_the_same_file(tmp_path: Path) -> None:
    write_arrays(tmp_path / "whole", ARRAYS)
    with array_writer(tmp_path / "grouped") as add:
        for name in sorted(ARRAYS):
            add({name: ARRAYS[name]})
    assert (tmp_path / "grouped").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grouped", "whole"]


def test_an_error_leaves_the_previous_file_and_nothing_else(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", ARRAYS)
    before = (tmp_path / "a").read_bytes()
    with suppress(KeyError), array_writer(tmp_path / "a") as add:
        add(ARRAYS)
        raise KeyError
    with suppress(KeyError), durable_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "a").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "is full. Finished work is kept: free some space, then run the same comm"),
        (errno.EDQUOT, "is full. Finished work is kept"),
        (errno.EROFS, "cannot be written: Read-only file system"),
    ],
)
def test_what_the_disk_refuses_is_one_line(tmp_path: Path, number: int, text: str) -> None:
    with pytest.raises(AtlasError) as raised, disk_errors(tmp_path):
        raise OSError(number, "Read-only file system")
    assert text in str(raised.value)
    assert repr(str(tmp_path)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_shards_are_listed_in_order(tmp_path: Path) -> None:
    for shard in (11, 2, 100):
        shard_path(tmp_path, shard).touch()
    assert [path.name for path in shard_paths(tmp_path)] == [
        "part-000002.safetensors",
        "part-000011.safetensors",
        "part-000100.safetensors",
    ]


def test_ids_of_any_alphabet_and_none(tmp_path: Path) -> None:
    ids = ["a/ü.png", "", "日本/1.png", "broken-\udcff.png"]
    write_listing(tmp_path, ids, np.array([0, 1, 0, 2]))
    read, labels = read_listing(tmp_path)
    assert (list(read), len(read), read[-1], read[1:3]) == (ids, 4, ids[-1], ids[1:3])
    assert labels is not None
    assert labels.tolist() == [0, 1, 0, 2]
    with pytest.raises(IndexError):
        read[4]
    write_listing(tmp_path, ids[:1], None)
    read, labels = read_listing(tmp_path)
    assert (list(read), labels) == (ids[:1], None)


def test_the_manifest_is_readable_json(tmp_path: Path) -> None:
    manifest = {"convscope_atlas": 1, "dataset": {"name": "Vögel"}}
    write_manifest(tmp_path, manifest)
    assert "Vögel" in (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read: "),
        ("[]", "is not the manifest of an atlas. Give another folder: -o"),
        ('{"convscope_atlas": "1"}', "is not the manifest of an atlas"),
        ('{"convscope_atlas": 2, "version": "9.1"}', "by convscope 9.1, in format 2; this version"),
    ],
)
def test_manifests_that_are_none(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(AtlasError) as raised:
        read_manifest(tmp_path)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_writer_at_a_time_and_no_leftovers(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "atlas"
    with writer_lock(folder):
        with pytest.raises(AtlasError, match="Another scan is writing into"), writer_lock(folder):
            pass
        (folder / "pooled").mkdir()
        for name in (".a.1.tmp.safetensors", ".b.spool.tmp", "pooled/.c.2.tmp.npy", "kept.txt"):
            (folder / name).touch()
    with writer_lock(folder):
        names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names == {".lock", "kept.txt"}


def test_an_unfinished_atlas_says_how_to_finish_it(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state"] = {"complete": False, "shards": 2, "done": 1, "images": 0, "skipped": 0}
    write_manifest(folder, manifest)
    with pytest.raises(AtlasError) as raised:
        cs.open_atlas(folder)
    assert str(raised.value) == (
        f"The scan into '{folder}' is unfinished: 1 of 2 shards are done. Run the same command "
        "again: convscope scan shapes,count=48,size=16,seed=0 -m tiny.safetensors "
        f"-o {folder}"
    )
