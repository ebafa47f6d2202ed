"""``cs.scan``: what it finds, and that nothing that happens to it changes that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scanning_brute import brute_force
from scanning_kills import FAST, killed_until_done, scan_alone

import convscope as cs
from convscope._atlas.folder import only_writer, write_manifest
from convscope._data import open_dataset
from convscope._errors import AtlasError, DatasetError, UsageError
from convscope._images import decode

SMALL: dict[str, Any] = {"batch": 4, "shard": 12, "top": 5}


def told(raised: pytest.ExceptionInfo[Exception]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


def summary(folder: Path) -> bytes:
    return (folder / "summary.safetensors").read_bytes()


def run(model: Any, data: Any, out: Path, **options: Any) -> cs.Atlas:
    return cs.scan(model, data, out, ["kind=conv", "kind=relu", "4"], **{**SMALL, **options})


# --- what is found --------------------------------------------------------------------------------


def test_lists_and_statistics_are_those_of_brute_force(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    (photos / "ant" / "005.png").write_bytes(b"no picture")
    atlas = run(model, photos, tmp_path / "atlas")
    assert brute_force(atlas, model, photos) == (5 + 5 + 4 + 3) * 4 * 5
    assert atlas.images == 49


def test_numbers_that_are_ready_for_the_network_are_scanned_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(6, 5, 3), torch.nn.ReLU())
    model = cs.load(network, input=(6, 12, 16))
    random = np.random.default_rng(0)
    folder = tmp_path / "bands"
    folder.mkdir()
    items = [random.normal(size=(6, 12, 16)).astype(np.float32) for _ in range(14)]
    for k, item in enumerate(items):
        np.save(folder / f"{k:02}.npy", item)
    (folder / "99.npy").write_bytes(b"no array")
    listed = cs.scan(model, items, tmp_path / "listed", ["0", "1"], **SMALL)
    stored = cs.scan(model, folder, tmp_path / "stored", ["0", "1"], **SMALL)
    assert brute_force(listed, model, items) == 10 * 4 * 5
    assert [one["id"] for one in stored.skipped] == ["99.npy"]
    np.testing.assert_array_equal(
        stored.layer("1").array("top.peak.image"), listed.layer("1").array("top.peak.image")
    )
    lines = listed["1:2"].sheet(by="peak").lines
    assert any("the images are numbers: channel 0 of 6, each image from its" in la for la in lines)


def test_the_first_of_many_numbers_may_be_damaged(tmp_path: Path) -> None:
    """What tells the size is the first that can be read; another size is refused, not ignored."""
    model = cs.load(torch.nn.Sequential(torch.nn.Conv2d(5, 3, 3)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.npy").write_bytes(b"")
    for k in range(1, 4):
        np.save(tmp_path / "data" / f"{k}.npy", np.full((5, 9, 11), k, np.float32))
    atlas = cs.scan(model, tmp_path / "data", tmp_path / "atlas", ["0"], top=2)
    assert (atlas.images, [one["id"] for one in atlas.skipped]) == (3, ["0.npy"])
    with pytest.raises(UsageError, match="size= resizes pictures"):
        cs.scan(model, tmp_path / "data", tmp_path / "other", ["0"], size=8)


def test_data_that_vanish_stop_a_scan_and_do_not_empty_it(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    """A disk that is unplugged is no folder of damaged pictures."""
    whole = run(model, photos, tmp_path / "whole")
    listed, away = open_dataset(photos), tmp_path / "away"
    looks = 0

    def unplug(step: Any) -> None:
        nonlocal looks
        looks += step.stage == "scanning"
        if looks == 4:
            photos.rename(away)

    with pytest.raises(DatasetError, match=r"is gone\. Bring it back, then run the same command"):
        run(model, listed, tmp_path / "atlas", on_step=unplug, workers=1)
    away.rename(photos)
    assert run(model, photos, tmp_path / "atlas").skipped == []
    assert summary(tmp_path / "atlas") == summary(tmp_path / "whole")
    assert whole.images == 50


def test_what_an_atlas_says(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    assert [layer.path for layer in atlas.layers] == ["0", "1", "2", "4"]
    assert (atlas.images, len(atlas.ids), atlas.classes) == (50, 50, ("ant", "bee"))
    dead = atlas["1:1"]
    assert (dead.active, dead.maximum, dead.count) == (0.0, 0.0, 50 * 80)
    assert dead.bottom().ties == 50
    assert dead.bottom().sentence() == (
        "50 images score 0; of these the first 5 in the listing are shown"
    )
    assert [one.id for one in dead.bottom()] == [f"ant/00{k}.png" for k in range(5)]
    best = atlas["0:0"].top(by="peak")[0]
    twin = atlas["0:2"].top(by="peak")[0]
    assert (best.id, best.score, best.position) == (twin.id, twin.score, twin.position)
    name, mean, count = atlas["2:0"].classes()[0]
    assert (name in ("ant", "bee"), count) == (True, 25)
    assert mean >= atlas["2:0"].mean
    features = atlas["4:0"].top(by="peak")[0]
    assert features.position == (0, 0)
    assert len(atlas["0:0"].random(3)) == 3
    scores = [one.score for one in atlas["0:0"].quantiles()]
    assert scores == sorted(scores, reverse=True)
    assert "ant/" in repr(atlas["0:0"].top()) or "bee/" in repr(atlas["0:0"].top())


def test_crops_are_what_the_position_looks_at(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    """The crop of a first convolution's peak, put through its kernel, gives the peak."""
    atlas = run(model, photos, tmp_path / "atlas")
    data = cs.open_dataset(photos)
    for one in atlas["0:3"].top(by="peak"):
        view = model.prepare(data.image(one.image)).views
        assert view is not None
        top, left, bottom, right = (round(side) for side in one.seen_box or ())
        assert (bottom - top, right - left) == (3, 3)
        values = model.input.preprocess.normalize(view[0].seen)[:, top:bottom, left:right]
        kernel = model.weights("0")[3]
        bias = float(model.module[0].bias[3].detach())  # type: ignore[attr-defined]
        assert (values * kernel).sum() + bias == pytest.approx(one.score, rel=1e-4)
        box = one.crop_box
        assert box is not None
        expected = view[0].to_original(one.seen_box or ())
        np.testing.assert_allclose(box, expected)
        crop = one.crop()
        assert crop is not None
        original = data.image(one.image).convert("RGB")
        cut = original.crop((int(box[1]), int(box[0]), -int(-box[3] // 1), -int(-box[2] // 1)))
        np.testing.assert_array_equal(np.asarray(crop), np.asarray(cut))


def test_maps_of_the_top_images_are_kept(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    for one in (*atlas["1:3"].top("mean"), *atlas["2:1"].top("peak")):
        kept, path = one.map(), one.unit.layer.path
        picture = cs.open_dataset(photos).image(one.image)
        true = model.activations(picture, path)[path][0, one.unit.channel].numpy()
        assert kept is not None
        assert kept.size == true.shape
        np.testing.assert_allclose(kept.values, true, atol=(kept.high - kept.low) / 255)
    assert atlas["2:1"].bottom()[0].thumbnail() is not None


def test_a_larger_size_moves_positions_along(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = cs.scan(model, photos, tmp_path / "a", ["0", "2"], size=(24, 20), **SMALL)
    assert [layer.shape for layer in atlas.layers] == [(5, 22, 18), (4, 10, 8)]
    assert brute_force(atlas, model, photos) == 5 * 4 * 5 + 4 * 4 * 5


def test_pooled_means_are_those_of_every_image(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    (photos / "bee" / "040.png").write_bytes(b"")
    atlas = run(model, photos, tmp_path / "atlas", pooled=True)
    layer = atlas.layer("2")
    assert layer.pooled is not None
    assert (layer.pooled.shape, layer.pooled.dtype) == ((4, 50), np.float16)
    assert np.isnan(layer.pooled[:, 40]).all()
    data = cs.open_dataset(photos)
    for k in (0, 17, 49):
        true = model.activations(data.image(k), "2")["2"].mean((0, 2, 3)).numpy()
        np.testing.assert_allclose(
            layer.pooled[:, k] * layer.pooled_scale, true, rtol=2e-3, atol=1e-4
        )
    assert run(model, photos, tmp_path / "plain").layer("2").pooled is None


def test_means_beyond_half_precision_are_scaled(photos: Path, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    network[0].weight.data.fill_(1e6)
    network[0].bias.data.zero_()
    model = cs.load(network, preprocess=cs.Preprocess(size=(6, 6)))
    layer = cs.scan(model, photos, tmp_path / "a", pooled=True).layer("0")
    assert layer.pooled is not None
    found = layer.pooled[0].astype(float) * layer.pooled_scale
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[layer.atlas.sample], layer.sample[:, 0], rtol=1e-3)


def test_the_sample_is_one_for_all_layers(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas", sample=20)
    assert len(set(atlas.sample.tolist())) == 20
    values = atlas.layer("2").sample
    data = cs.open_dataset(photos)
    for row in (0, 19):
        true = model.activations(data.image(int(atlas.sample[row])), "2")["2"].mean((0, 2, 3))
        np.testing.assert_allclose(values[row], true, rtol=1e-4, atol=1e-6)
    other = run(model, photos, tmp_path / "other", sample=20, seed=1)
    assert set(other.sample.tolist()) != set(atlas.sample.tolist())


def test_kernels_are_compared(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    cosine = atlas.layer("0").kernel_cosine
    assert cosine is not None
    assert cosine[0, 2] == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(atlas.layer("1").kernel_cosine, cosine)  # the ReLU behind it


@pytest.mark.parametrize("kind", ["zip", "shapes", "list"])
def test_other_datasets(kind: str, model: cs.Model, photos: Path, tmp_path: Path) -> None:
    if kind == "zip":
        data: Any = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    else:
        pictures = [np.asarray(Image.open(path)) for path in sorted(photos.rglob("*.png"))]
        data = "shapes,count=30,size=16" if kind == "shapes" else [(p, 0) for p in pictures]
    atlas = cs.scan(model, data, tmp_path / "atlas", "2", **SMALL)
    assert brute_force(atlas, model, data) == 4 * 4 * 5


def test_no_convolution_no_problem(photos: Path, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(300, 6))
    model = cs.load(network, preprocess=cs.Preprocess(size=(10, 10)), input=(3, 10, 10))
    atlas = cs.scan(model, photos, tmp_path / "atlas")
    assert atlas.layers[-1].path == "1"


# --- what may happen on the way -------------------------------------------------------------------


def test_interrupted_and_continued_gives_the_same_bytes(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    run(model, photos, tmp_path / "whole", pooled=True)

    def interrupt(step: Any) -> None:
        if step.stage == "scanning" and step.new >= 17:  # in the middle of the second shard
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(model, photos, tmp_path / "again", pooled=True, on_step=interrupt)
        with pytest.raises(AtlasError, match=r"unfinished: 0 of 5 shards|Run the same command"):
            cs.open_atlas(tmp_path / "again")
    steps: list[Any] = []
    run(model, photos, tmp_path / "again", pooled=True, on_step=steps.append)
    assert steps[0].done > 0
    assert summary(tmp_path / "again") == summary(tmp_path / "whole")
    for name in ("pooled/2.npy", "network.safetensors", "listing.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "again").glob("part-*"))
    assert not list((tmp_path / "again").glob(".*tmp"))


def test_a_complete_scan_is_opened_not_repeated(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    run(model, photos, tmp_path / "atlas")
    steps: list[Any] = []
    run(model, photos, tmp_path / "atlas", on_step=steps.append)
    assert steps == []


def test_thumbnails_are_made_where_only_they_are_missing(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    run(model, photos, tmp_path / "atlas")
    before = summary(tmp_path / "atlas")
    (tmp_path / "atlas" / "thumbnails.sqlite").unlink()
    atlas = cs.open_atlas(tmp_path / "atlas")
    assert atlas["0:0"].top()[0].thumbnail() is None

    def interrupt(step: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, photos, tmp_path / "atlas", on_step=interrupt)
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
    with only_writer(tmp_path / "atlas"), pytest.raises(AtlasError) as raised:
        run(model, photos, tmp_path / "atlas")
    assert told(raised) == (
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
    assert told(raised) == (
        f"'{tmp_path / 'atlas'}' holds another scan: top 5, not 3. Give another folder (-o), or "
        "remove this one"
    )
    with pytest.raises(AtlasError, match="4 layers, not the 1 asked for now"):
        cs.scan(model, photos, tmp_path / "atlas", "0", **SMALL)
    with pytest.raises(AtlasError, match="the number of images 50, not 20"):
        run(model, make_folder(20, "fewer"), tmp_path / "atlas")
    with torch.no_grad():
        model.module[0].weight[0, 0, 0, 0] += 1e-3  # type: ignore[attr-defined]
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
    real, calls = model._stream, []

    def stream(values: torch.Tensor, *rest: Any) -> None:
        calls.append(len(values))
        if len(values) > 2 and len(calls) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        real(values, *rest)

    monkeypatch.setattr(model, "_stream", stream)
    notes: list[str] = []
    atlas = run(model, photos, tmp_path / "atlas", batch=8, on_note=notes.append)
    assert atlas.manifest["settings"]["batch"] == 2
    assert [note.partition(":")[0] for note in notes] == [
        "memory ran out with batches of 8",
        "memory ran out with batches of 4",
    ]
    assert summary(tmp_path / "atlas") == summary(tmp_path / "small")


def test_other_errors_are_not_swallowed(
    model: cs.Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(*_: Any) -> None:
        raise ValueError("broken")

    run(model, photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(model, "_stream", stream)
        with pytest.raises(ValueError, match="broken"):
            run(model, photos, tmp_path / "atlas")
    run(model, photos, tmp_path / "atlas")
    assert summary(tmp_path / "atlas") == summary(tmp_path / "whole")


# --- what is wrong with the data ------------------------------------------------------------------


def test_damaged_files_are_skipped_counted_and_named(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    whole = (photos / "ant" / "000.png").read_bytes()
    (photos / "ant" / "empty.png").write_bytes(b"")
    (photos / "ant" / "text.jpg").write_text("no picture at all")
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


def test_a_picture_of_fifty_megapixels_and_one_that_is_too_large(
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
    assert told(raised).startswith(
        f"None of the 1 images of {tmp_path / 'd'} could be read; the first: 'a.png' is not an "
    )


# --- what is wrong with the folder ----------------------------------------------------------------


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
        assert told(raised) == (
            f"'{tmp_path / 'atlas'}' was written by convscope 9.1, in format 2; this one reads "
            "format 1. Update: pip install -U convscope"
        )


def test_what_is_no_atlas(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"is no atlas: it has no manifest.json. Make one:"):
        cs.open_atlas(photos)
    with pytest.raises(AtlasError, match="is no folder"):
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


def test_wishes_that_cannot_be(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"top=0 is too few. Nearest: 1"):
        run(model, photos, tmp_path / "atlas", top=0)
    with pytest.raises(UsageError, match="No engine 'spark'"):
        run(model, photos, tmp_path / "atlas", engine="spark")
    free = cs.load(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), input=None)
    with pytest.raises(UsageError, match=r"takes pictures of any size.*--size 224"):
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
        assert told(raised) == (
            f"The disk that holds '{disk / 'atlas'}' is full. What is finished is kept: make room, "
            "then run the same command again"
        )
        assert not list((disk / "atlas").glob(".*.tmp"))
        for size in ("90k", "200k"):  # room for the parts, but not for what comes after; then more
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            with pytest.raises(AtlasError, match=r"is full|make room"):
                run(model, photos, disk / "atlas", pooled=True)
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        run(model, photos, disk / "atlas", pooled=True)
        run(model, photos, tmp_path / "atlas", pooled=True)
        assert summary(disk / "atlas") == summary(tmp_path / "atlas")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # mapped files keep it busy


# --- reading --------------------------------------------------------------------------------------


def test_reading_loads_no_framework(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    run(model, photos, tmp_path / "atlas")
    code = f"""
import sys, convscope as cs
atlas = cs.open_atlas({str(tmp_path / "atlas")!r})
one = atlas["2:1"].top(by="peak")[0]
one.crop(), one.map(), one.thumbnail(), atlas["2:1"].percentiles(), atlas["2:1"].sheet().image
print(one.id, *({{"torch", "keras", "matplotlib", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1


def test_the_table(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    from convscope._atlas.table import columns

    atlas = run(model, photos, tmp_path / "atlas")
    found = columns(atlas)
    assert len(found["unit"]) == sum(layer.channels for layer in atlas.layers)
    row = list(found["unit"]).index("2:3")
    assert found["mean"][row] == atlas["2:3"].mean
    assert found["top_peak_image"][row] == atlas["2:3"].top("peak")[0].id


def test_addresses_are_checked(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    with pytest.raises(cs.ConvscopeError, match=r"No channel 9 in '0'"):
        atlas["0:9"]
    with pytest.raises(cs.ConvscopeError, match=r"No layer '3'"):
        atlas["3:0"]
    with pytest.raises(UsageError, match="ranked by 'mean' or 'peak'"):
        atlas["0:0"].top(by="max")  # type: ignore[arg-type]


def test_the_manifest_says_what_was_done(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    run(model, photos, tmp_path / "atlas")
    manifest = json.loads((tmp_path / "atlas" / "manifest.json").read_text())
    assert manifest["convscope_atlas"] == 1
    assert manifest["settings"]["batch"] == 4
    assert manifest["model"]["preprocess"] == model.input.preprocess.describe()
    assert manifest["dataset"]["images"] == 50
    assert manifest["made_with"]["torch"] == torch.__version__
