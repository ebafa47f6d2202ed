"""The server under attack: foreign pages, paths, bombs, nonsense, crowds, and models that raise."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient
from torch import nn
from web_bench import HERE, client_of, loaded, network, png, shown, wait

import convscope as cs
from convscope._app import security, server
from convscope._app.asgi import make_app
from convscope._app.session import Session


def refused(answer: Any, status: int) -> str:
    """The detail of a problem as RFC 9457 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    return str(answer.json()["detail"])


# Other pages in the same browser


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "evil.com:8765",
        "127.0.0.1.evil.com",
        "localhost.evil.com:8765",
        "",
        "127.0.0.2",
        "[::1",
        "127.0.0.1@evil.com",
        "evil.com#127.0.0.1",
        "0.0.0.0:8765",
    ],
)
def test_a_name_that_was_bound_to_us_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/api/model", "/static/main.js"):
        refused(client.get(path, headers={"host": host}), 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:8765"])
def test_the_loopback_is_served(client: TestClient, host: str) -> None:
    assert client.get("/api/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "null",
        "http://127.0.0.1:3000",
        "http://localhost:8765",
        "file://",
        "http://127.0.0.1:8765.evil.com",
        "http://[",
        "https://127.0.0.1:8766",
    ],
)
def test_a_page_from_elsewhere_is_refused(client: TestClient, origin: str) -> None:
    headers = {"origin": origin}
    refused(client.post("/api/inputs", content=png(), headers=headers), 403)
    refused(client.post("/api/jobs", content=b"{}", headers=headers), 403)
    refused(client.get("/api/inputs", headers=headers), 403)


