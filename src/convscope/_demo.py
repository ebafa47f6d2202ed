"""``convscope demo``: a first look inside a network, offline, on photographs from scikit-image."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from convscope._app import export
from convscope._errors import MissingDependency
from convscope._feature_maps import FeatureMaps, feature_maps
from convscope._filters import filters
from convscope._images import Picture, decode
from convscope._models import Model, load
from convscope._optvis import logit, maximize
from convscope._plot import Sheet, Theme
from convscope._reports import report
from convscope._scan import scan

PHOTOGRAPHS = ("cat", "coffee", "rocket")
DEPTHS = ("stem.conv", "stage1.widen.conv", "stage1/add", "stage2.widen.conv", "stage2/add")
MAPS_SIZE = 224
OPTIMIZED = {"stem.relu": 8, "stage1/add": 16, "stage2/add": 16}  # and how many channels
OPTIMIZED_SIZE, OPTIMIZED_STEPS = 48, 64
PATCHES = (192, 128, 96)  # sides of the squares that are cut from a photograph, in its pixels


@dataclass
class Page:
    """The pages' parts in order, and the pictures written so far."""

    folder: Path
    parts: list[str] = field(default_factory=list)

    def say(self, markup: str) -> None:
        self.parts.append(markup)

    def show(self, name: str, light: Sheet, dark: Sheet) -> str:
        """Write a picture in both themes and put it on the page; a line for the terminal."""
        light.save(self.folder / f"{name}.png")
        dark.save(self.folder / "dark" / f"{name}.png")
        alternative = html.escape(f"{light.title}. {light.description}", quote=True)
        width, height = light.image.size
        self.say(
            f'<a href="{name}.png"><picture>'
            f'<source srcset="dark/{name}.png" media="(prefers-color-scheme: dark)">'
            f'<img src="{name}.png" alt="{alternative}" width="{width}" height="{height}" '
            f'loading="lazy"></picture></a>'
        )
        return f"  {self.folder / name}.png  {light.title}"


def run(folder: Path) -> Iterator[str]:
    """Look inside the built-in network; yields what it does, a line at a time."""
    photographs = _photographs()
    model = load("demo")
    page = Page(folder)
    yield f"The built-in network: {_about(model)}"
    yield from _predictions(page, model, photographs)
    seen = {
        name: feature_maps(model, picture, DEPTHS, size=MAPS_SIZE)
        for name, picture in photographs.items()
    }
    yield from _depths(page, seen)
    yield from _layers(page, seen["cat"])
    yield from _filters(page, model)
    yield from _optimized(page, model)
    yield from _atlas(page, model, photographs)
    yield from _microscope(page, model, photographs)
    (folder / "index.html").write_text(_document(page.parts, _about(model)), encoding="utf-8")
    yield f"\nAll of it on one page: {folder / 'index.html'}"
    yield (
        "Next, on a photograph of yours:\n"
        f"  convscope serve {folder / 'atlas'} --open   (pip install 'convscope[app]')\n"
        "  convscope maps PHOTO.jpg --overview --size 224\n"
        "  convscope maps PHOTO.jpg -m torchvision:squeezenet1_1 --overview   "
        "(pip install 'convscope[torchvision]'; 5 MB of weights)"
    )


def _photographs() -> dict[str, Picture]:
    try:
        from skimage import data
    except ModuleNotFoundError:
        raise MissingDependency("scikit-image", "The demo's photographs", "demo") from None
    return {name: decode(getattr(data, name)(), name=name) for name in PHOTOGRAPHS}


def _about(model: Model) -> str:
    parameters = sum(p.numel() for p in model.module.parameters())  # type: ignore[attr-defined]
    return f"{parameters:,} parameters, trained on CIFAR-10 for {', '.join(model.input.classes)}."


