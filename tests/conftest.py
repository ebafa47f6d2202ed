"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test file imports Keras: other backends have their tests in processes of their own.
os.environ.setdefault("KERAS_BACKEND", "torch")
# And before any imports torch: on a busy machine threads that spin take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What is submitted is judged on the same examples each time; at a desk new ones are tried.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real networks and images, which is no part of the repository."""
    folder = Path(os.environ.get("CONVSCOPE_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set CONVSCOPE_TEST_DATA to its folder")
    return folder