def test_our_own_page_is_served(client: TestClient) -> None:
    headers = {"origin": HERE, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.post("/api/inputs", content=png(), headers=headers).status_code == 201


def test_a_foreign_page_cannot_even_embed_our_pictures(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    refused(client.get("/api/atlas/images/0", headers=headers), 403)
    opened = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}  # a link to us
    assert client.get("/", headers=opened).status_code == 200
    refused(client.get("/api/inputs", headers=opened), 403)


def test_a_host_named_twice_is_refused(client: TestClient) -> None:
    pairs = [("host", "127.0.0.1:8765"), ("host", "evil.com")]
    refused(client.get("/api/model", headers=pairs), 403)


def test_a_reverse_proxy_may_be_allowed() -> None:
    with client_of(Session(loaded()), hosts=["lab.example"]) as client:
        headers = {"host": "lab.example", "origin": "https://lab.example"}
        assert client.get("/api/model", headers=headers).status_code in (200, 202)
        refused(client.get("/api/model", headers={"host": "other.example"}), 403)


# Paths

PATHS = [
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "....//etc/passwd",
    "/etc/passwd",
    "C:\\boot.ini",
    "file:///etc/passwd",
    "a%00b",
    "~root",
    "index.html/../../app.py",
    "app.py",
    "__init__.py",
    "-1",
    "99999999999999999999",
    "1e3",
    "٣",
    "",
    " ",
    "%",
]


@pytest.mark.parametrize("nasty", PATHS)
def test_no_parameter_is_a_path(client: TestClient, nasty: str) -> None:
    id = shown(client)
    places = [
        f"/static/{nasty}",
        f"/api/inputs/{nasty}/image",
        f"/api/inputs/{nasty}/maps/0",
        f"/api/inputs/{id}/maps/{nasty}",
        f"/api/inputs/{id}/receptive_fields/{nasty}",
        f"/api/inputs/{id}/values/{nasty}?channel=0",
        f"/api/inputs/{id}/attribution/{nasty}",
        f"/api/filters/{nasty}",
        f"/api/atlas/layers/{nasty}",
        f"/api/atlas/images/{nasty}",
        f"/api/atlas/layers/0/channels/{nasty}",
        f"/api/atlas/layers/{nasty}/icons",
        f"/api/atlas/layers/0/channels/{nasty}/sprite",
        f"/api/jobs/{nasty}",
        f"/api/jobs/{nasty}/image",
        f"/api/jobs/{nasty}/events",
        f"/api/inputs/{nasty}/maps/0.npz",
        f"/api/inputs/{id}/maps/{nasty}.npz",
        f"/api/inputs/{id}/pairs/{nasty}.npz",
        f"/api/filters/{nasty}.npz",
        f"/api/inputs/{nasty}/attribution.npz",
        f"/api/sensitivity/{nasty}/channels/0",
        f"/api/sensitivity/0/channels/{nasty}",
    ]
    lists = {"", " ", "-1"}
    for place in places:
        answer = client.get(place)
        assert b"root:" not in answer.content, place
        if nasty.strip() not in lists:
            assert answer.status_code in (400, 404, 422), (place, answer.status_code)
    queries = [
        (f"/api/inputs/{id}/image", "stage"),
        (f"/api/inputs/{id}/maps/0", "max_side"),
        (f"/api/inputs/{id}/maps/0", "channel"),
        (f"/api/inputs/{id}/values/0", "y"),
        (f"/api/inputs/{id}/attribution", "method"),
        (f"/api/inputs/{id}/attribution", "target"),
        ("/api/filters/0", "channel"),
        ("/api/atlas/images", "start"),
        ("/api/atlas/layers/0/channels/0/sprite", "list"),
        ("/api/atlas/layers/0/channels/0/sprite", "view"),
        ("/api/model", "model"),
        (f"/api/inputs/{id}/maps/0", "model"),
        (f"/api/inputs/{id}/layers", "model"),
        (f"/api/inputs/{id}/maps/0.npz", "channel"),
        (f"/api/inputs/{id}/pairs/0.npz", "other"),
        (f"/api/inputs/{id}/pairs/0.npz", "other_layer"),
        (f"/api/inputs/{id}/attribution.npz", "method"),
        (f"/api/inputs/{id}/attribution", "layer"),
    ]
    for place, name in queries:
        absent = _index(nasty, name) or name == "other"
        refused(client.get(place, params={name: nasty}), 404 if absent else 400)
    for name in ("demo", "atlas", "size"):
        if nasty or name != "demo":
            answer = client.post("/api/inputs", params={name: nasty}, content=png())
            assert answer.status_code in (400, 404), (name, answer.text)


def _index(text: str, name: str) -> bool:
    """Whether it is a whole number, so that only its size is wrong."""
    return text == "-1" and name in ("channel", "model", "other_layer")


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("target=3", 400, "3"),
        ("target=-1", 400, "-1"),
        ("target=999999999", 400, "999999999"),
        ("target=9999999999", 400, "is not an integer"),
        ("target=NaN", 400, "is not an integer"),
        ("target=1e400", 400, "is not an integer"),
        ("target=1&target=2", 200, ""),
        ("layer=3", 400, "A unit is"),
        ("channel=0", 400, "A unit is"),
        ("layer=99&channel=0", 404, "No layer 99"),
        ("layer=-1&channel=0", 404, "No layer -1"),
        ("layer=3&channel=8", 404, "No channel 8: there are 8"),
        ("layer=3&channel=-1", 404, "-1"),
        ("layer=3&channel=999999999", 404, "999999999"),
        ("layer=3&channel=1&target=1", 400, "not both"),
        ("method=gradcam%00", 400, "No method"),
        ("method=__class__", 400, "No method"),
        ("method=" + "a" * 4000, 400, "No method"),
    ],
)
def test_an_invalid_attribution_is_a_problem(
    client: TestClient, query: str, status: int, said: str
) -> None:
    pytest.importorskip("captum")
    id = shown(client)
    for place in ("attribution", "attribution.npz"):
        answer = client.get(f"/api/inputs/{id}/{place}?{query}")
        if status == 200:
            assert answer.status_code == 200
            continue
        detail = refused(answer, status)
        assert said in detail
        assert len(detail) < 400


def test_numbers_out_of_range_are_problems(client: TestClient) -> None:
    id = shown(client)
    for place, said in (
        ("sensitivity/3/channels/8", "No channel"),
        ("sensitivity/99/channels/0", "No layer 99"),
        (f"inputs/{id}/pairs/0.npz?other_layer=99", "No layer 99"),
        (f"inputs/{id}/pairs/0.npz?other_layer=-1", "No layer -1"),
        (f"inputs/{id}/pairs/0.npz?other_layer=3&channel=7", "No channel 7"),
        (f"inputs/{id}/pairs/0.npz?other=nobody", "No image 'nobody'"),
        (f"inputs/{id}/maps/0.npz?channel=6", "No channel 6"),
        ("filters/99.npz", "No layer 99"),
        ("filters/0.npz?channel=6", "No filter 6"),
        ("model?model=1", "No network 1"),
        ("layers?model=2", "No network 2"),
        (f"inputs/{id}/maps/0?model=1", "No network 1"),
    ):
        assert said in refused(client.get(f"/api/{place}"), 404), place
    assert "has no kernel" in refused(client.get("/api/filters/1.npz"), 404)


