"""The server's answers: equal to the library's own, and told as the contract says."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from web_bench import HERE, client_of, loaded, png, shown, wait

import convscope as cs
from convscope._app import wire
from convscope._app.session import Session


def floats(block: bytes) -> np.ndarray:
    """CSF1."""
    magic, *shape, _ = struct.unpack_from("<4s5I", block)
    assert magic == b"CSF1"
    return np.frombuffer(block, "<f4", offset=24).reshape(shape)


def reference() -> Any:
    model = loaded()
    return cs.feature_maps(model, Image.open(io.BytesIO(png())), [la.path for la in model.layers])


def test_the_first_answer_does_not_wait_for_the_model() -> None:
    free = threading.Event()

    def slowly() -> cs.Model:
        free.wait(30)
        return loaded()

    with client_of(Session("slow", load_model=slowly)) as client:
        answer = client.get("/api/model")
        assert (answer.status_code, answer.json()["state"]) == (202, "loading")
        assert client.get("/").status_code == 200
        later = client.get("/api/layers")
        assert later.status_code == 503
        assert later.headers["retry-after"] == "1"
        assert client.post("/api/inputs", content=png()).status_code == 503
        free.set()
        assert wait(client)["live"]


def test_a_model_that_cannot_be_loaded_is_told(atlas: cs.Atlas) -> None:
    def broken() -> cs.Model:
        raise SystemExit("no such weights")

    with client_of(Session("broken", load_model=broken)) as client:
        assert "no such weights" in wait(client, "failed")["error"]
        assert client.get("/api/layers").json()["detail"].startswith("The model could not be")
    with client_of(Session("broken", atlas, load_model=broken)) as client:
        wait(client, "failed")
        paths = [layer["path"] for layer in client.get("/api/layers").json()["layers"]]
        assert paths == ["0", "1", "4"]


def test_an_atlas_needs_no_model(atlas: cs.Atlas) -> None:
    with client_of(Session(None, atlas)) as client:
        about = wait(client, "none")
        assert not about["live"]
        assert about["atlas"]["images"] == 24
        assert client.get("/api/atlas/layers/1/channels/2").json()["maximum"] == 0
        assert client.post("/api/inputs", content=png()).status_code == 503


def test_layers_are_those_of_the_model(client: TestClient) -> None:
    listed = client.get("/api/layers").json()["layers"]
    model = loaded()
    assert [la["path"] for la in listed] == [la.path for la in model.layers]
    assert [la["index"] for la in listed] == list(range(len(listed)))
    assert listed[0] == {
        "index": 0,
        "path": "0",
        "kind": "Conv2d",
        "shape": [6, 24, 32],
        "depth": 0,
        "container": False,
        "function": False,
        "families": ["conv"],
        "parameters": 168,
        "has_maps": True,
        "refusal": "",
        "has_filters": True,
        "in_atlas": True,
        "receptive_field": "3×3, stride 1",
    }


@pytest.mark.parametrize("path", ["0", "1", "3", "7"])
def test_exact_values_are_those_of_feature_maps(client: TestClient, path: str) -> None:
    """``1`` writes into ``0``'s result: both must be what each of them computed."""
    expected = reference()[path].values
    index, id = int(path), shown(client)
    for channel in range(len(expected)):
        found = floats(client.get(f"/api/inputs/{id}/values/{index}?channel={channel}").content)
        np.testing.assert_array_equal(found[0, 0], expected[channel])
    y, x = expected.shape[1] - 1, expected.shape[2] // 2
    found = floats(client.get(f"/api/inputs/{id}/values/{index}?y={y}&x={x}").content)
    np.testing.assert_array_equal(found[0, :, 0, 0], expected[:, y, x])


