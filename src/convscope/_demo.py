"""``convscope demo``: a tour of the built-in network, offline, on photographs from scikit-image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from convscope._app import export
from convscope._errors import MissingDependency
from convscope._feature_maps import FeatureMaps, record_maps
from convscope._filters import filters
from convscope._images import DecodedImage, decode
from convscope._models import Model, load
from convscope._optvis import logit, maximize
from convscope._plot import Sheet
from convscope._reports import report
from convscope._reports.markup import (
    Html,
    image_tag,
    join,
    meter,
    paragraphs,
    table,
    tag,
    themed_image,
)
from convscope._reports.page import Page, PageSection
from convscope._scan import scan

PHOTOGRAPHS = ("cat", "coffee", "rocket")
DEPTHS = ("stem.conv", "stage1.widen.conv", "stage1/add", "stage2.widen.conv", "stage2/add")
MAPS_SIZE = 224
OPTIMIZED = {"stem.relu": 8, "stage1/add": 16, "stage2/add": 16}  # layer: number of channels
OPTIMIZED_SIZE, OPTIMIZED_STEPS = 48, 64
PATCHES = (192, 128, 96)  # sides of the squares cut from a photograph, in its pixels


@dataclass
class Tour:
    """The sections written so far, and the folder with their figures."""

    folder: Path
    sections: list[tuple[str, list[Html]]] = field(default_factory=list)

    def section(self, heading: str, *sentences: str) -> None:
        self.sections.append((heading, [paragraphs(*sentences)]))

    def add(self, content: Html) -> None:
        self.sections[-1][1].append(content)

    def figure(self, name: str, light: Sheet, dark: Sheet) -> str:
        """Write a figure in both themes and add it to the page; returns a line for the terminal."""
        light.save(self.folder / f"{name}.png")
        dark.save(self.folder / "dark" / f"{name}.png")
        alternative = f"{light.title}. {light.description}"
        shown = themed_image(f"{name}.png", f"dark/{name}.png", alternative, light.image.size)
        self.add(tag("figure", tag("a", shown, href=f"{name}.png")))
        return f"  {self.folder / name}.png  {light.title}"

    def page(self, facts: list[tuple[str, str]]) -> Page:
        return Page(
            "Inside a small network",
            "convscope demo",
            ["Every layer of the network that comes with convscope, on three photographs."],
            facts,
            [
                PageSection(heading.lower().replace(" ", "-"), heading, join(content))
                for heading, content in self.sections
            ],
            footer="Made by `convscope demo`; every figure is a file beside this page.",
            linked_images=True,
        )


def run(folder: Path) -> Iterator[str]:
    """Write the tour of the built-in network; yields what is done, a line at a time."""
    photographs = _photographs()
    model = load("demo")
    tour = Tour(folder)
    facts = _facts(model)
    yield f"The built-in network: {'; '.join(f'{name} {value}' for name, value in facts)}"
    yield from _predictions(tour, model, photographs)
    layers = model.layers.select(DEPTHS)
    maps = {
        name: record_maps(model, model.prepare(photograph, size=MAPS_SIZE), layers)
        for name, photograph in photographs.items()
    }
    yield from _depths(tour, maps)
    yield from _feature_maps(tour, maps["cat"])
    yield from _filters(tour, model)
    yield from _optimized(tour, model)
    yield from _dataset_examples(tour, model, photographs)
    yield from _microscope(tour, model, photographs)
    _next(tour)
    page = tour.page(facts).save(folder / "index.html")
    yield f"\nAll of it on one page: {page}"
    yield (
        "Next, on a photograph of your own:\n"
        f"  convscope serve {folder / 'atlas'} --open   (pip install 'convscope[app]')\n"
        "  convscope maps PHOTO.jpg --overview --size 224\n"
        "  convscope maps PHOTO.jpg -m torchvision:squeezenet1_1 --overview   "
        "(pip install 'convscope[torchvision]'; 5 MB of weights)"
    )


def _photographs() -> dict[str, DecodedImage]:
    try:
        from skimage import data
    except ModuleNotFoundError:
        raise MissingDependency("scikit-image", "The demo's photographs", "demo") from None
    return {name: decode(getattr(data, name)(), name=name) for name in PHOTOGRAPHS}


def _facts(model: Model) -> list[tuple[str, str]]:
    count = sum(p.numel() for p in model.module.parameters())
    return [
        ("parameters", f"{count:,}"),
        ("layers", str(len(model.layers))),
        ("classes", f"{', '.join(model.input.classes)} (CIFAR-10)"),
    ]


def _predictions(tour: Tour, model: Model, photographs: dict[str, DecodedImage]) -> Iterator[str]:
    height, width = model.input.size or (32, 32)
    tour.section(
        "Predictions",
        f"The three most probable classes of each photograph at {width}×{height} pixels, the input "
        "size of the network. It has ten classes and must choose among them: none is a cup.",
    )
    yield f"\nPredictions, at {width}×{height} pixels:"
    cards = []
    for name, photograph in photographs.items():
        batch = model.prepare(photograph)
        ranked = model.predict(batch, top=3)
        rows = [(label, tag("td", meter(p, f"{p:.0%}"))) for label, p in ranked]
        thumbnail = Image.fromarray(model.preprocessed(batch)[0]).resize(
            (96, 96), Image.Resampling.NEAREST
        )
        shown = image_tag(thumbnail, f"{name} at {width}×{height} pixels")
        cards.append(tag("div", shown, table(("class", "probability"), rows, name)))
        yield f"  {name:<8}" + ", ".join(f"{label} {p:.0%}" for label, p in ranked)
    tour.add(tag("div", cards, class_="row"))


def _depths(tour: Tour, maps: dict[str, FeatureMaps]) -> Iterator[str]:
    tour.section(
        "From edges to objects",
        f"Its last pooling is global, so the network accepts any input size: here {MAPS_SIZE}×"
        f"{MAPS_SIZE} pixels. Each row is a layer, its strongest channels first.",
    )
    yield f"\nThrough the depths, at {MAPS_SIZE}×{MAPS_SIZE} pixels:"
    for name, one in maps.items():
        yield tour.figure(f"{name}.overview", one.overview(), one.overview(theme="dark"))


def _feature_maps(tour: Tour, maps: FeatureMaps) -> Iterator[str]:
    tour.section("Feature maps", "Every channel of a layer, each with its own color range.")
    yield "\nFeature maps:"
    for path in ("stem.conv", "stage1/add", "stage2/add"):
        name = f"cat.{path.replace('/', '.')}"
        yield tour.figure(name, maps[path].grid(), maps[path].grid(theme="dark"))
    tour.add(paragraphs("The strongest channels of the last stage, laid over the photograph."))
    deepest = maps["stage2/add"]
    options: dict[str, Any] = {"channels": deepest.strongest(9), "columns": 3}
    light, dark = deepest.overlay(**options), deepest.overlay(**options, theme="dark")
    yield tour.figure("cat.stage2.add.overlay", light, dark)


def _filters(tour: Tour, model: Model) -> Iterator[str]:
    tour.section(
        "Learned filters",
        "The weights themselves: those of the first layer in color, those of a deeper layer with "
        "their sign.",
    )
    yield "\nLearned filters:"
    for path in ("stem.conv", "stage1.widen.conv"):
        weights = filters(model, path)
        yield tour.figure(f"filters.{path}", weights.grid(), weights.grid(theme="dark"))


def _optimized(tour: Tour, model: Model) -> Iterator[str]:
    tour.section(
        "Optimized images",
        "Activation maximization: starting from noise, the image itself is optimized until the "
        "activation of a unit is as high as possible. The activation is given above each image.",
        "An optimized image shows what drives a unit, not all that it responds to: people predict "
        "the activations of a unit better from natural images (Borowski et al., ICLR 2021).",
    )
    yield "\nOptimized images:"
    for path, count in OPTIMIZED.items():
        units = [f"{path}:{k}" for k in range(count)]
        yield _contact_sheet(tour, f"optimized.{path.replace('/', '.')}", model, units)
    classes = [logit(k) for k in range(len(model.input.classes))]
    yield _contact_sheet(tour, "optimized.classes", model, classes)


def _contact_sheet(tour: Tour, name: str, model: Model, units: list[Any]) -> str:
    images = maximize(model, units, steps=OPTIMIZED_STEPS, size=OPTIMIZED_SIZE)
    return tour.figure(name, images.sheet(columns=8), images.sheet(columns=8, theme="dark"))


def _dataset_examples(
    tour: Tour, model: Model, photographs: dict[str, DecodedImage]
) -> Iterator[str]:
    count = _cut(photographs, tour.folder / "patches")
    tour.section(
        "Dataset examples",
        f"The photographs are cut into {count} patches, and the network is run on all of them. "
        "Below are the patches that one channel responds to most.",
    )
    yield f"\nDataset examples, an atlas of {count} patches of the photographs:"
    atlas = scan(model, tour.folder / "patches", tour.folder / "atlas", ["kind=relu", "*/add"])
    health = report(atlas)
    chosen = next((f for f in reversed(health.findings) if f.kind == "selective"), None)
    unit = atlas.unit(chosen.units[0] if chosen else "stage2/add:0")
    yield tour.figure("unit", unit.sheet(), unit.sheet(theme="dark"))
    path = health.save(tour.folder / "health.html")
    link = tag("a", "The channel health report", href=path.name)
    tour.add(tag("p", link, " covers every channel."))
    yield f"  {path}  {health.page.title}"
    yield from (f"  {sentence}" for sentence in health.sentences())


def _microscope(tour: Tour, model: Model, photographs: dict[str, DecodedImage]) -> Iterator[str]:
    """The app with its data as one file."""
    file = tour.folder / "microscope.html"
    yield "\nThe microscope, to explore all of it in the browser:"
    made = export(
        tour.folder / "atlas", file, model=model, images=list(photographs.values()), size=MAPS_SIZE
    )
    tour.section("The microscope")
    link = tag("a", "The microscope", href=file.name)
    about = f": every layer, channel and position, in one file of {made.size / 1e6:.0f} MB. Live, "
    command = tag("code", "convscope serve --open")
    tour.add(tag("p", link, about, "on images of your own: ", command, "."))
    yield f"  {file}  {made.sentence()}"


def _next(tour: Tour) -> None:
    tour.section(
        "Next",
        "On a photograph of your own: `convscope maps PHOTO.jpg --overview --size 224`.",
        "With a network trained on ImageNet: "
        "`convscope maps PHOTO.jpg -m torchvision:squeezenet1_1 --overview`.",
    )


def _cut(photographs: dict[str, DecodedImage], folder: Path) -> int:
    """Cut overlapping squares of several sizes into small files, a folder for each photograph."""
    count = 0
    for name, photograph in photographs.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        width, height = photograph.image.size
        for side in PATCHES:
            for y in range(0, height - side + 1, side // 3):
                for x in range(0, width - side + 1, side // 3):
                    patch = photograph.image.crop((x, y, x + side, y + side)).resize((64, 64))
                    patch.save(folder / name / f"{side}px-{y}-{x}.png", compress_level=1)
                    count += 1
    return count
