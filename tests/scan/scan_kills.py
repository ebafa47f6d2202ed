"""Scans in processes of their own, killed at random moments."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

FAST = "shapes,count=600,size=32"
_CODE = """
import sys, torch
torch.set_num_threads(1)
import convscope as cs
print("ready", flush=True)
cs.scan("demo", sys.argv[2], sys.argv[1], "stage2.widen.conv", batch=10, shard=60, workers=1)
"""


def _start(folder: Path, data: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, str(folder), data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def scan_alone(folder: Path, data: str) -> float:
    """A scan that nothing disturbs; the seconds it took once torch was there."""
    process = _start(folder, data)
    assert process.stdout is not None
    process.stdout.readline()
    begun = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - begun


def killed_until_done(folder: Path, data: str, kills: int, seed: int) -> int:
    """Kill the scan ``kills`` times, each at a random moment of what is left of its work, then let
    it finish; how often it was still alive to be killed."""
    draw, done = random.Random(seed), 0
    for _ in range(kills):
        process = _start(folder, data)
        assert process.stdout is not None
        process.stdout.readline()
        finished, target = -1, draw.randint(0, 9)
        while finished < target and process.poll() is None:
            finished = len(list(folder.glob("part-*"))) if folder.exists() else 0
            if (folder / "summary.safetensors").exists():
                break
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.3))
        done += process.poll() is None
        process.kill()
        process.communicate()
    scan_alone(folder, data)
    return done
