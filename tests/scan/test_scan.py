"""``cs.scan`` and the atlas that it writes, against brute force."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scan_brute_force import brute_force
from scan_runs import SMALL, run, summary

import convscope as cs
from convscope._data import open_dataset
from convscope._errors import DatasetError, UsageError


def test_lists_and_statistics_are_those_of_brute_force(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    (photos / "ant" / "005.png").write_bytes(b"no image")
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
    assert any("arrays, drawn as images: channel 0 of 6, each image from its" in la for la in lines)


def test_the_first_of_many_numbers_may_be_damaged(tmp_path: Path) -> None:
    """What tells the size is the first that can be read; another size is refused, not ignored."""
    model = cs.load(torch.nn.Sequential(torch.nn.Conv2d(5, 3, 3)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.npy").write_bytes(b"")
    for k in range(1, 4):
        np.save(tmp_path / "data" / f"{k}.npy", np.full((5, 9, 11), k, np.float32))
    atlas = cs.scan(model, tmp_path / "data", tmp_path / "atlas", ["0"], top=2)
    assert (atlas.images, [one["id"] for one in atlas.skipped]) == (3, ["0.npy"])
    with pytest.raises(UsageError, match="size= resizes"):
        cs.scan(model, tmp_path / "data", tmp_path / "other", ["0"], size=8)


def test_data_that_vanish_stop_a_scan_and_do_not_empty_it(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    """An unplugged disk is not a folder of damaged images."""
    whole = run(model, photos, tmp_path / "whole")
    listed, away = open_dataset(photos), tmp_path / "away"
    batches = 0

    def unplug(progress: Any) -> None:
        nonlocal batches
        batches += progress.stage == "scanning"
        if batches == 4:
            photos.rename(away)

    with pytest.raises(DatasetError, match=r"is gone\. Bring it back, then run the same command"):
        run(model, listed, tmp_path / "atlas", progress=unplug, workers=1)
    away.rename(photos)
    assert run(model, photos, tmp_path / "atlas").skipped == []
    assert summary(tmp_path / "atlas") == summary(tmp_path / "whole")
    assert whole.images == 50


def test_units_lists_and_classes(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    assert [layer.path for layer in atlas.layers] == ["0", "1", "2", "4"]
    assert (atlas.images, len(atlas.ids), atlas.classes) == (50, 50, ("ant", "bee"))
    dead = atlas["1:1"]
    assert (dead.active, dead.maximum, dead.count) == (0.0, 0.0, 50 * 80)
    assert dead.bottom().ties == 50
    assert dead.bottom().tie_note() == (
        "50 images have the score 0; the first 5 of them in the dataset are shown"
    )
    assert [one.id for one in dead.bottom()] == [f"ant/00{k}.png" for k in range(5)]
    best = atlas["0:0"].top(by="peak")[0]
    twin = atlas["0:2"].top(by="peak")[0]
    assert (best.id, best.score, best.position) == (twin.id, twin.score, twin.position)
    name, mean, count = atlas["2:0"].class_means()[0]
    assert (name in ("ant", "bee"), count) == (True, 25)
    assert mean >= atlas["2:0"].mean
    features = atlas["4:0"].top(by="peak")[0]
    assert features.position == (0, 0)
    assert len(atlas["0:0"].random(3)) == 3
    scores = [one.score for one in atlas["0:0"].quantiles()]
    assert scores == sorted(scores, reverse=True)
    assert "ant/" in repr(atlas["0:0"].top()) or "bee/" in repr(atlas["0:0"].top())


def test_crops_are_the_receptive_fields_of_the_positions(
    model: cs.Model, photos: Path, tmp_path: Path
) -> None:
    """The crop of a first convolution's peak, put through its kernel, gives the peak."""
    atlas = run(model, photos, tmp_path / "atlas")
    data = cs.open_dataset(photos)
    for one in atlas["0:3"].top(by="peak"):
        view = model.prepare(data.image(one.image)).views
        assert view is not None
        top, left, bottom, right = (round(side) for side in one.input_box or ())
        assert (bottom - top, right - left) == (3, 3)
        values = model.input.preprocess.normalize(view[0].pixels)[:, top:bottom, left:right]
        kernel = model.weights("0")[3]
        bias = float(model.module[0].bias[3].detach())
        assert (values * kernel).sum() + bias == pytest.approx(one.score, rel=1e-4)
        box = one.crop_box
        assert box is not None
        expected = view[0].to_original(one.input_box or ())
        np.testing.assert_allclose(box, expected)
        crop = one.crop()
        assert crop is not None
        original = data.image(one.image).convert("RGB")
        cut = original.crop((int(box[1]), int(box[0]), -int(-box[3] // 1), -int(-box[2] // 1)))
        np.testing.assert_array_equal(np.asarray(crop), np.asarray(cut))


def test_maps_of_the_top_images_are_kept(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    atlas = run(model, photos, tmp_path / "atlas")
    for one in (*atlas["1:3"].top("mean"), *atlas["2:1"].top("peak")):
        kept, path = one.map(), one.layer.path
        image = cs.open_dataset(photos).image(one.image)
        true = model.activations(image, path)[path][0, one.channel].numpy()
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
        images = [np.asarray(Image.open(path)) for path in sorted(photos.rglob("*.png"))]
        data = "shapes,count=30,size=16" if kind == "shapes" else [(p, 0) for p in images]
    atlas = cs.scan(model, data, tmp_path / "atlas", "2", **SMALL)
    assert brute_force(atlas, model, data) == 4 * 4 * 5


def test_a_network_without_convolutions(photos: Path, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(300, 6))
    model = cs.load(network, preprocess=cs.Preprocess(size=(10, 10)), input=(3, 10, 10))
    atlas = cs.scan(model, photos, tmp_path / "atlas")
    assert atlas.layers[-1].path == "1"


def test_the_manifest_says_what_was_done(model: cs.Model, photos: Path, tmp_path: Path) -> None:
    run(model, photos, tmp_path / "atlas")
    manifest = json.loads((tmp_path / "atlas" / "manifest.json").read_text())
    assert manifest["convscope_atlas"] == 1
    assert manifest["settings"]["batch"] == 4
    assert manifest["model"]["preprocess"] == model.input.preprocess.describe()
    assert manifest["dataset"]["images"] == 50
    assert manifest["made_with"]["torch"] == torch.__version__
