"""Two networks, explanations, sensitivity, scans and files: equal to the library's own."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from web_bench import client_of, loaded, png, shown, wait

import convscope as cs
from convscope._app import wire
from convscope._app.server import make_session
from convscope._app.session import Session


@pytest.fixture(scope="module")
def two() -> Iterator[TestClient]:
    """A server of two networks."""
    with client_of(Session(loaded(), other=Session(loaded(1)))) as client:
        wait(client)
        yield client


def picture() -> Image.Image:
    return Image.open(io.BytesIO(png()))


def arrays(body: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(body)) as found:  # never unpickled: that is numpy's default
        return {name: found[name] for name in found.files}


def finished(client: TestClient, job: str) -> dict[str, Any]:
    """A job's last words."""
    with client.stream("GET", f"/api/jobs/{job}/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    return json.loads(lines[-1][6:])  # type: ignore[no-any-return]


# Two networks


def test_the_second_network_answers_for_itself(two: TestClient) -> None:
    id = shown(two)
    for m, seed in ((0, 0), (1, 1)):
        expected = cs.feature_maps(loaded(seed), picture(), layers=["3"])["3"].values
        found = two.get(f"/api/inputs/{id}/maps/3?max_side=56&model={m}").content
        assert found == wire.maps_block(expected, 56)
        best = two.get(f"/api/inputs/{id}/predictions?model={m}").json()["predictions"][0]
        assert best["class"] == loaded(seed).predict(picture(), top=1)[0][0]
    assert two.get("/api/model").json()["other"]
    assert two.get("/api/model?model=1").json()["state"] == "ready"


def test_pictures_shown_before_it_was_loaded_are_not_lost() -> None:
    free = threading.Event()

    def slowly() -> cs.Model:
        free.wait(30)
        return loaded(1)

    with client_of(Session(loaded(), other=Session("slow", load_model=slowly))) as client:
        wait(client)
        ids = [shown(client, seed) for seed in range(3)]
        assert client.get(f"/api/inputs/{ids[0]}/maps/0?model=1").status_code == 503
        free.set()
        for _ in range(300):
            if client.get("/api/model?model=1").status_code == 200:
                break
            time.sleep(0.02)
        for id in ids:
            assert client.get(f"/api/inputs/{id}/maps/0?model=1").status_code == 200


def test_a_second_network_that_takes_other_pictures_says_so() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    many = cs.load(nn.Sequential(nn.Conv2d(5, 2, 3)).eval(), input=(5, 8, 8))
    with client_of(Session(loaded(), other=Session(many))) as client:
        wait(client)
        id = shown(client)
        assert client.get(f"/api/inputs/{id}/maps/0").status_code == 200
        answer = client.get(f"/api/inputs/{id}/maps/0?model=1")
        assert answer.status_code == 404
        assert "5" in answer.json()["detail"]


def test_a_second_network_that_fails_leaves_the_first_alone() -> None:
    def broken() -> cs.Model:
        raise SystemExit("no such weights")

    with client_of(Session(loaded(), other=Session("b", load_model=broken))) as client:
        wait(client)
        id = shown(client)
        assert client.get(f"/api/inputs/{id}/maps/0").status_code == 200
        assert "no such weights" in client.get("/api/model?model=1").json()["error"]


# Why


def test_attribution_of_a_unit_is_that_of_attribute(two: TestClient) -> None:
    pytest.importorskip("captum")
    id = shown(two)
    told = two.get(f"/api/inputs/{id}/attribution?method=gradient_x_input&layer=3&channel=5").json()
    found = cs.attribute(loaded(), picture(), "3:5", method="gradient_x_input")
    values = np.frombuffer(base64.b64decode(told["values"]), "<f4")
    np.testing.assert_allclose(values, found.maps[0].values.ravel(), rtol=1e-5, atol=1e-7)
    assert told["target"] == found.target == "3:5"
    assert told["probability"] is None


def test_a_slow_attribution_is_a_job_and_computed_once(
    two: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("captum")
    from convscope._app import analysis_api

    times: list[Any] = []
    real = analysis_api.attribute
    monkeypatch.setattr(
        analysis_api, "attribute", lambda *given, **named: times.append(1) or real(*given, **named)
    )
    id = shown(two, seed=9)
    asked = two.post(
        "/api/jobs", json={"kind": "attribute", "input": id, "method": "occlusion", "target": 2}
    )
    assert asked.status_code == 201
    last = finished(two, asked.json()["id"])
    assert last["state"] == "done"
    told = two.get(f"/api/inputs/{id}/attribution?method=occlusion&target=2").json()
    assert told["sentence"] == last["result"]["sentence"]
    assert len(times) == 1
    expected = (
        cs.attribute(loaded(), Image.open(io.BytesIO(png(9))), 2, method="occlusion").maps[0].values
    )
    found = arrays(two.get(f"/api/inputs/{id}/attribution.npz?method=occlusion&target=2").content)
    np.testing.assert_allclose(found["attribution"], expected, rtol=1e-5, atol=1e-7)
    assert len(times) == 1


def test_sensitivity_is_measured_on_demand(two: TestClient) -> None:
    asked = two.get("/api/sensitivity/3/channels/5").json()
    assert asked == {"measured": False, "dataset": "32 drawn shapes"}
    job = two.post("/api/jobs", json={"kind": "sensitivity", "layer": 3}).json()["id"]
    assert finished(two, job)["state"] == "done"
    told = two.get("/api/sensitivity/3/channels/5").json()
    expected = cs.sensitivity(loaded(), "shapes,count=32,size=32", "3", first=32)["3"]
    for name, value in expected.rows()[5].items():
        assert told[name] == value, name
    assert told["sentence"] == expected.sentence(5)
    assert not two.get("/api/sensitivity/0/channels/0").json()["measured"]


def test_an_attribution_is_cancelled(two: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("captum")
    from convscope._app import tasks

    reached, go_on = threading.Event(), threading.Event()
    real = tasks.count_passes

    def slowly(model: Any, on_pass: Any) -> Any:
        def passing(k: int) -> None:
            if k == 5:  # in the midst of it
                reached.set()
                go_on.wait(20)
            on_pass(k)

        return real(model, passing)

    monkeypatch.setattr(tasks, "count_passes", slowly)
    id = shown(two, seed=30)
    wish = {"kind": "attribute", "input": id, "method": "occlusion"}
    job = two.post("/api/jobs", json=wish).json()["id"]
    assert reached.wait(30)
    two.delete(f"/api/jobs/{job}")
    go_on.set()
    last = finished(two, job)
    assert (last["state"], last["message"]) == ("canceled", "")
    monkeypatch.setattr(tasks, "count_passes", real)
    again = two.post("/api/jobs", json=wish).json()["id"]
    assert again != job
    assert finished(two, again)["state"] == "done"


def test_a_sensitivity_job_is_cancelled(two: TestClient) -> None:
    model = loaded()
    with client_of(Session(model)) as client:
        wait(client)
        job = client.post("/api/jobs", json={"kind": "sensitivity", "layer": 0}).json()["id"]
        while client.get(f"/api/jobs/{job}").json()["state"] == "waiting":
            time.sleep(0.005)
        client.delete(f"/api/jobs/{job}")
        assert finished(client, job)["state"] in ("canceled", "done")
        id = shown(client)
        assert client.get(f"/api/inputs/{id}/maps/0?max_side=56").status_code == 200
    assert "activations" not in vars(model)


# A scan


def test_a_scan_is_the_one_that_scan_makes(photos: Path, tmp_path: Path) -> None:
    session = make_session(loaded(), tmp_path / "kept", data=str(photos))
    with client_of(session) as client:
        about = wait(client)
        assert about["atlas"] is None
        assert about["dataset"] == {"name": photos.name, "images": 24, "saved": True}
        assert str(photos.parent) not in json.dumps(about)
        job = client.post("/api/jobs", json={"kind": "scan"}).json()["id"]
        last = finished(client, job)
        assert last["state"] == "done"
        assert last["previews"] >= 1
        strip = Image.open(io.BytesIO(client.get(f"/api/jobs/{job}/image").content))
        assert strip.size == (8 * 96, 96)
        assert len(np.unique(np.asarray(strip).reshape(-1, 3), axis=0)) > 100
        assert client.get("/api/model").json()["atlas"]["images"] == 24
        assert client.get("/api/atlas/layers/0/channels/3").status_code == 200
        assert client.get("/api/atlas/health").json()["images"] == 24
        assert client.post("/api/jobs", json={"kind": "scan"}).json()["id"] == job
    expected = cs.scan(loaded(), photos, tmp_path / "expected")
    summary = "summary.safetensors"
    assert (tmp_path / "kept" / summary).read_bytes() == (expected.folder / summary).read_bytes()


def test_a_scan_that_was_stopped_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convscope._app import tasks

    def in_small_shards(*given: Any, **named: Any) -> Any:
        return cs.scan(*given, **named, shard=8, batch=4)

    monkeypatch.setattr(tasks, "scan", in_small_shards)
    session = make_session(loaded(), tmp_path / "kept", data=str(photos))
    with client_of(session) as client:
        wait(client)
        reached, go_on = threading.Event(), threading.Event()

        def slowly(data: Any, done: int) -> Image.Image:
            if done >= 12:
                reached.set()
                go_on.wait(20)
            return Image.new("RGB", (8, 8))

        monkeypatch.setattr(tasks, "_latest_images", slowly)
        monkeypatch.setattr("convscope._app.jobs._PREVIEW_INTERVAL", 0.0)
        job = client.post("/api/jobs", json={"kind": "scan"}).json()["id"]
        assert reached.wait(30)
        client.delete(f"/api/jobs/{job}")
        go_on.set()
        assert finished(client, job)["state"] == "canceled"
        assert client.get("/api/model").json()["atlas"] is None
        parts = list((tmp_path / "kept").glob("part-*"))
        assert len(parts) == 1  # what was finished is kept
        again = client.post("/api/jobs", json={"kind": "scan"}).json()["id"]
        assert again != job
        assert finished(client, again)["state"] == "done"
    expected = cs.scan(loaded(), photos, tmp_path / "expected", shard=8, batch=4)
    summary = "summary.safetensors"
    assert (tmp_path / "kept" / summary).read_bytes() == (expected.folder / summary).read_bytes()


def test_without_a_folder_a_scan_leaves_nothing_behind(photos: Path) -> None:
    session = make_session(loaded(), data=str(photos))
    with client_of(session) as client:
        wait(client)
        job = client.post("/api/jobs", json={"kind": "scan"}).json()["id"]
        assert finished(client, job)["state"] == "done"
        assert session.atlas
        folder = session.atlas.folder
        assert (folder / "manifest.json").exists()
    assert not folder.exists()


def test_an_atlas_of_something_else_is_not_overwritten(photos: Path, atlas: cs.Atlas) -> None:
    before = (atlas.folder / "manifest.json").read_bytes()
    with client_of(make_session(loaded(1), atlas.folder, data=str(photos))) as client:
        wait(client)
        job = client.post("/api/jobs", json={"kind": "scan"}).json()["id"]
        last = finished(client, job)
        assert last["state"] == "failed"
        assert "holds another scan" in last["message"]
    assert (atlas.folder / "manifest.json").read_bytes() == before


# Numbers to keep


def test_files_hold_what_feature_maps_computes(two: TestClient) -> None:
    id, other = shown(two), shown(two, seed=1)
    maps = cs.feature_maps(loaded(), picture(), layers=["0", "1", "3"])
    found = arrays(two.get(f"/api/inputs/{id}/maps/1.npz").content)
    np.testing.assert_array_equal(found["maps"], maps["1"].values)
    assert "noise.png" in str(found["about"])
    one = arrays(two.get(f"/api/inputs/{id}/maps/1.npz?channel=4").content)
    np.testing.assert_array_equal(one["maps"], maps["1"].values[4])
    pair = arrays(two.get(f"/api/inputs/{id}/pairs/0.npz?other_layer=1").content)
    np.testing.assert_array_equal(pair["difference"], maps["0"].values - maps["1"].values)
    unequal = arrays(two.get(f"/api/inputs/{id}/pairs/0.npz?other_layer=3").content)
    assert set(unequal) == {"about", "a", "b"}
    pictures = arrays(two.get(f"/api/inputs/{id}/pairs/0.npz?other={other}").content)
    theirs = cs.feature_maps(loaded(), Image.open(io.BytesIO(png(1))), layers=["0"])["0"].values
    np.testing.assert_array_equal(pictures["b"], theirs)
    models = arrays(two.get(f"/api/inputs/{id}/pairs/0.npz?model=1").content)
    theirs = cs.feature_maps(loaded(1), picture(), layers=["0"])["0"].values
    np.testing.assert_array_equal(models["b"], theirs)
    weights = arrays(two.get("/api/filters/3.npz").content)["weights"]
    np.testing.assert_array_equal(weights, loaded().weights("3"))


def test_images_stay_in_the_order_in_which_they_came(two: TestClient) -> None:
    ids = [shown(two, seed) for seed in (20, 21, 22)]
    two.get(f"/api/inputs/{ids[0]}/layers")
    listed = [one["id"] for one in two.get("/api/inputs").json()["inputs"]]
    assert [id for id in listed if id in ids] == ids
