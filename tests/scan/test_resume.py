"""Whatever stops a scan: it resumes, and the result is the same to the last byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scan_kills import FAST, killed_until_done, scan_alone
from scan_runs import SMALL, message, run, summary

import convscope as cs
from convscope._atlas.files import writer_lock
from convscope._errors import AtlasError


def test_interrupted_and_continued_gives_the_same_bytes(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    run(model, photos, tmp_path / "whole", pooled=True)

    def interrupt(progress: Any) -> None:
        if progress.stage == "scanning" and progress.new >= 17:  # in the middle of the second shard
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(model, photos, tmp_path / "again", pooled=True, progress=interrupt)
        with pytest.raises(AtlasError, match=r"unfinished: 0 of 5 shards|Run the same command"):
            cs.open_atlas(tmp_path / "again")
    reports: list[Any] = []
    run(model, photos, tmp_path / "again", pooled=True, progress=reports.append)
    assert reports[0].done > 0
    assert summary(tmp_path / "again") == summary(tmp_path / "whole")
    for name in ("pooled/2.npy", "network.safetensors", "listing.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "again").glob("part-*"))
    assert not list((tmp_path / "again").rglob(".*.tmp*"))


def test_a_complete_scan_is_opened_not_repeated(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    run(model, photos, tmp_path / "atlas")
    reports: list[Any] = []
    run(model, photos, tmp_path / "atlas", progress=reports.append)
    assert reports == []


def test_thumbnails_are_made_where_only_they_are_missing(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    run(model, photos, tmp_path / "atlas")
    before = summary(tmp_path / "atlas")
    (tmp_path / "atlas" / "thumbnails.sqlite").unlink()
    atlas = cs.open_atlas(tmp_path / "atlas")
    assert atlas["0:0"].top()[0].thumbnail() is None

    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, photos, tmp_path / "atlas", progress=interrupt)
    atlas = run(model, photos, tmp_path / "atlas")
    assert atlas["0:0"].top()[0].crop() is not None
    assert summary(tmp_path / "atlas") == before


def test_shards_only_decide_what_is_lost(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    """Other shards of the same batches: the same lists and counts, sums to the last few bits."""
    a, b = (
        run(model, photos, tmp_path / name, shard=shard) for name, shard in (("a", 12), ("b", 48))
    )
    for layer, other in zip(a.layers, b.layers, strict=True):
        for name in ("top.mean.image", "bottom.peak.ties", "histogram", "active", "minimum"):
            np.testing.assert_array_equal(layer.array(name), other.array(name))
        np.testing.assert_allclose(layer.mean, other.mean, rtol=1e-12)


def test_killed_at_any_moment_and_continued_gives_the_same_bytes(tmp_path: Path) -> None:
    scan_alone(tmp_path / "whole", FAST)
    kills = killed_until_done(tmp_path / "killed", FAST, kills=2, seed=3)
    assert kills >= 1
    assert summary(tmp_path / "killed") == summary(tmp_path / "whole")


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    scan_alone(tmp_path / "whole", FAST)
    kills = 0
    for run_number in range(20):
        folder = tmp_path / f"killed-{run_number}"
        kills += killed_until_done(folder, FAST, kills=1, seed=run_number)
        assert summary(folder) == summary(tmp_path / "whole")
    assert kills >= 15


def test_two_scans_at_once(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    with writer_lock(tmp_path / "atlas"), pytest.raises(AtlasError) as raised:
        run(model, photos, tmp_path / "atlas")
    assert message(raised) == (
        f"Another scan is writing into '{tmp_path / 'atlas'}'. Wait for it, or give another "
        "folder: -o"
    )
    run(model, photos, tmp_path / "atlas")  # nothing stays locked


def test_another_scan_is_refused(
    model: cs.Model, photos: Path, tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    run(model, photos, tmp_path / "atlas")
    with pytest.raises(AtlasError) as raised:
        run(model, photos, tmp_path / "atlas", top=3)
    assert message(raised) == (
        f"'{tmp_path / 'atlas'}' holds another scan: top 5, not 3. Give another folder (-o), or "
        "remove this one"
    )
    with pytest.raises(AtlasError, match="4 layers, not 1 as requested now"):
        cs.scan(model, photos, tmp_path / "atlas", "0", **SMALL)
    with pytest.raises(AtlasError, match="the number of images 50, not 20"):
        run(model, make_folder(20, "fewer"), tmp_path / "atlas")
    with torch.no_grad():
        model.module[0].weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(AtlasError, match=r"the model's contents [0-9a-f]+, not [0-9a-f]+"):
        run(model, photos, tmp_path / "atlas")


def test_a_changed_file_is_noticed(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    run(model, photos, tmp_path / "atlas")
    shutil.copy(photos / "ant" / "000.png", photos / "ant" / "001.png")
    with pytest.raises(AtlasError, match="the dataset's contents"):
        run(model, photos, tmp_path / "atlas")


def test_the_recorded_batch_is_used_again(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    run(model, photos, tmp_path / "atlas")
    atlas = run(model, photos, tmp_path / "atlas", batch=None, shard=None)
    assert atlas.manifest["settings"]["batch"] == 4
    with pytest.raises(AtlasError, match="batch 4, not 5"):
        run(model, photos, tmp_path / "atlas", batch=5, shard=None)


def test_memory_that_runs_out_makes_batches_smaller(
    model: cs.Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, photos, tmp_path / "small", batch=2)
    real, calls = model.backend.stream, []

    def stream(info: Any, values: torch.Tensor, *rest: Any) -> None:
        calls.append(len(values))
        if len(values) > 2 and len(calls) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        real(info, values, *rest)

    monkeypatch.setattr(model.backend, "stream", stream)
    notes: list[str] = []
    atlas = run(model, photos, tmp_path / "atlas", batch=8, on_note=notes.append)
    assert atlas.manifest["settings"]["batch"] == 2
    assert [note.partition(":")[0] for note in notes] == [
        "out of memory with batches of 8",
        "out of memory with batches of 4",
    ]
    assert summary(tmp_path / "atlas") == summary(tmp_path / "small")


def test_other_errors_are_not_swallowed(
    model: cs.Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(*_: Any) -> None:
        raise ValueError("broken")

    run(model, photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(model.backend, "stream", stream)
        with pytest.raises(ValueError, match="broken"):
            run(model, photos, tmp_path / "atlas")
    run(model, photos, tmp_path / "atlas")
    assert summary(tmp_path / "atlas") == summary(tmp_path / "whole")