def _predictions(page: Page, model: Model, photographs: dict[str, Picture]) -> Iterator[str]:
    size = model.input.size or (32, 32)
    page.say("<h2>What it takes the photographs for</h2>")
    page.say(
        f"<p>Predicted at {size[1]}×{size[0]} pixels, the size it was trained at. It knows ten "
        "words and must choose one: it has never seen a cup.</p><div class=cards>"
    )
    yield f"\nWhat it takes the photographs for, at {size[1]}×{size[0]} pixels:"
    for name, picture in photographs.items():
        batch = model.prepare(picture)
        ranked = model.predict(batch, top=3)
        rows = "".join(
            f"<tr><td>{html.escape(label)}<td><meter value={p:.3f}></meter><td>{p:.0%}"
            for label, p in ranked
        )
        seen = Image.fromarray(model.preprocessed(batch)[0]).resize(
            (96, 96), Image.Resampling.NEAREST
        )
        page.say(
            f'<section><h3>{name}</h3><img class=seen width=96 height=96 src="{_data_url(seen)}" '
            f'alt="{name} at {size[1]}×{size[0]} pixels"><table>{rows}</table></section>'
        )
        yield f"  {name:<8}" + ", ".join(f"{label} {p:.0%}" for label, p in ranked)
    page.say("</div>")


def _data_url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "png")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _depths(page: Page, seen: dict[str, FeatureMaps]) -> Iterator[str]:
    page.say("<h2>From edges to objects</h2>")
    page.say(
        f"<p>The network has no fixed size before its last pooling, so here it looks at "
        f"{MAPS_SIZE}×{MAPS_SIZE} pixels. Each row is a layer; its strongest channels first.</p>"
    )
    yield f"\nThrough the depths, looked at with {MAPS_SIZE}×{MAPS_SIZE} pixels:"
    for name, maps in seen.items():
        yield page.show(f"{name}.overview", maps.overview(), maps.overview(theme="dark"))


def _layers(page: Page, maps: FeatureMaps) -> Iterator[str]:
    page.say("<h2>Layer by layer</h2><p>Every channel of a layer, each in its own range.</p>")
    yield "\nLayer by layer:"
    for path in ("stem.conv", "stage1/add", "stage2/add"):
        one, name = maps[path], f"cat.{path.replace('/', '.')}"
        yield page.show(name, one.grid(), one.grid(theme="dark"))
    page.say("<p>The strongest of the last stage, laid over the photograph.</p>")
    deepest = maps["stage2/add"]
    chosen = deepest.strongest(9)
    yield page.show(
        "cat.stage2.add.overlay",
        *(_overlaid(deepest, chosen, theme) for theme in ("light", "dark")),
    )


def _overlaid(maps: Any, channels: list[int], theme: Theme) -> Sheet:
    return maps.overlay(channels=channels, columns=3, theme=theme)  # type: ignore[no-any-return]


def _filters(page: Page, model: Model) -> Iterator[str]:
    page.say("<h2>What it has learned to look for</h2>")
    page.say("<p>The weights themselves: of the first layer as colors, of a deeper one signed.</p>")
    yield "\nLearned filters:"
    for path in ("stem.conv", "stage1.widen.conv"):
        found = filters(model, path)
        yield page.show(f"filters.{path}", found.grid(), found.grid(theme="dark"))


def _optimized(page: Page, model: Model) -> Iterator[str]:
    page.say("<h2>What its channels would like to see most</h2>")
    page.say(
        "<p>From noise, the picture itself is adjusted until a unit responds most strongly. Above "
        "each picture is its activation. A picture like this shows what drives a unit, not all "
        "that it responds to: people predict a unit better from real examples (Borowski et al., "
        "2021).</p>"
    )
    yield "\nWhat its channels would like to see most:"
    for path in OPTIMIZED:
        units = [f"{path}:{k}" for k in range(OPTIMIZED[path])]
        yield _contact_sheet(page, f"optimized.{path.replace('/', '.')}", model, units)
    classes = [logit(k) for k in range(len(model.input.classes))]
    yield _contact_sheet(page, "optimized.classes", model, classes)


