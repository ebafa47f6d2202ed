"""What version 0.1.0 wrote: its atlas and its weights are read, its unfinished scan is resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import convscope as cs

WRITTEN = Path(__file__).parents[1] / "fixtures" / "0.1"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())
UNITS = [address for address in EXPECTED if ":" in address]
SETTINGS: dict[str, Any] = {"top": 4, "sample": 16, "shard": 24}
DATASET = "shapes,count=48,size=16"


@pytest.fixture(scope="module")
def atlas() -> cs.Atlas:
    return cs.open_atlas(WRITTEN / "atlas")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what was written, as the current folder: the model is named by a relative path."""
    shutil.copytree(WRITTEN, tmp_path / "written")
    monkeypatch.chdir(tmp_path / "written")
    return tmp_path / "written"


@pytest.mark.parametrize("address", UNITS)
def test_the_statistics_of_a_unit_are_read(atlas: cs.Atlas, address: str) -> None:
    unit, expected = atlas[address], EXPECTED[address]
    for name in ("mean", "maximum", "minimum", "active", "variance", "count"):
        assert getattr(unit, name) == expected[name], name


@pytest.mark.parametrize("address", UNITS)
def test_the_exemplars_of_a_unit_are_read(atlas: cs.Atlas, address: str) -> None:
    unit, expected = atlas[address], EXPECTED[address]
    by_mean = [
        [one.image, one.id, one.score, list(one.position), list(one.crop_box or ())]
        for one in unit.top("mean")
    ]
    assert by_mean == expected["top"]
    by_peak = [[one.image, one.id, one.score, list(one.position)] for one in unit.top("peak")]
    assert by_peak == expected["peak"]
    assert all(one.thumbnail() and one.crop() and one.map() for one in unit.top("mean"))
    unit.sheet()


def test_the_rest_of_an_atlas_is_read(atlas: cs.Atlas) -> None:
    pooled = atlas.layer("conv1").pooled
    assert pooled is not None
    assert pooled[:3, :4].tolist() == EXPECTED["pooled"]
    assert atlas.labeled
    assert atlas.classes == ("circle", "square", "triangle", "star")
    assert atlas.layer("conv2").class_means.shape == (4, 32)
    assert [atlas.label(image) for image in (0, 3)] == ["circle", "star"]


def test_an_unfinished_scan_is_resumed(workplace: Path) -> None:
    """Its two finished shards are merged; nothing is scanned again."""
    new: list[int] = []
    resumed = cs.scan(
        "tiny.safetensors",
        DATASET,
        out="unfinished",
        layers="conv1",
        progress=lambda progress: new.append(progress.new),
        **SETTINGS,
    )
    assert not any(new)
    assert [layer.path for layer in resumed.layers] == ["conv1"]
    finished, merged = (
        load_file(workplace / folder / "summary.safetensors") for folder in ("atlas", "unfinished")
    )
    shared = {name for name in finished if name.endswith("/conv1") and "pooled" not in name}
    assert set(merged) == shared
    for name in sorted(shared):
        np.testing.assert_array_equal(merged[name], finished[name], name, strict=True)


def test_a_new_scan_writes_the_same_files(workplace: Path) -> None:
    """Equal files, manifest keys and arrays; convolutions may differ in the last bits."""
    cs.scan("tiny.safetensors", DATASET, "again", "conv*", pooled=True, **SETTINGS)
    old, new = (workplace / folder for folder in ("atlas", "again"))
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (old, new)]
    assert _shape_of(manifests[0]) == _shape_of(manifests[1])
    for file in ("listing", "network", "summary"):
        before, after = (load_file(folder / f"{file}.safetensors") for folder in (old, new))
        assert list(before) == list(after)
        for name in before:
            assert before[name].dtype == after[name].dtype, name
            if not name.startswith("histogram"):  # a value may move over the edge of its bin
                np.testing.assert_allclose(after[name], before[name], 1e-4, 1e-4, err_msg=name)
    names = [{path.name for path in folder.rglob("*") if path.is_file()} for folder in (old, new)]
    assert names[1] - {".lock"} == names[0] - {".lock"}


def _shape_of(value: Any) -> Any:
    """The keys of a manifest, and the types of its values."""
    if isinstance(value, dict):
        return {key: _shape_of(inner) for key, inner in value.items()}
    return [_shape_of(inner) for inner in value] if isinstance(value, list) else type(value)


def test_weights_are_read() -> None:
    model = cs.load(WRITTEN / "tiny.safetensors")
    image = cs.open_dataset("shapes,count=4,size=16").image(2)
    predicted = model.predict(image)
    assert [name for name, _ in predicted] == [name for name, _ in EXPECTED["predict"]]
    np.testing.assert_allclose(
        [probability for _, probability in predicted],
        [probability for _, probability in EXPECTED["predict"]],
        rtol=1e-5,
    )
