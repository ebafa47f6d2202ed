"""A served microscope on a small network and a small atlas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import visit
from PIL import Image
from starlette.testclient import TestClient
from web_bench import client_of, loaded, wait

import convscope as cs
from convscope._app.asgi import make_app
from convscope._app.session import Session


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for k in range(24):
        kind = folder / ("dark" if k % 2 else "light")
        kind.mkdir(exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 90, (30, 40, 3), np.uint8) + 160 * (1 - k % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(kind / f"{k}.png")
    return folder


@pytest.fixture(scope="session")
def atlas(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> cs.Atlas:
    out = tmp_path_factory.mktemp("scan") / "atlas"
    return cs.scan(loaded(), photos, out, ["0", "1", "4"], top=4)


@pytest.fixture(scope="module")
def client(atlas: cs.Atlas) -> Iterator[TestClient]:
    with client_of(Session(loaded(), atlas)) as client:
        wait(client)
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with visit.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(atlas: cs.Atlas) -> Iterator[str]:
    """A real server: a network, another one of the same shapes, an atlas."""
    session = Session(loaded(), atlas, other=Session(loaded(1)))
    with visit.served(make_app(session)) as found:
        yield found


@pytest.fixture(scope="module")
def pair(address: str, photos: Path) -> list[dict[str, Any]]:
    """Two pictures under the microscope."""
    return [visit.put(address, photos / name) for name in ("dark/1.png", "light/2.png")]
