"""How fast the app is, in a real Chromium in front of a real server.

    python benchmarks/app.py [--repeat 15]

Click → painted: from the click on a layer in the tree to the second frame after its canvas stands,
the server holding the activations, the browser holding nothing. Recolour, re-range and the
receptive field under the pointer: from the event to the next frame. Shell: from the navigation to
the first paint. JavaScript: gzipped, file by file.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Budget, Setting, one_line
from torch import nn

import convscope as cs
from convscope.web.app import make_app
from convscope.web.session import Session

STATIC = Path(cs.__file__).parent / "web" / "static"
LAYERS = {"many": "512×28×28", "deep": "2048×7×7", "wide": "64×224×224"}

CLICK = """async (path) => {
  const link = [...document.querySelectorAll('#tree a')].find((a) => a.title === path);
  const frame = () => new Promise(requestAnimationFrame);
  const start = performance.now();
  link.click();
  const stands = () => document.querySelector('main h1')?.textContent === path
    && document.querySelector('main .grid canvas');
  while (!stands()) await new Promise((resume) => setTimeout(resume, 1));
  await frame(); await frame();
  return performance.now() - start;
}"""
KEY = """async (key) => {
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  const start = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  return performance.now() - start;
}"""
HOVER = """async () => {
  const plate = document.querySelector('#map');
  const box = plate.getBoundingClientRect();
  const times = [];
  for (let k = 0; k < 40; k++) {
    const start = performance.now();
    plate.dispatchEvent(new PointerEvent('pointermove', { bubbles: true,
      clientX: box.left + box.width * (k + 0.5) / 40, clientY: box.top + box.height / 2 }));
    await Promise.resolve();
    document.body.getBoundingClientRect();
    times.push(performance.now() - start);
    await new Promise(requestAnimationFrame);
  }
  return times;
}"""


class Layers(nn.Module):
    """One layer of each size that is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 64, 3, padding=1)
        self.many = nn.Conv2d(64, 512, 8, stride=8)
        self.deep = nn.Conv2d(512, 2048, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.deep(self.many(self.wide(images))).mean((2, 3))


def serve() -> tuple[Any, str]:
    import uvicorn

    model = cs.load(Layers().eval(), preprocess=cs.Preprocess(size=(224, 224)), input=(3, 224, 224))
    app = make_app(Session(model))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"


def put(address: str) -> str:
    import io
    import json
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from PIL import Image

    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    Image.fromarray(noise).save(stream, "png")
    for _ in range(300):
        try:
            with urlopen(
                Request(f"{address}api/inputs?name=noise.png", stream.getvalue())
            ) as answer:
                return str(json.load(answer)["id"])
        except HTTPError:
            time.sleep(0.1)
    raise SystemExit("the model is loaded for ever")


def high(times: list[float]) -> float:
    """The 95th percentile."""
    return sorted(times)[round(0.95 * (len(times) - 1))]


def line(name: str, times: list[float], budget: str) -> None:
    p50, p95 = statistics.median(times), high(times)
    print(f"{name:<38}p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   {budget}")


def clicked(
    page: Any, address: str, id: str, repeat: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Milliseconds from the click on each layer to its maps, and to the first paint of all."""
    clicks: dict[str, list[float]] = {name: [] for name in LAYERS}
    shells = []
    for turn in range(repeat + 1):
        page.goto("about:blank")
        page.goto(f"{address}#/?in={id}")
        page.wait_for_selector("html[data-ready]")
        page.wait_for_load_state("networkidle")
        paints = page.evaluate("performance.getEntriesByType('paint').map((p) => p.startTime)")
        for path, times in clicks.items():
            taken = page.evaluate(CLICK, path)
            if turn:  # the first fills the server's cache
                times.append(taken)
            page.wait_for_timeout(150)
        if turn:
            shells.append(min(paints))
    return clicks, shells


def measure(page: Any, address: str, id: str, repeat: int) -> None:
    clicks, shells = clicked(page, address, id, repeat)
    line("shell, first paint", shells, "≤ 1000")
    for path, times in clicks.items():
        line(f"click → painted, {LAYERS[path]}", times, "p50 ≤ 60, p95 ≤ 100")
    page.goto(f"{address}#/layer/many?in={id}")
    page.wait_for_selector("a.cell")
    for name, key in (("recolour, 512×28×28", "m"), ("re-range, 512×28×28", "n")):
        line(name, [page.evaluate(KEY, key) for _ in range(repeat)], "≤ 16")
    page.goto(f"{address}#/layer/many/channel/3?in={id}")
    page.wait_for_selector("#map")
    page.wait_for_load_state("networkidle")
    line("receptive field under the pointer", page.evaluate(HOVER), "≤ 16")


@contextmanager
def opened() -> Iterator[tuple[Any, str, str]]:
    """A page in Chromium before a server: page, address, picture."""
    from playwright.sync_api import sync_playwright

    server, address = serve()
    id = put(address)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("pageerror", lambda error: print("error:", error, file=sys.stderr))
        yield page, address, id
        browser.close()
    server.should_exit = True


def budgets(_setting: Setting) -> Iterator[Budget]:
    work = "click on a layer → maps on the screen, p95"
    try:
        with opened() as (page, address, id):
            clicks, _ = clicked(page, address, id, repeat=15)
    except Exception as error:  # no Chromium, or no playwright
        yield Budget(work, None, 100, "ms", remark=f"not measured here: {one_line(error)}")
        return
    for path, times in clicks.items():
        said = f"half of them within {statistics.median(times):.0f} ms"
        yield Budget(f"{work}, {LAYERS[path]}", high(times), 100, "ms", remark=said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=15)
    repeat = parser.parse_args().repeat
    with opened() as (page, address, id):
        measure(page, address, id, repeat)
    packed = sum(len(gzip.compress(path.read_bytes())) for path in STATIC.glob("*.js"))
    print(f"{'JavaScript, gzipped':<38}{packed / 1000:.1f} kB   ≤ 60")


if __name__ == "__main__":
    main()