def test_maps_are_those_of_feature_maps_in_8_bits(client: TestClient) -> None:
    id, expected = shown(client), reference()["1"].values
    answer = client.get(f"/api/inputs/{id}/maps/1?max_side=56")
    assert answer.content == wire.maps_block(expected, 56)
    state = np.frombuffer(answer.content, "u1", 6, 24 + 72)
    assert state[2] == wire.ZERO  # the planted dead channel
    again = client.get(
        f"/api/inputs/{id}/maps/1?max_side=56", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    one = client.get(f"/api/inputs/{id}/maps/1?max_side=0&channel=4").content
    assert one == wire.maps_block(expected[4:5])


def test_every_layer_in_brief(client: TestClient) -> None:
    id, expected = shown(client), reference()
    told = client.get(f"/api/inputs/{id}/layers").json()["layers"]
    for one, maps in zip(told, expected.values(), strict=True):
        assert one["shape"] == list(maps.values.shape)
        zero = int((maps.values == 0).all((1, 2)).sum())
        assert one["inactive"] == zero
        assert one["maximum"] == pytest.approx(float(maps.values.max()))
    assert told[1]["inactive"] >= 1
    magic, count = struct.unpack_from("<4sI", client.get(f"/api/inputs/{id}/thumbnails").content)
    assert (magic, count) == (b"CST1", len(told))


def test_receptive_fields_are_those_of_the_model(client: TestClient) -> None:
    id, fields = shown(client), loaded().receptive_fields((24, 32))
    for index, (_, field) in enumerate(fields.items()):
        told = client.get(f"/api/inputs/{id}/receptive_fields/{index}").json()
        assert told["rows"] == field.local_rows.tolist()
        assert told["columns"] == field.local_columns.tolist()
        assert told["input_size"] == [24, 32]


def test_images_come_back(client: TestClient) -> None:
    id = shown(client)
    about = client.get(f"/api/inputs/{id}").json()
    assert (about["original_size"], about["input_size"]) == ([30, 40], [24, 32])
    seen = Image.open(io.BytesIO(client.get(f"/api/inputs/{id}/image?stage=preprocessed").content))
    expected = loaded().prepare(Image.open(io.BytesIO(png())))
    np.testing.assert_array_equal(np.asarray(seen), loaded().preprocessed(expected)[0])
    original = Image.open(io.BytesIO(client.get(f"/api/inputs/{id}/image?stage=original").content))
    np.testing.assert_array_equal(np.asarray(original), Image.open(io.BytesIO(png())))


def test_the_same_image_twice_is_one(client: TestClient) -> None:
    assert shown(client) == shown(client) != shown(client, seed=1)


def test_predictions_are_those_of_the_model(client: TestClient) -> None:
    id = shown(client)
    told = client.get(f"/api/inputs/{id}/predictions").json()["predictions"]
    expected = loaded().predict(Image.open(io.BytesIO(png())))
    assert [(one["class"], pytest.approx(one["probability"])) for one in told] == expected
    assert [["cat", "dog", "cow"][one["index"]] for one in told] == [name for name, _ in expected]


def test_kernels_are_exact(client: TestClient) -> None:
    answer = client.get("/api/filters/0")
    np.testing.assert_array_equal(floats(answer.content), loaded().weights("0"))
    assert struct.unpack_from("<I", answer.content, 20) == (wire.COLOR,)
    one = client.get("/api/filters/3?channel=5").content
    np.testing.assert_array_equal(floats(one)[0], loaded().weights("3")[5])
    assert client.get("/api/filters/1").status_code == 422


def test_attribution_is_that_of_attribute(client: TestClient) -> None:
    pytest.importorskip("captum")
    id = shown(client)
    told = client.get(f"/api/inputs/{id}/attribution?method=gradcam&target=1").json()
    found = cs.attribute(loaded(), Image.open(io.BytesIO(png())), 1, method="gradcam").maps[0]
    values = np.frombuffer(base64.b64decode(told["values"]), "<f4")
    np.testing.assert_allclose(values, found.values.ravel(), rtol=1e-5, atol=1e-7)
    assert told["target"] == "dog"


def test_channel_attribution_is_gradient_times_activation(client: TestClient) -> None:
    pytest.importorskip("captum")
    id, model = shown(client), loaded()
    told = client.get(f"/api/inputs/{id}/attribution/4?target=1").json()
    found = model.activations(Image.open(io.BytesIO(png())), ["4", "7"], grad=True)
    gradient = torch.autograd.grad(found["7"][0, 1], found["4"])[0]
    expected = (gradient * found["4"])[0].sum((1, 2)).detach().numpy()
    np.testing.assert_allclose(told["channels"], expected, rtol=1e-4, atol=1e-6)


def test_the_atlas_is_sent_as_it_is(client: TestClient, atlas: cs.Atlas) -> None:
    layer = client.get("/api/atlas/layers/1").json()
    dead = np.flatnonzero(atlas.layer("1").maximum == 0).tolist()
    assert 2 in dead
    assert layer["dead"] == dead
    np.testing.assert_allclose(layer["mean"], atlas.layer("1").mean)
    unit = client.get("/api/atlas/layers/1/channels/3").json()
    best = atlas["1:3"].top()
    told = unit["exemplars"]["top.mean"]["exemplars"]
    assert [(one["id"], one["score"]) for one in told] == [(one.id, one.score) for one in best]
    assert [tuple(one["crop"]) for one in told] == [one.crop_box for one in best]
    assert sum(unit["histogram"]["counts"]) == atlas.layer("1").histogram[3].sum()
    sprite = client.get("/api/atlas/layers/1/channels/3/sprite?list=top.mean&view=crop")
    assert Image.open(io.BytesIO(sprite.content)).size == (112 * len(best), 112)
    icons = client.get("/api/atlas/layers/1/icons")
    assert Image.open(io.BytesIO(icons.content)).size == (32 * 48, 48)
    assert client.get("/api/atlas/layers/3").status_code == 404
    found = client.get("/api/atlas/health").json()
    assert found["counts"]["dead"] >= 2 * len(dead)  # the convolution's, and the ReLU's
    page = client.get("/api/atlas/images?start=0&count=5").json()
    assert page["total"] >= 5
    number = page["images"][0]["index"]
    assert client.get(f"/api/atlas/images/{number}").headers["content-type"].startswith("image/")
    assert client.post(f"/api/inputs?atlas={number}").status_code == 201


def test_less_memory_than_a_pass_takes_gives_the_same_numbers() -> None:
    session = Session(loaded(), cache_bytes=20_000)
    with client_of(session) as client:
        wait(client)
        id, expected = shown(client), reference()
        for index, maps in enumerate(expected.values()):
            answer = client.get(f"/api/inputs/{id}/maps/{index}?max_side=56")
            assert answer.content == wire.maps_block(maps.values, 56)
        assert client.get(f"/api/inputs/{id}/layers").status_code == 200
        largest = max(maps.values.nbytes for maps in expected.values())
        assert session.activations.bytes <= max(20_000, largest)


def test_memory_stays_within_its_limit_over_many_images() -> None:
    session = Session(loaded(), cache_bytes=300_000)
    with client_of(session) as client:
        wait(client)
        ids = [shown(client, seed) for seed in range(70)]
        for id in ids[-20:]:
            assert client.get(f"/api/inputs/{id}/maps/0?max_side=56").status_code == 200
            assert session.activations.bytes <= 300_000
        gone = client.get(f"/api/inputs/{ids[0]}/maps/0?max_side=56")
        assert gone.status_code == 404
        assert "Upload it again" in gone.json()["detail"]


def events(client: TestClient, job: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/api/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines]


def ask(client: TestClient, **wish: Any) -> Any:
    return client.post("/api/jobs", json={"kind": "maximize", **wish})


def test_a_job_computes_the_image_of_maximize(client: TestClient) -> None:
    asked = ask(client, layer=3, channel=1, steps=12, seed=3)
    assert asked.status_code == 201
    told = events(client, asked.json()["id"])
    assert told[-1]["state"] == "done"
    assert told[-1]["done"] == 12
    picture = client.get(f"/api/jobs/{asked.json()['id']}/image").content
    expected = cs.maximize(loaded(), "3:1", steps=12, seed=3)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), expected.image)
    assert told[-1]["result"]["activation"] == pytest.approx(expected.activation)
    again = ask(client, layer=3, channel=1, steps=12, seed=3)
    assert (again.status_code, again.json()["id"]) == (200, asked.json()["id"])


