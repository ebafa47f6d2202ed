"""The demo: offline, complete, and its page shows what it wrote."""

from __future__ import annotations

import re
import socket
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import convscope as cs
from convscope._demo import run

pytest.importorskip("skimage", reason="scikit-image carries the demo's photographs")


class Links(HTMLParser):
    """Every file a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files: set[str] = set()
        self.images_without_text = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.files |= {str(found[key]) for key in ("src", "srcset", "href") if key in found}
        self.images_without_text += tag == "img" and not found.get("alt")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("demo") / "convscope-demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        return folder, list(run(folder))


def _no_network(*_: object) -> None:
    raise AssertionError("the demo asked for the network")


def test_it_writes_what_it_says_and_its_page_shows_it(demo: tuple[Path, list[str]]) -> None:
    folder, lines = demo
    written = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.png")
        if "patches" not in path.parts
    }
    printed = {Path(line.split()[0]).name for line in lines if ".png" in line}
    assert printed == {name for name in written if "/" not in name}
    page = Links((folder / "index.html").read_text(encoding="utf-8"))
    shown = {file for file in page.files if not file.startswith(("data:", "#"))}
    assert shown == {*written, "health.html", "microscope.html"}
    assert (folder / "health.html").exists()
    assert (folder / "microscope.html").stat().st_size < 15_000_000
    assert page.images_without_text == 0
    for name in written:
        with Image.open(folder / name) as image:
            image.load()


def test_it_knows_a_cat(demo: tuple[Path, list[str]]) -> None:
    (line,) = [line for line in demo[1] if re.match(r"  cat +\w", line)]
    assert line.split()[1] == "cat"


def test_it_names_the_next_command(demo: tuple[Path, list[str]]) -> None:
    assert "convscope maps PHOTO.jpg" in demo[1][-1]


def test_the_built_in_network_keeps_its_promises() -> None:
    model = cs.load("demo")
    weights = Path(cs.__file__).parent / "_models" / "builtin" / "demo.safetensors"
    assert weights.stat().st_size <= 2 * 2**20
    assert sum(p.numel() for p in model.module.parameters()) <= 500_000
    assert model.weights("stem.conv").shape[2:] == (5, 5)
    assert model.input.size == (32, 32)
    assert len(model.input.classes) == 10
    assert not model.untrained_evidence()


@pytest.mark.slow
def test_the_built_in_network_classifies_cifar_as_its_metadata_states(real_data: Path) -> None:
    import json

    import torch

    metadata = json.loads(
        (Path(cs.__file__).parent / "_models" / "builtin" / "demo.json").read_text("utf-8")
    )
    model = cs.load("demo")
    test = cs.open_dataset(real_data / "cifar10-images.tar.xz", split="test")
    assert len(test) == metadata["accuracy"]["images"] == 10_000
    right = 0
    for start in range(0, len(test), 500):
        logits = model.logits([test.image(i) for i in range(start, start + 500)])
        right += int((logits.argmax(1) == torch.from_numpy(test.labels[start : start + 500])).sum())
    assert right / len(test) == pytest.approx(metadata["accuracy"]["test"], abs=2e-3)
    assert right / len(test) >= 0.85
