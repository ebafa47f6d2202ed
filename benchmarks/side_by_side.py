"""The same work by convscope and by the tools that people use today: `make bench` runs this.

    python benchmarks/side_by_side.py [--gpu] [--only capture,cold] [--rounds 5]

Every pair of tools has a process of its own, one thread, and takes turns in it. Writes
``benchmarks/results/side-by-side.md`` and ``.json``; what is not measured again is kept.
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
    """A process: ``what`` of a module is asked (``pairs``, ``budgets``, …) about a peer."""

    module: str
    what: str
    peer: str = ""
    device: str = "cpu"

    @property
    def key(self) -> str:
        return "/".join(filter(None, (self.module, self.what, self.peer, self.device)))


def jobs(only: set[str], gpu: bool) -> Iterator[Job]:
    """Everything that is to be measured."""
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
            yield Job("correct", "answers", tool)
    if not only or "size" in only:
        yield Job("size", "sizes")


def work(job: Job, rounds: int) -> list[dict[str, Any]]:
    """In the process: what the job finds."""
    import torch
    from timing import Setting

    torch.set_num_threads(1)
    ask = getattr(importlib.import_module(job.module), job.what)
    setting = Setting(rounds, job.device)
    arguments = {"pairs": (job.peer, setting), "budgets": (setting,), "answers": (job.peer,)}
    found = ask(*arguments.get(job.what, ()))
    return [row if isinstance(row, dict) else _plain(row) for row in found]


def _plain(row: Any) -> dict[str, Any]:
    return dataclasses.asdict(row) | ({"met": row.met} if hasattr(row, "met") else {})


def ask(job: Job, rounds: int) -> dict[str, Any]:
    """The rows of a job, or the error that ended its process."""
    given = json.dumps(dataclasses.asdict(job))
    command = [sys.executable, "-W", "ignore", __file__, "--work", given, "--rounds", str(rounds)]
    threads = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    if job.device == "cpu":  # some tools take a GPU wherever there is one
        threads["CUDA_VISIBLE_DEVICES"] = ""
    start, load = time.monotonic(), round(os.getloadavg()[0], 1)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=threads, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {LONGEST} s", "rows": [], "seconds": LONGEST, "load": load}
    told = {"seconds": round(time.monotonic() - start, 1), "load": load}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1][:300], "rows": []} | told
    return {"rows": json.loads(done.stdout.splitlines()[-1])} | told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gpu", action="store_true", help="also on a GPU")
    parser.add_argument("--only", default="", help="modules, by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(Job(**json.loads(options.work)), options.rounds)))
        return
    gpu = options.gpu and has_gpu()
    if options.gpu and not gpu:
        print("no GPU that torch can use: the rows of --gpu are left out")
    measure(list(jobs(set(filter(None, options.only.split(","))), gpu)), options)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def measure(waiting: list[Job], options: argparse.Namespace) -> None:
    """One after the other; the table is written after each, so Ctrl-C loses only the last."""
    file = RESULT.with_suffix(".json")
    found = json.loads(file.read_text())["jobs"] if file.exists() else {}
    if not options.only:
        found = {}
    for k, job in enumerate(waiting):
        found[job.key] = dataclasses.asdict(job) | ask(job, options.rounds)
        how = found[job.key].get("error") or f"{len(found[job.key]['rows'])} rows"
        print(f"{k + 1}/{len(waiting)} {job.key}: {how}, {found[job.key]['seconds']} s", flush=True)
        written.write(found, RESULT)
    print(f"wrote {RESULT.relative_to(HERE.parent)}.md and .json")


if __name__ == "__main__":
    main()
