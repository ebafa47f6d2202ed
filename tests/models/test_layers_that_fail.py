"""One layer that cannot be drawn takes nothing else down: maps, scan, app, command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import convscope as cs
from convscope._app.session import Session
from convscope._cli import app
from convscope._images import decode

SIZE = (3, 12, 12)


class Bad(nn.Module):
    """Between convolutions: what mixes images, what is no map, what is not always called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.mixed = nn.Identity()
        self.square = nn.Identity()
        self.bright = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y - self.mixed(y.mean((0, 2, 3)))[:, None, None]
        square = self.square(y.mean((2, 3)).reshape(len(x), 1, 2, 2))
        y = y + square.mean((1, 2, 3))[:, None, None, None]
        if x.mean() > 0.2:
            y = self.bright(y)
        return self.last(y)


def make() -> nn.Module:
    torch.manual_seed(0)
    return Bad().eval()


def image(level: float = 1.0) -> Any:
    return (np.random.default_rng(0).random(SIZE) * level).astype("float32")


def test_maps_of_the_others_are_drawn() -> None:
    model = cs.load(make(), input=SIZE)
    maps = cs.feature_maps(model, image(), "*")
    assert {"first", "bright", "last"} <= set(maps)
    assert set(maps.not_drawable) == {"mixed", "square", "/reshape", "/getitem"}
    lines = maps.overview().lines
    assert "not drawable: mixed: none of its dimensions counts the images" in lines
    assert "not drawable: /reshape: its elements stand on no grid of the image" in lines
    assert lines[-1] == "and 1 more layers"
    with pytest.raises(cs.ConvscopeError, match="Layer 'square' is not drawable: its elements"):
        maps["square"]


def test_a_layer_that_this_image_does_not_lead_to() -> None:
    maps = cs.feature_maps(cs.load(make(), input=SIZE), image(0.1), ["first", "bright", "last"])
    assert list(maps) == ["first", "last"]
    assert "was not called" in maps.not_drawable["bright"]


def test_alone_it_is_an_error() -> None:
    model = cs.load(make(), input=SIZE)
    with pytest.raises(cs.ConvscopeError, match="'square' of Bad is not drawable"):
        cs.feature_maps(model, image(), "square")
    with pytest.raises(cs.ConvscopeError, match="was not called"):
        cs.feature_maps(model, image(0.1), "bright")


def test_a_scan_refuses_what_is_no_map_and_stores_the_rest(tmp_path: Path) -> None:
    images = [image(level) for level in (0.6, 0.8, 1.0)]
    model = cs.load(make(), input=SIZE)
    with pytest.raises(cs.ConvscopeError, match="'square' of Bad cannot be scanned: its elements"):
        cs.scan(model, images, tmp_path / "a", ["first", "square"], top=1)
    atlas = cs.scan(model, images, tmp_path / "b", "*", top=1)
    scanned = {layer.path for layer in atlas.layers}
    assert {"first", "last"} <= scanned
    assert not scanned & {"mixed", "square", "bright", "/reshape", "/getitem"}
    with pytest.raises(cs.ConvscopeError, match=r"'bright' .* not every image leads to it"):
        cs.scan(model, images, tmp_path / "c", "bright", top=1)


def test_the_app_draws_the_others() -> None:
    model = cs.load(make(), input=SIZE)
    session = Session(model).load_now()
    dark = Image.fromarray((image(0.1) * 255).astype("uint8").transpose(1, 2, 0))
    entered = session.add_input(decode(dark))
    paths = [layer.path for layer in session.layers]
    summaries = {paths[summary.layer] for summary in session.layer_summaries(entered)}
    assert {"first", "last"} <= summaries
    assert not summaries & {"mixed", "square", "bright"}
    for path, why in (("square", "no grid"), ("bright", "not called"), ("mixed", "counts")):
        with pytest.raises(cs.ConvscopeError, match=f"{path}.*{why}"):
            session.maps(entered, paths.index(path))
    assert session.maps(entered, paths.index("last")).shape == (5, 8, 8)


@pytest.fixture
def factory(tmp_path: Path) -> str:
    lines = Path(__file__).read_text(encoding="utf-8").split("def image(")[0]
    network = tmp_path / "bad.py"
    network.write_text(lines.replace("from convscope._app.session import Session\n", ""))
    return f"{network}:make"


def test_the_table_says_what_is_no_map_and_checks_it(factory: str) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["layers", "-m", factory, "--input", "3,12,12", "--check"])
    assert result.exit_code == 0, result.output
    assert "1×2×2, no map" in result.output
    assert "not drawable: mixed: none of its dimensions counts the images" in result.output
    assert "layers are what the network computes." in result.output
    rows = json.loads(
        runner.invoke(
            app, ["layers", "-m", factory, "--input", "3,12,12", "--check", "--json"]
        ).stdout
    )
    assert {row["path"]: row["check"] for row in rows}["first"] == ""
    wrong = runner.invoke(app, ["layers", "cat.jpg", "-m", factory])
    assert wrong.exit_code
    assert "--check cat.jpg" in wrong.output + str(wrong.exception)
