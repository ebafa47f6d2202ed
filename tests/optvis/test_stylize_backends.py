"""Dreams and styles on every backend of Keras, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ("torch", "tensorflow", "jax")
TESTS = Path(__file__).with_name("stylize_on_backend.py")
SOURCES = Path(__file__).resolve().parents[2] / "src"
Runs = dict[str, tuple[subprocess.Popen[bytes], Path]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All at the same time."""
    pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("stylize")
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    started = {backend: _start(backend, folder) for backend in installed}
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


def _start(backend: str, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    told = {
        "KERAS_BACKEND": backend,
        "STYLIZED": str(folder / f"{backend}.npz"),
        "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    with (folder / f"{backend}.txt").open("wb") as file:
        process = subprocess.Popen(command, env=os.environ | told, stdout=file, stderr=file)
    return process, folder / f"{backend}.npz"


@pytest.mark.parametrize("backend", BACKENDS)
def test_keras_on(backend: str, runs: Runs) -> None:
    """Everything there holds, and the pictures are those of the torch backend."""
    if backend not in runs:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    for process, output in (runs[backend], runs["torch"]):
        assert process.wait(timeout=600) == 0, output.with_suffix(".txt").read_text()[-6000:]
    found, expected = np.load(runs[backend][1]), np.load(runs["torch"][1])
    for kind in ("dream", "style"):
        assert np.abs(found[kind] - expected[kind]).mean() < 2 / 255, kind
