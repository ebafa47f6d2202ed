"""Damaged images, folders that are not an atlas, arguments out of range: skipped, or one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from scan_runs import message, run, summary

import convscope as cs
from convscope._atlas.files import write_manifest
from convscope._errors import AtlasError, DatasetError, UsageError
from convscope._images import decode


def test_damaged_files_are_skipped_counted_and_named(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    whole = (photos / "ant" / "000.png").read_bytes()
    (photos / "ant" / "empty.png").write_bytes(b"")
    (photos / "ant" / "text.jpg").write_text("no image at all")
    (photos / "bee" / "short.png").write_bytes(whole[: len(whole) // 2])
    (photos / "bee" / "really-a-png.jpg").write_bytes(whole)
    (photos / "bee" / "nowhere.png").symlink_to(tmp_path / "nothing")
    atlas = run(model, photos, tmp_path / "atlas")
    assert atlas.images == 51
    assert atlas.manifest["state"]["skipped"] == 4
    reasons = {one["id"]: one["reason"] for one in atlas.skipped}
    assert set(reasons) == {"ant/empty.png", "ant/text.jpg", "bee/short.png", "bee/nowhere.png"}
    assert "is empty" in reasons["ant/empty.png"]
    assert all(atlas.ids[one["index"]] == one["id"] for one in atlas.skipped)
    listed = {one.id for k in range(5) for one in atlas[f"0:{k}"].top()}
    assert not listed & set(reasons)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    (photos / "ant" / "000.png").chmod(0)
    atlas = run(model, photos, tmp_path / "atlas")
    assert "Permission denied" in atlas.skipped[0]["reason"]


def test_an_image_of_fifty_megapixels_and_one_that_is_too_large(
    model: cs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    Image.new("L", (8000, 6250), 200).save(tmp_path / "d" / "large.png", compress_level=1)
    Image.new("L", (20, 20), 10).save(tmp_path / "d" / "small.png")
    monkeypatch.setattr(sys.modules[decode.__module__], "MAX_PIXELS", 51_000_000)
    Image.new("1", (8000, 6400)).save(tmp_path / "d" / "bomb.png")
    atlas = cs.scan(model, tmp_path / "d", tmp_path / "atlas", "0")
    assert (atlas.images, [one["id"] for one in atlas.skipped]) == (2, ["bomb.png"])
    large = next(one for one in atlas["0:0"].top() if one.id == "large.png")
    top, left, bottom, right = large.crop_box or ()
    assert 0 <= top < bottom <= 6250
    assert 0 <= left < right <= 8000
    assert max(getattr(large.crop(), "size", (0,))) <= 128


def test_one_image(model: cs.Model, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    Image.new("RGB", (20, 20), "red").save(tmp_path / "d" / "only.png")
    atlas = run(model, tmp_path / "d", tmp_path / "atlas")
    assert [one.id for one in atlas["0:0"].top()] == ["only.png"]
    assert atlas["0:0"].top().ties == 0
    assert (atlas.labeled, atlas.label(0)) == (False, "")
    with pytest.raises(AtlasError, match="has no labels"):
        atlas.layers[0].class_means  # noqa: B018


def test_no_image_at_all(model: cs.Model, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(DatasetError, match="holds no image"):
        run(model, tmp_path / "d", tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()
    (tmp_path / "d" / "a.png").write_bytes(b"junk")
    with pytest.raises(DatasetError) as raised:
        run(model, tmp_path / "d", tmp_path / "atlas")
    assert message(raised).startswith(
        f"None of the 1 images of {tmp_path / 'd'} could be read; the first: 'a.png' is not an "
    )


def test_an_atlas_of_the_future(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    future = {**atlas.manifest, "convscope_atlas": 2, "version": "9.1"}
    write_manifest(tmp_path / "atlas", future)
    for use in (
        lambda: cs.open_atlas(tmp_path / "atlas"),
        lambda: run(model, photos, tmp_path / "atlas"),
    ):
        with pytest.raises(AtlasError) as raised:
            use()
        assert message(raised) == (
            f"'{tmp_path / 'atlas'}' was written by convscope 9.1, in format 2; this version "
            "reads format 1. Update: pip install -U convscope"
        )


def test_what_is_no_atlas(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"is not an atlas: it has no manifest.json. Make "):
        cs.open_atlas(photos)
    with pytest.raises(AtlasError, match="is not a folder"):
        cs.open_atlas(tmp_path / "nothing")
    with pytest.raises(AtlasError, match="holds other files"):
        run(model, photos, photos)
    with pytest.raises(AtlasError, match="is a file"):
        run(model, photos, photos / "ant" / "000.png")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "manifest.json").write_text("{}")
    with pytest.raises(AtlasError, match="is not the manifest of an atlas"):
        cs.open_atlas(tmp_path / "odd")
    (tmp_path / "odd" / "manifest.json").write_text("{")
    with pytest.raises(AtlasError, match="cannot be read"):
        cs.open_atlas(tmp_path / "odd")


def test_arguments_out_of_range(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"top=0 is too small. Nearest: 1"):
        run(model, photos, tmp_path / "atlas", top=0)
    with pytest.raises(UsageError, match="No engine 'spark'"):
        run(model, photos, tmp_path / "atlas", engine="spark")
    free = cs.load(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), input=None)
    with pytest.raises(UsageError, match=r"takes images of any size.*--size 224"):
        cs.scan(free, photos, tmp_path / "atlas")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(tmp_path: Path, model: cs.Model, photos: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        with pytest.raises(AtlasError) as raised:
            run(model, photos, disk / "atlas", pooled=True)
        assert message(raised) == (
            f"The disk that holds '{disk / 'atlas'}' is full. Finished work is kept: free some "
            "space, then run the same command again"
        )
        assert not list((disk / "atlas").rglob(".*.tmp*"))
        for size in ("90k", "200k"):  # room for the shards, but not for what comes after; then more
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            with pytest.raises(AtlasError, match=r"is full|free some space"):
                run(model, photos, disk / "atlas", pooled=True)
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        run(model, photos, disk / "atlas", pooled=True)
        run(model, photos, tmp_path / "atlas", pooled=True)
        assert summary(disk / "atlas") == summary(tmp_path / "atlas")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # mapped files keep it busy
