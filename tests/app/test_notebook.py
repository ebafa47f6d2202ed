"""In a notebook: inside a running event loop, and with a server that may or may not be reached."""

from __future__ import annotations

import asyncio
import functools
import html
import http.server
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import visit
from web_bench import loaded

import convscope as cs
from convscope._app import AppServer, LivePage
from convscope._app.server import start

pytest.importorskip("uvicorn")


def told(address: str) -> Any:
    with urlopen(f"{address}api/model") as answer:
        return json.load(answer)


def test_serve_in_a_running_event_loop_does_not_wait() -> None:
    async def cell() -> AppServer:
        running = cs.serve(loaded(), port=0, on_ready=lambda address: None)
        assert isinstance(running, AppServer)
        # the loop is free, and the server answers from a thread of its own
        for _ in range(200):
            if (await asyncio.to_thread(told, running.address))["state"] == "ready":
                return running
            await asyncio.sleep(0.02)
        raise AssertionError("the model is loaded for ever")

    running = asyncio.run(cell())
    frame = running._repr_html_()
    assert f'<iframe src="{running.address}"' in frame
    assert "running" in repr(running)
    running.close()
    running.close()
    assert "stopped" in repr(running)
    with pytest.raises(URLError):
        told(running.address)


def test_the_logging_of_others_is_left_alone() -> None:
    """A handler that closes its stream, as absl's does, must not be closed."""
    closed: list[bool] = []

    class Theirs(logging.Handler):
        def close(self) -> None:
            closed.append(True)
            super().close()

    handler = Theirs()
    logging.getLogger().addHandler(handler)
    try:
        with start(loaded()):
            assert handler in logging.getLogger().handlers
        assert not closed
    finally:
        logging.getLogger().removeHandler(handler)


def test_a_server_beside_a_page_has_the_same_images(photos: Path) -> None:
    made = cs.show(loaded(), str(photos / "dark/1.png"), live=True)
    assert isinstance(made, LivePage)
    try:
        assert told(made.address)["live"]
        with urlopen(f"{made.address}api/inputs") as answer:
            (slide,) = json.load(answer)["inputs"]
        assert slide["name"] == "1.png"
        drawn = made._repr_html_()
        source = re.search(r'srcdoc="([^"]*)"', drawn)
        assert source
        assert html.unescape(source[1]) == made.page.html  # what a browser elsewhere is left with
        assert f'fetch("{made.address}" + "api/model"' in drawn
    finally:
        made.close()


def test_a_browser_takes_the_server_where_it_reaches_it(chromium, photos, tmp_path) -> None:
    """As a notebook has it: a page of another origin with the result in it."""
    made = cs.show(loaded(), str(photos / "dark/1.png"), live=True)
    assert isinstance(made, LivePage)
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>n</title>{made._repr_html_()}")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    notebook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=notebook.serve_forever, daemon=True).start()
    address = f"http://localhost:{notebook.server_address[1]}/notebook.html"
    context = chromium.new_context()
    heard: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.goto(address)
        visit.until(page, "!!document.querySelector('iframe').src")
        page.wait_for_timeout(200)
        frame = page.frame(url=f"{made.address}**")
        assert frame is not None
        frame.wait_for_selector("#choose")  # live: a picture can be chosen
        made.close()
        page.goto(address)
        page.wait_for_timeout(500)
        assert page.evaluate("document.querySelector('iframe').src") == ""
        inner = page.frames[1]
        inner.wait_for_selector("html[data-ready]", state="attached")
        assert "export" in inner.inner_text("#input-panel")
        inner.click("#tree a[title='1']")  # it has no address of its own, and yet goes places
        inner.wait_for_selector("a.cell")
        inner.click("a.cell[data-k='3']")
        inner.wait_for_selector("#map")
        inner.press("#map", "ArrowUp")
        inner.wait_for_selector("#value")
        assert inner.inner_text("#value").startswith("≈")
        assert page.url == address
        assert not heard
    finally:
        context.close()
        made.close()
        notebook.shutdown()
        notebook.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *told: Any) -> None:
        """Say nothing."""


WORKER = """
    import io, json, threading
    import numpy as np
    import keras
    from PIL import Image
    from starlette.testclient import TestClient
    import convscope as cs
    from convscope._app.asgi import make_app
    from convscope._app.session import Session

    assert keras.backend.backend() == {backend!r}
    keras.utils.set_random_seed(0)
    network = keras.Sequential([
        keras.layers.Input((24, 32, 3)),
        keras.layers.Conv2D(5, 3, activation="relu", name="first"),
        keras.layers.Conv2D(4, 3, name="second"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(3, name="last"),
    ])
    model = cs.load(network, preprocess=cs.Preprocess(size=(24, 32)))
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(noise).save(stream, "png")
    paths = [layer.path for layer in model.layers]
    expected = cs.feature_maps(model, Image.fromarray(noise), paths)["second"].values
    with TestClient(make_app(Session(network, load_model=lambda: model)),
                    base_url="http://127.0.0.1") as client:
        while client.get("/api/model").status_code == 202:
            pass
        id = client.post("/api/inputs", content=stream.getvalue()).json()["id"]
        got = client.get(f"/api/inputs/{{id}}/maps/{{paths.index('second')}}.npz")
        assert got.status_code == 200, got.text
        found = np.load(io.BytesIO(got.content))["maps"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        wish = {{"kind": "maximize", "layer": paths.index("second"), "channel": 1, "steps": 3}}
        job = client.post("/api/jobs", json=wish).json()["id"]
        with client.stream("GET", f"/api/jobs/{{job}}/events") as events:
            last = [line for line in events.iter_lines() if line.startswith("data: ")][-1]
        assert json.loads(last[6:])["state"] == "done", last
        why = client.get(f"/api/inputs/{{id}}/attribution?method=gradient_x_input&target=1")
        assert why.status_code == 200, why.text
    print("well")
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_keras_on_another_backend_answers_from_the_servers_threads(
    backend: str, tmp_path: Path
) -> None:
    """A process of its own: Keras takes its backend once."""
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    pytest.importorskip("captum")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(WORKER.format(backend=backend)))
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert done.stdout.strip().endswith("well"), done.stdout[-500:] + done.stderr[-3000:]
