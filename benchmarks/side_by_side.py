"""convscope beside other tools, task by task; `make bench` runs this.

    python benchmarks/side_by_side.py [--gpu] [--only capture,cold] [--rounds 5]

Each pair of tools runs in turns in a process of its own, on one thread. Writes
``benchmarks/results/side-by-side.md`` and ``.json``; results that are not measured again stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import written

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "side-by-side"
PAIRED = ("capture", "render", "scan", "ascent", "quality", "cold")
BUDGETED = ("capture", "render", "scan", "ascent", "cold", "app")
ON_A_GPU = ("capture", "scan", "ascent")
LONGEST = 420  # seconds of one process


@dataclass(frozen=True)
class Job:
    """A process that runs a function of a module (``pairs``, ``budgets``, …), for a peer."""

    module: str
    what: str
    peer: str = ""
    device: str = "cpu"

    @property
    def key(self) -> str:
        return "/".join(filter(None, (self.module, self.what, self.peer, self.device)))


def jobs(only: set[str], gpu: bool) -> Iterator[Job]:
    """All jobs to run."""
    for module in PAIRED:
        if not only or module in only:
            for peer in importlib.import_module(module).PEERS:
                yield Job(module, "pairs", peer)
                if gpu and module in ON_A_GPU:
                    yield Job(module, "pairs", peer, "cuda")
    for module in BUDGETED:
        if not only or module in only:
            yield Job(module, "budgets")
    if not only or "correct" in only:
        for tool in importlib.import_module("correct").TOOLS:
            yield Job("correct", "checks", tool)
    if not only or "size" in only:
        yield Job("size", "sizes")


def execute(job: Job, rounds: int) -> list[dict[str, Any]]:
    """Run a job in this process; returns its rows."""
    import torch
    from timing import Setting

    torch.set_num_threads(1)
    function = getattr(importlib.import_module(job.module), job.what)
    setting = Setting(rounds, job.device)
    arguments = {"pairs": (job.peer, setting), "budgets": (setting,), "checks": (job.peer,)}
    rows = function(*arguments.get(job.what, ()))
    return [row if isinstance(row, dict) else _as_dict(row) for row in rows]


def _as_dict(row: Any) -> dict[str, Any]:
    return dataclasses.asdict(row) | ({"met": row.met} if hasattr(row, "met") else {})


def run_job(job: Job, rounds: int) -> dict[str, Any]:
    """Run a job in a new process; returns its rows, or the error that ended it."""
    given = json.dumps(dataclasses.asdict(job))
    command = [sys.executable, "-W", "ignore", __file__, "--work", given, "--rounds", str(rounds)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    if job.device == "cpu":  # some tools use a GPU whenever there is one
        env["CUDA_VISIBLE_DEVICES"] = ""
    start, load = time.monotonic(), round(os.getloadavg()[0], 1)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {LONGEST} s", "rows": [], "seconds": LONGEST, "load": load}
    timing = {"seconds": round(time.monotonic() - start, 1), "load": load}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1][:300], "rows": []} | timing
    return {"rows": json.loads(done.stdout.splitlines()[-1])} | timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gpu", action="store_true", help="also measure on a GPU")
    parser.add_argument("--only", default="", help="modules to run, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(execute(Job(**json.loads(options.work)), options.rounds)))
        return
    gpu = options.gpu and has_gpu()
    if options.gpu and not gpu:
        print("torch finds no GPU: --gpu is ignored")
    measure(list(jobs(set(filter(None, options.only.split(","))), gpu)), options)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def measure(queue: list[Job], options: argparse.Namespace) -> None:
    """Run all jobs; the table is written after each, so Ctrl-C loses only the current one."""
    file = RESULT.with_suffix(".json")
    results = json.loads(file.read_text())["jobs"] if file.exists() else {}
    if not options.only:
        results = {}
    for k, job in enumerate(queue):
        result = results[job.key] = dataclasses.asdict(job) | run_job(job, options.rounds)
        outcome = result.get("error") or f"{len(result['rows'])} rows"
        print(
            f"{k + 1}/{len(queue)} {job.key}: {outcome}, {result['seconds']} s",
            flush=True,
        )
        written.write(results, RESULT)
    print(f"wrote {RESULT.relative_to(HERE.parent)}.md and .json")


if __name__ == "__main__":
    main()