def test_a_job_is_canceled_with_its_preview_kept(client: TestClient) -> None:
    job = ask(client, layer=3, channel=2, steps=2048, size=64).json()["id"]
    while not client.get(f"/api/jobs/{job}").json()["previews"]:
        time.sleep(0.02)
    id = shown(client)  # meanwhile the microscope works
    assert client.get(f"/api/inputs/{id}/maps/0?max_side=56").status_code == 200
    assert client.delete(f"/api/jobs/{job}").status_code == 200
    assert events(client, job)[-1]["state"] == "canceled"
    assert client.get(f"/api/jobs/{job}/image").content.startswith(b"\x89PNG")


def test_only_so_many_jobs_wait(client: TestClient) -> None:
    wishes = [ask(client, layer=3, channel=0, steps=2048, size=64, seed=k) for k in range(12)]
    codes = [one.status_code for one in wishes]
    assert codes.count(429) in (2, 3)
    assert "Cancel one" in wishes[-1].json()["detail"]
    for one in wishes:
        if one.status_code == 201:
            client.delete(f"/api/jobs/{one.json()['id']}")
    states = {job["state"] for job in client.get("/api/jobs").json()["jobs"][-9:]}
    assert states <= {"canceled", "running", "done"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"[" * 60000, "not JSON"),
        (b"[]", 'A job is {"kind"'),
        (b'{"kind":"scan","dataset":"/etc"}', "'dataset' of a job"),
        (b'{"kind":"scan"}', "No dataset was named. Start it with --data"),
        (b'{"kind":"demolish"}', 'A job is {"kind"'),
        (b'{"kind":["scan"]}', 'A job is {"kind"'),
        (b'{"kind":"sensitivity","layer":1e400}', "'layer' of a job"),
        (b'{"kind":"sensitivity","layer":99999999999}', "'layer' of a job"),
        (b'{"kind":"sensitivity","layer":-1}', "No layer -1"),
        (b'{"kind":"attribute"}', "A job of this kind needs input"),
        (b'{"kind":"attribute","input":"../etc"}', "No image '../etc' here"),
        (b'{"kind":"attribute","input":7}', "'input' of a job"),
        (b'{"kind":"attribute","input":"a","target":NaN}', "'target' of a job"),
        (b'{"kind":"attribute","input":"a","layer":1}', "A unit is a layer and a channel"),
        (b'{"kind":"maximize"}', "needs a layer"),
        (b'{"kind":"maximize","layer":"0","channel":0}', "'layer' of a job"),
        (b'{"kind":"maximize","layer":0,"channel":true}', "'channel' of a job"),
        (b'{"kind":"maximize","layer":0,"channel":0,"path":"/etc"}', "'path' of a job"),
        (b'{"kind":"maximize","layer":0,"channel":0,"steps":1e9}', "'steps' of a job"),
        (b'{"kind":"maximize","layer":0,"channel":0,"steps":99999}', "steps=99999 is out of range"),
        (b'{"kind":"maximize","layer":0,"channel":0,"size":100000}', "size=100000 is out of range"),
        (b'{"kind":"maximize","layer":0,"channel":6}', "No channel 6 in '0'"),
        (b'{"kind":"maximize","layer":99,"channel":0}', "No layer 99"),
        (b'{"kind":"maximize","layer":-1,"channel":0}', "No layer -1"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_an_invalid_job_is_a_problem(client: TestClient, body: bytes, said: str) -> None:
    answer = client.post("/api/jobs", content=body)
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert set(answer.json()) == {"type", "title", "status", "detail"}


def test_the_page_holds_its_scripts_to_a_policy(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self' 'sha256-" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    assert 'src="/' not in answer.text
    assert 'href="/' not in answer.text
    assert HERE not in answer.text
