"""The same scan on a local Ray, a worker killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import convscope as cs
from convscope._errors import MissingDependency

NETWORK = """
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.conv(images).relu()

def make():
    return Slow()
"""
PREPROCESS = cs.Preprocess(size=(12, 12))


@pytest.fixture(scope="module")
def ray() -> Any:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'convscope[ray]'")
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


def summary(folder: Path) -> bytes:
    return (folder / "summary.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_worker_killed_in_the_middle_changes_nothing(
    ray: Any, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Four shards; the file with the network is not a module that workers could import."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (tmp_path / "net.py").write_text(NETWORK)
        model = cs.load(f"{tmp_path / 'net.py'}:make", preprocess=PREPROCESS)
        data = make_folder(400)
        options: dict[str, Any] = {"batch": 4, "shard": 100}
        cs.scan(model, data, tmp_path / "local", **options)
        killed = []

        def kill_one(progress: Any) -> None:
            if progress.stage == "scanning" and progress.new and not killed:
                for pid in _workers():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        cs.scan(model, data, tmp_path / "ray", engine="ray", progress=kill_one, **options)
        assert killed
        assert summary(tmp_path / "ray") == summary(tmp_path / "local")
    finally:
        torch.set_num_threads(threads)


def _workers() -> list[int]:
    """Processes of this session's Ray that are at work on a shard."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                above = int(Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if words.startswith(b"ray::_scan") and os.getpid() in (parent, above):
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_errors_of_a_worker_arrive_as_they_are(
    ray: Any, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = cs.load(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), preprocess=PREPROCESS)
    data = make_folder(8)
    for path in data.rglob("*.png"):
        path.write_bytes(b"junk")
    with pytest.raises(cs.ConvscopeError, match="None of the 8 images"):
        cs.scan(model, data, tmp_path / "atlas", engine="ray")


def test_without_ray_the_error_names_the_package(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    model = cs.load(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), preprocess=PREPROCESS)
    with pytest.raises(MissingDependency, match=r"--engine ray needs ray. Install it: pip install"):
        cs.scan(model, make_folder(8), tmp_path / "atlas", engine="ray")
