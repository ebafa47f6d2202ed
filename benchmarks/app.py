"""How fast the app is, in a real Chromium in front of a real server.

    python benchmarks/app.py [--repeat 15]

Click → painted: from the click on a layer in the tree to the second frame after its canvas stands,
the server holding the activations, the browser holding nothing. Recolor, re-range and the
receptive field under the pointer: from the event to the next frame. Shell: from the navigation to
the first paint. New picture → maps: from the choice of a file to the second frame after its maps
stand, less one pass that captures all layers, timed in the same process. Heap: JavaScript, DOM and
array buffers. JavaScript: gzipped, file by file, as it travels.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image
from timing import Budget, Setting, one_line
from torch import nn

import convscope as cs
from convscope._app import page as files
from convscope._app.asgi import make_app
from convscope._app.session import Session

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
CLICK_ONLY = """async (path) => {
  [...document.querySelectorAll('#tree a')].find((a) => a.title === path).click();
  const stands = () => document.querySelector('main h1')?.textContent === path
    && !document.querySelector('main .busy');
  while (!stands()) await new Promise((resume) => setTimeout(resume, 5));
  await new Promise(requestAnimationFrame);
}"""
ARRIVAL = """(name) => {
  window.arrived = new Promise((resume) => {
    document.addEventListener('change', () => {
      const start = performance.now();
      const look = () => {
        const grid = document.querySelector('main .grid');
        if (!grid?.getAttribute('aria-label').endsWith(name)) return setTimeout(look, 1);
        requestAnimationFrame(() => requestAnimationFrame(() => resume(performance.now() - start)));
      };
      look();
    }, { capture: true, once: true });
  });
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


def serve(model: Any) -> tuple[Any, str]:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(make_app(Session(model)), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"


def noise(seed: int = 0) -> Image.Image:
    """A picture like a photograph in what it costs: coarse and fine noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((320, 240))
    fine = Image.fromarray(rng.integers(0, 256, (240, 320, 3), np.uint8))
    return Image.blend(coarse, fine, 0.2)


def put(address: str) -> str:
    stream = io.BytesIO()
    noise().save(stream, "png")
    for _ in range(300):
        try:
            with urlopen(Request(f"{address}api/inputs?name=noise", stream.getvalue())) as answer:
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
    for name, key in (("recolor, 512×28×28", "m"), ("re-range, 512×28×28", "n")):
        line(name, [page.evaluate(KEY, key) for _ in range(repeat)], "≤ 16")
    page.goto(f"{address}#/layer/many/channel/3?in={id}")
    page.wait_for_selector("#map")
    page.wait_for_load_state("networkidle")
    line("receptive field under the pointer", page.evaluate(HOVER), "≤ 16")


def resnet() -> Any:
    """ResNet-50 with random weights: what it costs does not depend on them."""
    return cs.load("torchvision:resnet50,weights=none")


def bare(model: Any, repeat: int) -> float:
    """The one pass that a new picture takes: all layers captured, no browser. Milliseconds."""
    paths = [layer.path for layer in model.layers if layer.shape]
    batch = model.prepare(noise(99))
    cs.feature_maps(model, batch, paths)
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        cs.feature_maps(model, batch, paths)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def new_pictures(page: Any, address: str, id: str, repeat: int, folder: Path) -> list[float]:
    """From the choice of a file to its maps on the screen."""
    page.goto(f"{address}#/layer/layer2.0.conv1?in={id}")
    page.wait_for_selector("a.cell")
    page.wait_for_load_state("networkidle")
    times = []
    for k in range(1, repeat + 1):
        path = folder / f"new{k}.png"
        noise(k).save(path)
        page.evaluate(ARRIVAL, path.name)
        page.set_input_files("#file", path)
        times.append(page.evaluate("window.arrived"))
        page.wait_for_load_state("networkidle")
    return times


def heap(page: Any, address: str, id: str) -> float:
    """Megabytes that the page holds when every layer has been looked at, garbage collected."""
    page.goto(f"{address}#/?in={id}")
    page.wait_for_selector("html[data-ready]")
    links = page.evaluate("[...document.querySelectorAll('#tree a')].map((a) => a.title)")
    for path in links:
        page.evaluate(CLICK_ONLY, path)
        page.wait_for_load_state("networkidle")
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    found = session.send("Runtime.getHeapUsage")
    parts = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
    return sum(found.get(part, 0) for part in parts) / 1e6


def exported(browser: Any, model: Any, folder: Path, repeat: int) -> None:
    """A page of ResNet-50 with one picture: how large, and how soon its maps stand."""
    out = folder / "resnet.html"
    made = cs.export(output=out, model=model, images=[noise()])
    times = []
    for _ in range(repeat):
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(out.as_uri())
        page.wait_for_selector(".cards canvas")
        times.append(page.evaluate("performance.now()"))
        page.context.close()
    print(f"{'ResNet-50 export, one picture':<38}{made.size / 1e6:.1f} MB   ≤ 15")
    for text in made.left_out:
        print(f"{'  left out':<38}{text}")
    line("  opened, first maps drawn", times, "≤ 2000")


def deep(browser: Any, repeat: int) -> None:
    """What is asked of ResNet-50."""
    model = resnet()
    pass_ = bare(model, repeat)
    server, address = serve(model)
    id = put(address)
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    with tempfile.TemporaryDirectory() as name:
        times = new_pictures(page, address, id, repeat, Path(name))
        print(f"{'ResNet-50, all layers in one pass':<38}p50 {pass_:7.1f} ms")
        line("  new picture → maps, beyond that", [t - pass_ for t in times], "≤ 100")
        megabytes = heap(page, address, id)
        print(f"{'  heap after every layer':<38}{megabytes:.0f} MB   ≤ 150")
        page.close()
        exported(browser, model, Path(name), min(repeat, 5))
    server.should_exit = True


@contextmanager
def opened() -> Iterator[tuple[Any, str]]:
    """Chromium beside a server of a network with the layers that are clicked, and its address."""
    from playwright.sync_api import sync_playwright

    preprocess = cs.Preprocess(size=(224, 224))
    server, address = serve(cs.load(Layers().eval(), preprocess=preprocess, input=(3, 224, 224)))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser, address
        server.should_exit = True
        browser.close()


def page_of(browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.on("pageerror", lambda error: print("error:", error, file=sys.stderr))
    return page


def budgets(_setting: Setting) -> Iterator[Budget]:
    work = "click on a layer → maps on the screen, p95"
    try:
        with opened() as (browser, address):
            clicks, _ = clicked(page_of(browser), address, put(address), repeat=15)
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
    with opened() as (browser, address):
        page = page_of(browser)
        measure(page, address, put(address), repeat)
        page.close()
        deep(browser, repeat)
    scripts = [name for name in files.static_files() if name.endswith(".js")]
    packed = sum(len(files.compressed(name)) for name in scripts)
    print(f"{'JavaScript, gzipped':<38}{packed / 1000:.1f} kB   ≤ 60")


if __name__ == "__main__":
    main()