def test_no_request_says_what_is_scanned(client: TestClient, tmp_path: Any) -> None:
    """Neither by a field, nor by a query, nor by a name that looks like a dataset."""
    for wish in (
        {"kind": "scan"},
        {"kind": "scan", "data": str(tmp_path)},
        {"kind": "scan", "out": str(tmp_path)},
        {"kind": "scan", "layers": ["0"]},
        {"kind": "sensitivity", "layer": 0, "images": "/etc"},
        {"kind": "attribute", "input": "/etc/passwd"},
    ):
        answer = client.post("/api/jobs", params={"data": str(tmp_path)}, json=wish)
        assert answer.status_code in (400, 404), wish
    assert not list(tmp_path.iterdir())
    assert client.get("/api/model").json()["dataset"] is None


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["maximize", "attribute", "sensitivity", "scan"]),
    st.dictionaries(
        st.sampled_from(["layer", "channel", "input", "method", "target", "steps", "size", "x"]),
        st.one_of(
            st.floats(),
            st.integers(-(10**12), -1),
            st.integers(10**4, 10**12),
            st.booleans(),
            st.text(max_size=80),
            st.lists(st.integers(), max_size=2),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_job_is_made_of_nonsense(client: TestClient, kind: str, fields: dict[str, Any]) -> None:
    body = json.dumps({"kind": kind, **fields})  # NaN and infinities as Python writes them
    answer = client.post("/api/jobs", content=body.encode())
    assert answer.status_code in (400, 404), body
    assert len(refused(answer, answer.status_code)) < 400


def test_a_name_is_only_shown(client: TestClient) -> None:
    answer = client.post(
        "/api/inputs", params={"name": "../../etc/<script>\n\x00passwd"}, content=png(50)
    )
    assert answer.json()["name"] == "<script>passwd"


# What is sent


def test_a_decompression_bomb_is_not_opened(client: TestClient) -> None:
    """12,000 × 12,000 pixels of one color in half a megabyte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compress(bytes(12_001) * 12_000, 9)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">2I5B", 12_000, 12_000, 8, 0, 0, 0, 0)
    )
    bomb += chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(bomb) < 1 << 20
    began = time.monotonic()
    assert "50 million" in refused(client.post("/api/inputs", content=bomb), 415)
    huge = bomb.replace(struct.pack(">2I", 12_000, 12_000), struct.pack(">2I", 90_000, 90_000))
    refused(client.post("/api/inputs", content=huge), 415)
    assert time.monotonic() - began < 5


def test_an_upload_of_200_mb_is_refused_early(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1 << 20
            yield bytes(1 << 20)

    assert "32 MB" in refused(client.post("/api/inputs", content=endless()), 413)
    told = client.post("/api/inputs", content=b"x", headers={"content-length": str(200 << 20)})
    refused(told, 413)


def test_nothing_more_is_read_than_is_taken() -> None:
    """The body is a stream: what comes after the limit is never asked for."""
    asked = 0

    class Sender:
        headers: dict[str, str] = {}  # noqa: RUF012

        async def stream(self) -> Any:
            nonlocal asked
            while True:
                asked += 1
                yield bytes(1 << 20)

    with pytest.raises(security.TooLarge, match="32 MB"):
        asyncio.run(security.read_body(Sender()))
    assert asked == 33


def test_a_pickle_is_not_opened(client: TestClient, tmp_path: Any) -> None:
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> Any:
            return (marker.write_text, ("x",))

    stream = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, stream)
    for data in (pickle.dumps(Trap()), stream.getvalue()):
        for name in ("cat.png", "model.pt"):
            answer = client.post(f"/api/inputs?name={name}", content=data)
            assert "is not an image" in refused(answer, 415)
        refused(client.post("/api/jobs", content=data), 400)
    assert not marker.exists()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300), st.integers(0, 60), st.booleans())
def test_damaged_pictures_and_nonsense_are_problems(
    client: TestClient, noise: bytes, at: int, cut: bool
) -> None:
    whole = png(3)
    data = whole[: at * 20] if cut else whole[:at] + noise + whole[at + len(noise) :]
    answer = client.post("/api/inputs", content=data)
    assert answer.status_code in (201, 400, 415)
    asked = client.post("/api/jobs", content=noise)
    assert asked.status_code == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_problems(client: TestClient, method: str) -> None:
    refused(client.request(method, "/api/inputs"), 405)


def test_an_unknown_address_is_a_problem(client: TestClient) -> None:
    refused(client.get("/api/nothing"), 404)
    refused(client.get("/docs"), 404)


# Crowds, and those who leave


def test_200_requests_at_once_get_one_pass() -> None:
    passes = 0

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor) -> Any:
            nonlocal passes
            passes += 1
            return self.net(x)

    model = cs.load(Counting(), preprocess=cs.Preprocess(size=(24, 32)), input=(3, 24, 32))
    with client_of(Session(model)) as client:
        wait(client)
        client.get(
            f"/api/inputs/{shown(client, 1)}/maps/1?max_side=56"
        )  # each layer is checked once
        id = shown(client)
        before = passes
        with ThreadPoolExecutor(50) as many:
            answers = list(
                many.map(
                    lambda k: client.get(f"/api/inputs/{id}/maps/{1 + k % 8}?max_side=56"),
                    range(200),
                )
            )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 7  # flattening changes nothing
        assert passes == before + 1


def test_two_browsers_at_once_see_their_own_pictures(client: TestClient) -> None:
    def visit(seed: int) -> bytes:
        id = shown(client, seed)
        return client.get(f"/api/inputs/{id}/maps/0?max_side=56").content

    alone = [visit(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as both:
        assert list(both.map(visit, range(8))) == alone


@pytest.fixture
def address(atlas: cs.Atlas) -> Iterator[tuple[str, int]]:
    """A real server on a port of its own."""
    uvicorn = pytest.importorskip("uvicorn")
    listening = server._listen(0)
    config = uvicorn.Config(make_app(Session(loaded(), atlas)), log_level="critical")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        running.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()


def ask(address: tuple[str, int], head: str, body: bytes = b"") -> socket.socket:
    there = socket.create_connection(address, 20)
    host = f"Host: 127.0.0.1:{address[1]}\r\n"
    there.sendall(f"{head} HTTP/1.1\r\n{host}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return there


def whole(address: tuple[str, int], head: str, body: bytes = b"") -> Any:
    with ask(address, head, body) as there, there.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, stream.read(length)


def ready(address: tuple[str, int]) -> str:
    """Wait for the model; the id of a picture."""
    for _ in range(300):
        if whole(address, "GET /api/model")[0] == 200:
            break
        time.sleep(0.05)
    status, body = whole(address, "POST /api/inputs", png())
    assert status == 201
    return str(json.loads(body)["id"])


def test_clients_that_hang_up_harm_nobody(address: tuple[str, int]) -> None:
    id = ready(address)
    wish = json.dumps({"kind": "maximize", "layer": 3, "channel": 1, "steps": 300}).encode()
    job = json.loads(whole(address, "POST /api/jobs", wish)[1])["id"]
    for _ in range(10):
        with ask(address, f"GET /api/jobs/{job}/events") as there:
            assert there.recv(20).startswith(b"HTTP/1.1 200")  # and gone, in mid-stream
        with ask(address, f"GET /api/inputs/{id}/maps/0?max_side=56"):
            pass
        half = socket.create_connection(address, 20)  # and gone, in mid-upload
        half.sendall(
            b"POST /api/inputs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n\r\nx"
        )
        half.close()
    assert whole(address, f"GET /api/inputs/{id}/maps/0?max_side=56")[0] == 200
    assert whole(address, f"DELETE /api/jobs/{job}")[0] == 200


def test_it_listens_on_the_loopback_alone(address: tuple[str, int]) -> None:
    assert address[0] == "127.0.0.1"
    with pytest.raises(cs.ConvscopeError, match=f"Port {address[1]} of 127.0.0.1 is taken"):
        server._listen(address[1])


def test_a_raw_traversal_reaches_no_file(address: tuple[str, int]) -> None:
    for path in ("/static/../app.py", "/static/..%2fapp.py", "//etc/passwd", "/../../etc/passwd"):
        status, body = whole(address, f"GET {path}")
        assert status == 404
        assert b"root:" not in body
        assert b"import" not in body


def test_ctrl_c_ends_it_in_the_middle_of_a_job() -> None:
    """A process of its own: a stream is open and the network computes when it is told to end."""
    code = "import convscope as cs; cs.serve('demo', port=0)"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    there = ("127.0.0.1", port)
    ready(there)
    wish = {"kind": "maximize", "layer": 33, "channel": 2, "steps": 2000, "size": 128}
    job = json.loads(whole(there, "POST /api/jobs", json.dumps(wish).encode())[1])["id"]
    with ask(there, f"GET /api/jobs/{job}/events") as stream:
        assert stream.recv(20).startswith(b"HTTP/1.1 200")
        while not json.loads(whole(there, f"GET /api/jobs/{job}")[1])["previews"]:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_ctrl_c_ends_it_while_networks_are_being_loaded() -> None:
    code = "import convscope as cs; cs.serve('demo', other='demo', port=0)"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    assert whole(("127.0.0.1", port), "GET /api/model")[0] in (200, 202)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


# Models that misbehave


class Moody(nn.Module):
    """Does what it is told once it has been loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.mood = network(), None

    def forward(self, x: torch.Tensor) -> Any:
        if self.mood is not None:
            raise self.mood
        return self.net(x)


@pytest.mark.parametrize(
    "mood",
    [
        ValueError("boom"),
        SystemExit(3),
        MemoryError(),
        RecursionError("deep"),
        KeyboardInterrupt(),
        type("Own", (BaseException,), {})("own"),
    ],
)
def test_a_model_that_raises_is_a_problem_and_no_end(mood: BaseException) -> None:
    module = Moody()
    model = cs.load(module, preprocess=cs.Preprocess(size=(24, 32)), input=(3, 24, 32))
    with client_of(Session(model)) as client:
        wait(client)
        id = shown(client)
        module.mood = mood
        for path in ("maps/1?max_side=56", "layers", "predictions"):
            answer = client.get(f"/api/inputs/{id}/{path}")
            assert answer.status_code in (200, 422, 500, 507)
            if answer.status_code == 200:  # a classifier that cannot be asked says why
                assert answer.json()["note"]
        wish = {"kind": "maximize", "layer": 4, "channel": 1, "steps": 4}
        job = client.post("/api/jobs", json=wish).json()["id"]
        for _ in range(400):
            told = client.get(f"/api/jobs/{job}").json()
            if told["state"] in ("failed", "done"):
                break
            time.sleep(0.02)
        assert told["state"] == "failed"
        assert "\n" not in told["message"]
        module.mood = None
        assert client.get(f"/api/inputs/{id}/maps/1?max_side=56").status_code == 200
        again = client.post("/api/jobs", json={**wish, "seed": 1}).json()["id"]
        with client.stream("GET", f"/api/jobs/{again}/events") as stream:
            assert json.loads(list(stream.iter_lines())[-2][6:])["state"] == "done"


def test_a_picture_of_another_size_than_the_network_bears_is_a_problem() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 2, 3), nn.Linear(2 * 22 * 30, 3)

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(self.conv(x).flatten(1))

    torch.manual_seed(0)
    model = cs.load(Fixed(), preprocess=cs.Preprocess(size=(24, 32)), input=(3, 24, 32))
    with client_of(Session(model)) as client:
        wait(client)
        asked = client.post("/api/inputs?size=224", content=png())
        assert asked.status_code == 201
        large = asked.json()["id"]
        refused(client.get(f"/api/inputs/{large}/maps/2?max_side=56"), 422)
        assert client.get(f"/api/inputs/{large}/maps/0?max_side=56").status_code == 200
        assert client.get(f"/api/inputs/{shown(client)}/maps/2?max_side=56").status_code == 200


def test_a_gray_network_takes_a_color_picture() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 2)).eval()
    model = cs.load(net, preprocess=cs.Preprocess(size=(8, 8)), input=(1, 8, 8))
    with client_of(Session(model)) as client:
        wait(client)
        id = shown(client)
        seen = client.get(f"/api/inputs/{id}/image?stage=preprocessed").content
        assert Image.open(io.BytesIO(seen)).size == (8, 8)
