"""A visitor: a real browser, in front of a real server, that hears every complaint of the page."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

CHROMIUM = os.environ.get("CONVSCOPE_CHROMIUM") or shutil.which("chromium")
DESK, PHONE = (1440, 900), (390, 844)


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; skips where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the path: set CONVSCOPE_CHROMIUM to one")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an app that a server of its own serves on a free port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(500):
        if server.started:
            break
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@contextmanager
def page(
    browser: Any, size: tuple[int, int] = DESK, theme: str = "light", **options: Any
) -> Iterator[Any]:
    """A page whose console stays silent: any message in it fails the test."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, **options
    )
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    heard: list[str] = []
    opened.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: heard.append(f"error: {error}"))
    yield opened
    context.close()
    assert not heard, heard


def put(address: str, path: Path) -> dict[str, Any]:
    """Show a server a picture, as soon as its model is loaded."""
    name = quote("-".join(path.parts[-2:]))
    for _ in range(100):
        try:
            request = Request(f"{address}api/inputs?name={name}", path.read_bytes(), method="POST")
            with urlopen(request) as answer:
                return json.load(answer)  # type: ignore[no-any-return]
        except OSError:  # still loading
            time.sleep(0.1)
    raise AssertionError("the model is loaded for ever")


def of(view: str, shown: list[dict[str, Any]]) -> str:
    """A view of the first picture (compared with the second)."""
    joint = "&" if "?" in view else "?"
    other = f"&b={shown[1]['id']}" if "compare" in view else ""
    return f"{view}{joint}in={shown[0]['id']}{other}"


def settled(page: Any) -> None:
    """Wait until the screen that the address names stands, with all that it asked for."""
    page.wait_for_selector("html[data-ready]")
    page.wait_for_load_state("networkidle")
    until(page, "!document.querySelector('main .busy')")


def until(page: Any, condition: str) -> None:
    """Wait for a condition: Playwright's own way is an eval, which the page forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")


def open_view(page: Any, address: str, view: str = "") -> None:
    page.goto("about:blank")
    page.goto(address + view)
    settled(page)


def violations(page: Any) -> list[str]:
    """What axe has against the page; skips where axe is not installed."""
    package = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    source = Path(package.__file__).with_name("axe.min.js").read_text()
    # evaluated, not inserted as a script: the page's policy forbids scripts of others
    page.evaluate(source)
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:150]} {[a['message'] for a in node['any']]}"
        for one in found
        for node in one["nodes"][:3]
    ]


def pixels(page: Any, selector: str) -> Any:
    """The RGBA values of a canvas, ``(height, width, 4)``."""
    import numpy as np

    width, height, data = page.evaluate(
        """(selector) => {
            const canvas = document.querySelector(selector);
            const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, Array.from(image.data)];
        }""",
        selector,
    )
    return np.asarray(data, np.uint8).reshape(height, width, 4)
