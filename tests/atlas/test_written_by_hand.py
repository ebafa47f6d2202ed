"""An atlas written by hand, from the description of the format alone, is read as it is meant.

A convolution and a layer of features, five images of three classes (one class without images), one
channel that was never active, one with NaN in every map.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import convscope as cs
from convscope._atlas.histogram_bins import BINS, bin_of
from convscope._errors import AtlasError

IDS = ["ant/a.png", "ant/b.png", "cat/c.png", "cat/d.png", "cat/e.png"]
LABELS = np.array([0, 0, 2, 2, 2])
# (image, channel, row, column): channel 0 holds the image's index + 1 at (1, index % 3)
MAPS = np.zeros((5, 3, 2, 3), np.float32)
MAPS[np.arange(5), 0, 1, np.arange(5) % 3] = np.arange(1, 6)
MAPS[:, 2] = np.nan


def lists(score: np.ndarray, position: np.ndarray, *, lowest: bool) -> dict[str, np.ndarray]:
    """The two best of each channel: score, image, position, ties."""
    count, channels = score.shape
    found: dict[str, np.ndarray] = {
        "score": np.full((2, channels), np.nan, np.float32),
        "image": np.full((2, channels), -1, np.int64),
        "position": np.full((2, channels), -1, np.int32),
        "ties": np.zeros(channels, np.int64),
    }
    for c in range(channels):
        known = [n for n in range(count) if not np.isnan(score[n, c])]
        best = sorted(known, key=lambda n, c=c: (score[n, c] if lowest else -score[n, c], n))[:2]
        for rank, n in enumerate(best):
            found["score"][rank, c], found["image"][rank, c] = score[n, c], n
            found["position"][rank, c] = position[n, c]
        if len(best) == 2:
            found["ties"][c] = sum(score[n, c] == score[best[1], c] for n in known)
    return found


def statistics(maps: np.ndarray, path: str) -> dict[str, np.ndarray]:
    flat = maps.reshape(*maps.shape[:2], -1)
    known = ~np.isnan(flat)
    values = np.where(known, flat, 0).astype(np.float64)
    mean, peak = flat.mean(2), flat.max(2)
    finite = np.isfinite(mean)
    means = np.where(finite, mean, 0).astype(np.float64)
    filled = np.nan_to_num(flat)
    places = {"top": filled.argmax(2), "bottom": filled.argmin(2)}
    arrays: dict[str, np.ndarray] = {
        "count": known.sum((0, 2)),
        "nan": (~known).sum((0, 2)),
        "active": (values > 0).sum((0, 2)),
        "sum": values.sum((0, 2)),
        "square": (values**2).sum((0, 2)),
        "minimum": np.where(known, flat, np.inf).min((0, 2)).astype(np.float32),
        "maximum": np.where(known, flat, -np.inf).max((0, 2)).astype(np.float32),
        "mean.count": finite.sum(0),
        "mean.sum": means.sum(0),
        "mean.square": (means**2).sum(0),
        "histogram": np.stack(
            [
                np.bincount(bin_of(flat[:, c].ravel()), minlength=BINS + 1)
                for c in range(flat.shape[1])
            ]
        )[:, :BINS].astype(np.uint32),
        "class": np.array([0, 2]),
        "class.sum": np.stack([means[k == LABELS].sum(0) for k in (0, 2)]),
        "class.count": np.stack([finite[k == LABELS].sum(0) for k in (0, 2)]).astype(np.int32),
        "sample.image": np.array([3, 0]),
        "sample.mean": mean[[3, 0]],
        "sample.peak": peak[[3, 0]],
        "sample.position": places["top"][[3, 0]].astype(np.int32),
    }
    for name, score in (("mean", mean), ("peak", peak)):
        for end in ("top", "bottom"):
            position = places["bottom" if (end, name) == ("bottom", "mean") else "top"]
            for key, value in lists(score, position, lowest=end == "bottom").items():
                arrays[f"{end}.{name}.{key}"] = value
    return {f"{name}/{path}": np.ascontiguousarray(value) for name, value in arrays.items()}


def manifest(layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "convscope_atlas": 1,
        "version": "0.1.0",
        "model": {"name": "net.py:make", "title": "net", "untrained": "", "classes": []},
        "dataset": {
            "name": "photos",
            "images": 5,
            "classes": ["ant", "bee", "cat"],
            "labelled": True,
            "drawn": "channel 0 of 6",
        },
        "settings": {"top": 2, "size": [4, 6]},
        "layers": layers,
        "state": {"complete": True, "shards": 1, "done": 1, "images": 5, "skipped": 0},
        "skipped": [],
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    layers = [
        {"path": "a/conv", "kind": "Conv2d", "shape": [3, 2, 3], "field": {"text": "2×2"}},
        {"path": "head", "kind": "Linear", "shape": [2]},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(layers)))
    features = MAPS[:, :2].sum((2, 3)) - 2
    summary = statistics(MAPS, "a/conv") | statistics(features[:, :, None], "head")
    save_file(summary, tmp_path / "summary.safetensors")
    rows = np.int32([[0, 2], [2, 4]])
    columns = np.int32([[0, 2], [2, 4], [6, 6]])  # the last column looks at the padding alone
    network = {"field.rows/a/conv": rows, "field.columns/a/conv": columns}
    save_file(network, tmp_path / "network.safetensors")
    text = "".join(IDS).encode()
    listing = {"ids": np.frombuffer(text, np.uint8), "ends": np.cumsum([len(i) for i in IDS])}
    save_file(listing | {"labels": LABELS}, tmp_path / "listing.safetensors")
    return tmp_path


def png(color: str, size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def illustrated(written: Path) -> Path:
    """With thumbnails: originals of 8×12, reduced by a half; one crop and one map of image 4."""
    from convscope._atlas.thumbnails import SCHEMA

    file = sqlite3.connect(written / "thumbnails.sqlite")
    file.executescript(SCHEMA)
    for image in range(5):
        row = (image, 8, 12, 0.5, 0.5, 0.0, 0.0, png("red", (6, 4)))
        file.execute("insert into images values (?,?,?,?,?,?,?,?)", row)
    file.execute("insert into crops values (4,4,4,8,8,?)", (png("lime", (4, 4)),))
    levels = zlib.compress(np.uint8([[0, 0, 0], [0, 255, 0]]).tobytes())
    file.execute("insert into maps values ('a/conv',0,4,2,3,0.0,5.0,2,3,?)", (levels,))
    file.commit()
    file.close()
    return written


def test_ranked_lists(written: Path) -> None:
    atlas = cs.open_atlas(written)
    top = atlas.unit("a/conv:0").top("peak")
    assert [(one.id, one.label, one.score, one.position) for one in top] == [
        ("cat/e.png", "cat", 5, (1, 1)),
        ("cat/d.png", "cat", 4, (1, 0)),
    ]
    assert (top.ties, top.arbitrary) == (1, False)
    dead = atlas.unit("a/conv:1").top()
    assert [one.image for one in dead] == [0, 1]
    assert (dead.ties, dead.arbitrary) == (5, True)
    assert len(atlas.unit("a/conv:2").top()) == 0
    assert len(atlas.unit("a/conv:2").random()) == 0
    assert len(atlas.unit("a/conv:2").quantiles()) == 0
    with pytest.raises(AtlasError, match="No image is ranked for a/conv:2: all its feature maps"):
        atlas.unit("a/conv:2").sheet()


def test_a_list_cut_short_counts_its_own_ties(written: Path) -> None:
    unit = cs.open_atlas(written).unit("a/conv:0")
    assert (unit.top("peak", first=1).ties, unit.top("peak", first=1).arbitrary) == (1, False)


def test_statistics(written: Path) -> None:
    layer = cs.open_atlas(written).layer("a/conv")
    assert layer.count.tolist() == [30, 30, 0]
    assert layer.nan.tolist() == [0, 0, 30]
    np.testing.assert_allclose(layer.mean, [0.5, 0, np.nan])
    np.testing.assert_allclose(layer.variance[:2], [MAPS[:, 0].var(), 0], rtol=1e-6)
    np.testing.assert_allclose(layer.active, [5 / 30, 0, np.nan])
    np.testing.assert_allclose(layer.image_mean, [0.5, 0, np.nan])
    np.testing.assert_allclose(layer.image_variance[:2], [np.arange(1, 6).var() / 36, 0], atol=1e-6)
    assert layer.percentiles((0, 100))[:, 0].tolist() == [0, 5]
    assert np.isnan(layer.percentiles((50,))[0, 2])
    assert (layer.pooled, layer.kernel_cosine, layer.kernel_norm) == (None, None, None)


def test_classes_without_images_have_no_mean(written: Path) -> None:
    atlas = cs.open_atlas(written)
    np.testing.assert_allclose(atlas.layer("a/conv").class_means[:, 0], [0.25, np.nan, 4 / 6])
    assert atlas.layer("a/conv").class_counts[:, 0].tolist() == [2, 0, 3]
    means = atlas.unit("a/conv:0").class_means()
    assert [(name, count) for name, _, count in means] == [("cat", 3), ("ant", 2), ("bee", 0)]


def test_features_have_one_position_and_no_receptive_field(written: Path) -> None:
    atlas = cs.open_atlas(written)
    best = atlas.unit("head:0").top()[0]
    assert (best.image, best.score, best.position) == (4, 3, (0, 0))
    assert (best.address, best.input_box, best.crop_box) == ("head:0@0,0", None, None)
    assert atlas.layer("head").map_size == (1, 1)


def test_positions_in_the_padding_have_no_receptive_field(written: Path) -> None:
    layer = cs.open_atlas(written).layer("a/conv")
    assert layer.input_box((1, 0)) == (2, 0, 4, 2)
    assert layer.input_box((0, 2)) is None


def test_crops_maps_and_what_is_cut_from_thumbnails(illustrated: Path) -> None:
    atlas = cs.open_atlas(illustrated)
    stored, cut = atlas.unit("a/conv:0").top("peak")
    assert stored.crop_box == (4, 4, 8, 8)
    assert cut.crop_box == (4, 0, 8, 4)
    crops = [one.crop() for one in (stored, cut)]
    assert [crop and (crop.size, crop.getpixel((0, 0))) for crop in crops] == [
        ((4, 4), (0, 255, 0)),
        ((2, 2), (255, 0, 0)),
    ]
    map = stored.map()
    assert map is not None
    assert map.values.tolist() == [[0, 0, 0], [0, 5, 0]]
    assert cut.map() is None


def test_the_figure_names_arrays_drawn_as_images(illustrated: Path) -> None:
    sheet = cs.open_atlas(illustrated).unit("a/conv:0").sheet("peak")
    assert "the inputs are arrays, drawn as images: channel 0 of 6" in sheet.lines
    assert [len(section.tiles) for section in sheet.sections] == [2, 1, 2]
    frame = sheet.sections[-1].tiles[0].frames[0]
    assert (frame.top, frame.left, frame.bottom, frame.right) == (2, 2, 4, 4)


def test_the_table_holds_every_unit(written: Path) -> None:
    columns = cs.open_atlas(written)._columns()
    assert list(columns["unit"]) == ["a/conv:0", "a/conv:1", "a/conv:2", "head:0", "head:1"]
    assert list(columns["top_mean_image"]) == [IDS[4], IDS[0], "", IDS[4], IDS[0]]
    np.testing.assert_allclose(columns["top_peak"], [5, 0, np.nan, 3, -2])


def test_data_without_labels(written: Path) -> None:
    about = json.loads((written / "manifest.json").read_text())
    about["dataset"] |= {"labelled": False, "classes": []}
    (written / "manifest.json").write_text(json.dumps(about))
    atlas = cs.open_atlas(written)
    assert not atlas.labeled
    with pytest.raises(AtlasError, match="'photos' has no labels, so there are no class means"):
        atlas.unit("a/conv:0").class_means()
