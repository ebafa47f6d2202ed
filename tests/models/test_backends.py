"""Every backend of Keras, each in a process of its own: ``on_backend.py`` holds the tests."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from backend_networks import numbers

BACKENDS = ("torch", "tensorflow", "jax")
TESTS = Path(__file__).with_name("on_backend.py")
PREPROCESSING = Path(__file__).with_name("test_keras_preprocessing.py")
SOURCES = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class Run:
    """The tests on one backend, under way."""

    process: subprocess.Popen[bytes]
    output: Path
    differences: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All at the same time, with one file of weights."""
    yield from _runs(tmp_path_factory, [TESTS])


@pytest.fixture(scope="module")
def preprocessing_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Preprocessing inside networks; on torch its tests run by themselves."""
    yield from _runs(tmp_path_factory, [PREPROCESSING], BACKENDS[1:])


def _runs(
    tmp_path_factory: pytest.TempPathFactory,
    tests: list[Path],
    backends: tuple[str, ...] = BACKENDS,
) -> Iterator[dict[str, Run]]:
    folder = tmp_path_factory.mktemp("backends")
    np.savez(folder / "weights.npz", **numbers())
    installed = [backend for backend in backends if importlib.util.find_spec(backend)]
    started = {backend: _start(backend, folder, tests) for backend in installed}
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


def _start(backend: str, folder: Path, tests: list[Path]) -> Run:
    output, differences = folder / f"{backend}.txt", folder / f"{backend}.json"
    told = {
        "KERAS_BACKEND": backend,
        "BACKEND_WEIGHTS": str(folder / "weights.npz"),
        "BACKEND_DIFFERENCES": str(differences),
        "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    with output.open("wb") as file:
        process = subprocess.Popen(command, env=os.environ | told, stdout=file, stderr=file)
    return Run(process, output, differences)


def passed(backend: str, runs: dict[str, Run]) -> Run:
    """The run on a backend, which must have passed; skips where that is not installed."""
    if backend not in runs:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    run = runs[backend]
    assert run.process.wait(timeout=900) == 0, run.output.read_text()[-8000:]
    return run


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_preprocessing_inside_networks_on(backend: str, preprocessing_runs: dict[str, Run]) -> None:
    passed(backend, preprocessing_runs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_keras_on(backend: str, runs: dict[str, Run]) -> None:
    found = json.loads(passed(backend, runs).differences.read_text())
    print(f"largest differences on {backend}: {found}")
    assert max(found["maps"], found["logits"]) <= 1e-5
    assert max(found["input gradients"], found["layer gradients"]) <= 1e-4