def _contact_sheet(page: Page, name: str, model: Model, units: list[Any]) -> str:
    found = maximize(model, units, steps=OPTIMIZED_STEPS, size=OPTIMIZED_SIZE)
    return page.show(name, found.sheet(columns=8), found.sheet(columns=8, theme="dark"))


def _atlas(page: Page, model: Model, photographs: dict[str, Picture]) -> Iterator[str]:
    count = _cut(photographs, page.folder / "patches")
    page.say("<h2>What each channel answers to</h2>")
    page.say(
        f"<p>The photographs cut into {count} patches, and all of them shown to the network: the "
        'patches that one channel answers to most, and a <a href="findings.html">report on all '
        "channels</a>.</p>"
    )
    yield f"\nAn atlas: what each channel answers to in {count} patches of the photographs:"
    atlas = scan(model, page.folder / "patches", page.folder / "atlas", ["kind=relu", "*/add"])
    told = report(atlas)
    chosen = next((f for f in reversed(told.findings) if f.kind == "selective"), None)
    unit = atlas[chosen.units[0] if chosen else "stage2/add:0"]
    yield page.show("unit", unit.sheet(), unit.sheet(theme="dark"))
    yield f"  {told.save(page.folder / 'findings.html')}  {told.page.title}"
    yield from (f"  {sentence}" for sentence in told.sentences())


def _microscope(page: Page, model: Model, photographs: dict[str, Picture]) -> Iterator[str]:
    """All of it to walk through: one file, in the browser."""
    file = page.folder / "microscope.html"
    yield "\nThe microscope, to walk through all of it in the browser:"
    made = export(
        page.folder / "atlas", file, model=model, images=list(photographs.values()), size=MAPS_SIZE
    )
    page.say(
        '<h2>Walk through it</h2><p><a href="microscope.html">The microscope</a>: every layer, '
        "channel and position, with the patches beside them. One file of "
        f"{made.size / 1e6:.0f} MB; live, on pictures of yours: <code>convscope serve</code>.</p>"
    )
    yield f"  {file}  {made.sentence()}"


def _cut(photographs: dict[str, Picture], folder: Path) -> int:
    """Overlapping squares of several sizes as small files, a folder for each photograph."""
    count = 0
    for name, picture in photographs.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        width, height = picture.image.size
        for side in PATCHES:
            for y in range(0, height - side + 1, side // 3):
                for x in range(0, width - side + 1, side // 3):
                    patch = picture.image.crop((x, y, x + side, y + side)).resize((64, 64))
                    patch.save(folder / name / f"{side}px-{y}-{x}.png", compress_level=1)
                    count += 1
    return count


_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.55 system-ui,sans-serif;max-width:76rem;margin:0 auto;padding:2rem 1.25rem 4rem;
background:light-dark(#fff,#14161a);color:light-dark(#181a1e,#ecedf0)}
h1{font-size:1.9rem;margin:0 0 .25rem}h2{margin:2.8rem 0 .4rem}h3{margin:0 0 .4rem;font-size:1rem}
p{max-width:46rem;margin:.2rem 0 1rem}img{max-width:100%;height:auto;display:block;margin:.8rem 0}
.cards{display:flex;flex-wrap:wrap;gap:2.5rem}td{padding:0 .8rem 0 0}meter{width:8rem}
.seen{image-rendering:pixelated}
code{font-size:.92em;background:light-dark(#f0f2f4,#1d2229);padding:.1em .35em;border-radius:4px}
"""


def _document(parts: list[str], about: str) -> str:
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>convscope demo</title><style>{_STYLE}</style>\n"
        f"<h1>Inside a small network</h1><p>{html.escape(about)}</p>\n{body}\n"
        "<h2>Next</h2><p>On a photograph of yours: "
        "<code>convscope maps PHOTO.jpg --overview --size 224</code>, or with a network trained on "
        "ImageNet: "
        "<code>convscope maps PHOTO.jpg -m torchvision:squeezenet1_1 --overview</code></p>"
        "\n</html>\n"
    )
