"""A small atlas: two layers, 48 images of shapes in four classes, as version 0.1.0 wrote it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import convscope as cs

WRITTEN = Path(__file__).parents[1] / "fixtures" / "0.1" / "atlas"


@pytest.fixture
def atlas() -> cs.Atlas:
    return cs.open_atlas(WRITTEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(WRITTEN, tmp_path / "atlas"))
