"""An atlas as it is read: layers, units, ranked lists, crops, and the figure of a unit."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope as cs
from convscope._atlas import Exemplar, Exemplars, LayerAtlas, Unit
from convscope._atlas.thumbnails import ResizeCrop, StoredMap, Thumbnails, whole_pixels
from convscope._errors import AtlasError, UnknownLayer, UsageError

WRITTEN = Path(__file__).parents[1] / "fixtures" / "0.1" / "atlas"


def test_layers_and_units_by_address(atlas: cs.Atlas) -> None:
    assert [layer.path for layer in atlas.layers] == ["conv1", "conv2"]
    assert [layer.channels for layer in atlas.layers[:2]] == [16, 32]
    layer = atlas["conv2"]
    assert isinstance(layer, LayerAtlas)
    assert layer is atlas.layer("conv2") is atlas.layers["conv2"]
    assert (layer.shape, layer.map_size, layer.families) == ((32, 8, 8), (8, 8), ("conv",))
    assert layer.receptive_field == "14×14, stride 2"
    unit = atlas["conv2:3"]
    assert isinstance(unit, Unit)
    assert (unit.address, unit.layer, unit.channel) == ("conv2:3", layer, 3)
    assert atlas.unit("conv2:3").address == "conv2:3"
    with pytest.raises(UsageError, match=r"'conv2' is a layer\. Give a channel of it: 'conv2:0'"):
        atlas.unit("conv2")
    assert repr(unit).startswith("Unit(conv2:3, mean ")
    assert "48 images of shapes,count=48,size=16,seed=0, 48 units in 2 layers" in repr(atlas)


@pytest.mark.parametrize(
    ("address", "text"),
    [("conv2:32", "No channel 32 in 'conv2'"), ("conv3", "No layer 'conv3'")],
)
def test_wrong_addresses(atlas: cs.Atlas, address: str, text: str) -> None:
    with pytest.raises(UnknownLayer, match=text):
        atlas[address]


def test_statistics_of_a_unit_are_those_of_its_layer(atlas: cs.Atlas) -> None:
    layer, unit = atlas.layer("conv1"), atlas["conv1:5"]
    for name in ("count", "nan", "mean", "variance", "minimum", "maximum", "active"):
        assert getattr(unit, name) == getattr(layer, name)[5], name
    np.testing.assert_array_equal(unit.percentiles((10, 90)), layer.percentiles((10, 90))[:, 5])
    assert unit.minimum <= unit.percentiles((0,))[0] <= unit.percentiles((100,))[0] <= unit.maximum
    assert layer.pooled is not None
    means = layer.pooled.astype(float) * layer.pooled_scale
    np.testing.assert_allclose(layer.image_mean, means.mean(1), atol=2e-3)
    np.testing.assert_allclose(layer.image_variance, means.var(1), atol=2e-3)
    np.testing.assert_allclose(means[:, atlas.sample].T, layer.sample, atol=2e-3)


def test_class_means(atlas: cs.Atlas) -> None:
    layer = atlas.layer("conv1")
    assert layer.pooled is not None
    assert atlas.labels is not None
    assert layer.class_counts.tolist() == [[12] * 16] * 4
    for label in range(4):
        means = layer.pooled[:, atlas.labels == label].astype(float).mean(1)
        np.testing.assert_allclose(layer.class_means[label], means, atol=2e-3)
    ranked = atlas["conv1:2"].class_means()
    assert {name for name, _, _ in ranked} == set(atlas.classes)
    assert [mean for _, mean, _ in ranked] == sorted(layer.class_means[:, 2], reverse=True)


def test_kernels_are_compared(atlas: cs.Atlas) -> None:
    cosine, norm = atlas.layer("conv1").kernel_cosine, atlas.layer("conv1").kernel_norm
    assert cosine is not None
    assert norm is not None
    assert (cosine.shape, norm.shape) == ((16, 16), (16,))
    np.testing.assert_allclose(np.diag(cosine), 1, atol=1e-3)
    np.testing.assert_array_equal(cosine, cosine.T)


def test_lists_are_sorted_and_are_those_of_all_images(atlas: cs.Atlas) -> None:
    unit = atlas["conv1:7"]
    pooled = unit.layer.pooled
    assert pooled is not None
    order = np.argsort(-pooled[7].astype(float), kind="stable")
    assert {one.image for one in unit.top("mean")} == set(order[:4].tolist())
    assert {one.image for one in unit.bottom("mean")} == set(order[-4:].tolist())
    for found, highest_first in ((unit.top("peak"), True), (unit.bottom("peak"), False)):
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=highest_first)
        assert [one.rank for one in found] == [0, 1, 2, 3]
    assert [one.image for one in unit.top(first=2)] == [one.image for one in unit.top()[:2]]
    with pytest.raises(UsageError, match="Images are ranked by 'mean' or 'peak', not 'max'"):
        unit.top(by="max")  # type: ignore[arg-type]


def test_random_images_and_quantiles(atlas: cs.Atlas) -> None:
    unit = atlas["conv2:4"]
    assert [one.image for one in unit.random(5)] == atlas.sample[:5].tolist()
    assert [one.image for one in atlas["conv1:0"].random(5)] == atlas.sample[:5].tolist()
    listed = unit.quantiles((1, 0.5, 0), by="peak")
    scores = sorted(unit.layer.array("sample.peak")[:, 4].tolist())
    assert [one.score for one in listed] == [scores[-1], scores[8], scores[0]]
    assert [one.quantile for one in listed] == [1, 0.5, 0]
    assert "quantiles of the peak" in repr(listed)


def exemplars(scores: list[float], ties: int) -> Exemplars:
    layer = LayerAtlas(None, "conv", "Conv2d", (1, 2, 2))  # type: ignore[arg-type]
    listed = [
        Exemplar(layer, 0, k, k, f"{k}.png", "", score, (0, k)) for k, score in enumerate(scores)
    ]
    return Exemplars(listed, ties, "conv:0: lowest mean")


def test_ties_that_were_cut_are_reported() -> None:
    cut = exemplars([1, 0, 0], ties=40)
    assert cut.arbitrary
    assert cut.tie_note() == (
        "40 images have the score 0; the first 2 of them in the dataset are shown"
    )
    assert repr(cut).splitlines()[0] == "conv:0: lowest mean"
    assert repr(cut).splitlines()[1] == "  1             1  0.png  at 0,0"
    assert repr(cut).splitlines()[-1] == cut.tie_note()
    for whole in (exemplars([1, 0, 0], ties=2), exemplars([], ties=0)):
        assert not whole.arbitrary
        assert whole.tie_note() == ""
    assert cut[1].address == "conv:0@0,1"
    assert [one.rank for one in cut[1:]] == [1, 2]


def test_boxes_lead_back_to_the_original_image(atlas: cs.Atlas) -> None:
    resized = ResizeCrop(100, 200, (0.5, 0.5), (0.0, 25.0))  # to 50×100, then the middle 50×50
    assert resized.to_original((0, 0, 50, 50)) == (0, 50, 100, 150)
    assert resized.to_original((-10, -100, 5, 500)) == (0, 0, 10, 200)  # clipped
    assert whole_pixels((0.2, 1.0, 2.1, 3.0)) == (0, 1, 3, 3)
    assert whole_pixels((4, 4, 4, 4)) == (4, 4, 5, 5)
    layer = atlas.layer("conv1")  # 5×5, stride 1, padded by 2
    assert layer.input_box((8, 5)) == (6, 3, 11, 8)
    assert layer.input_box((0, 15)) == (0, 13, 3, 16)
    one = atlas["conv1:0"].top()[0]
    assert one.crop_box == one.input_box == layer.input_box(one.position)


def test_crops_and_maps_of_the_exemplars(atlas: cs.Atlas) -> None:
    data = cs.open_dataset("shapes,count=48,size=16")
    for one in (*atlas["conv1:3"].top("peak"), *atlas["conv2:9"].top("mean")):
        original, crop, map = data.image(one.image), one.crop(), one.map()
        assert isinstance(original, Image.Image)
        assert crop is not None
        assert one.crop_box is not None
        top, left, bottom, right = whole_pixels(one.crop_box)
        expected = original.crop((left, top, right, bottom))
        np.testing.assert_array_equal(np.asarray(crop), np.asarray(expected))
        assert map is not None
        assert map.size == one.layer.map_size
        if one.layer.path == "conv1":
            y, x = one.position
            assert map.levels[y, x] == map.levels.max()
            assert map.high == pytest.approx(one.score)


def test_a_stored_map_is_exact_to_a_level() -> None:
    stored = StoredMap(np.uint8([[0, 51], [204, 255]]), -1.0, 4.0, (2, 2))
    np.testing.assert_allclose(stored.values, [[-1, 0], [3, 4]], atol=1e-6)


def test_without_thumbnails_there_are_statistics_only(folder: Path) -> None:
    (folder / "thumbnails.sqlite").unlink()
    atlas = cs.open_atlas(folder)
    one = atlas["conv2:0"].top()[0]
    assert one.input_box is not None
    assert (one.crop_box, one.thumbnail(), one.crop(), one.map()) == (None,) * 4
    assert atlas.thumbnails.images() == []
    with pytest.raises(AtlasError, match=r"has no thumbnails for conv2:0\. Run its scan again"):
        atlas["conv2:0"].sheet()


def test_thumbnails_are_read_from_any_thread(atlas: cs.Atlas) -> None:
    images = atlas.thumbnails.images()
    assert images == sorted(images)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(atlas.thumbnails.image, images))
    assert all(image is not None and image.size == (16, 16) for image in found)
    assert Thumbnails(WRITTEN / "none.sqlite").image(0) is None
    assert atlas.thumbnails.image(10**6) is None


def test_the_figure_states_what_it_shows(atlas: cs.Atlas) -> None:
    sheet = atlas["conv2:1"].sheet("peak", first=3, theme="dark")
    assert sheet.title == "conv2:1: highest peak"
    assert [section.heading for section in sheet.sections] == [
        "receptive field of the position",
        "feature map over the receptive field",
        "whole image, receptive field framed",
    ]
    assert [len(section.tiles) for section in sheet.sections] == [3, 3, 3]
    assert sheet.lines[0] == (
        "model tiny.safetensors · Conv2d 32×8×8 · receptive field 14×14, stride 2"
    )
    assert sheet.lines[1].startswith("48 images of shapes,count=48,size=16,seed=0 · over all of")
    assert sheet.lines[1].endswith("69.0% of the values above 0")
    frame = sheet.sections[2].tiles[0].frames[0]
    assert (frame.top, frame.left, frame.bottom, frame.right) == (4, 6, 16, 16)
    assert atlas["conv2:1"].sheet(bottom=True).title == "conv2:1: lowest mean"


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "summary.safetensors").write_bytes(b"junk")
    atlas = cs.open_atlas(folder)
    with pytest.raises(AtlasError, match=r"summary.safetensors' cannot be read: .*Scan again"):
        atlas["conv1:0"].mean  # noqa: B018
    with pytest.raises(AtlasError, match=r"has no 'top.median' for 'conv1'"):
        cs.open_atlas(WRITTEN).layer("conv1").array("top.median")


def test_the_table(atlas: cs.Atlas) -> None:
    columns = atlas._columns()
    assert {len(values) for values in columns.values()} == {48}
    row = list(columns["unit"]).index("conv2:3")
    unit = atlas["conv2:3"]
    assert (columns["layer"][row], columns["channel"][row]) == ("conv2", 3)
    assert columns["mean"][row] == unit.mean
    assert columns["p50"][row] == unit.percentiles((50,))[0]
    assert columns["top_peak_image"][row] == unit.top("peak")[0].id


def test_reading_loads_no_framework() -> None:
    code = f"""
import sys, convscope as cs
atlas = cs.open_atlas({str(WRITTEN)!r})
one = atlas["conv2:1"].top(by="peak")[0]
one.crop(), one.map(), one.thumbnail(), atlas["conv2:1"].percentiles()
atlas["conv2:1"].sheet().image
print(one.id, *({{"torch", "keras", "matplotlib", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1
