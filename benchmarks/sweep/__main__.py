"""Look into every network of torchvision and keras.applications, and into a sample of timm.

    python benchmarks/sweep [--only WORD] [--again] [--workers 2]

Random weights, a process of its own for each network. Results are appended to
``benchmarks/results/sweep.jsonl``; the same command goes on where it stopped, and ``--again`` runs
those once more that failed. At the end the table is written: ``sweep.md`` and ``sweep.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import table
import torch
from examine import Failed, examine
from names import Network, networks

RESULTS = Path(__file__).resolve().parents[1] / "results"
_processes = multiprocessing.get_context("fork")  # the frameworks are imported once, here


@dataclass
class Job:
    """One network in a process of its own."""

    network: Network
    seconds: float
    megabytes: int
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.answer, sender = _processes.Pipe(duplex=False)
        self.process = _processes.Process(target=work, args=(self.network, sender))
        self.process.start()
        sender.close()

    def result(self) -> dict[str, Any] | None:
        """How it went; ``None`` while it is running."""
        if self.answer.poll():
            try:
                found: dict[str, Any] = self.answer.recv()
            except EOFError:
                self.process.join()
                found = {"ok": False, "why": f"crashed with exit code {self.process.exitcode}"}
        elif time.monotonic() - self.begun > self.seconds:
            found = {"ok": False, "why": f"took longer than {self.seconds:.0f} s"}
        elif resident(self.process.pid) > self.megabytes:
            found = {"ok": False, "why": f"took more than {self.megabytes} MB of memory"}
        else:
            return None
        if "took" in found.get("why", ""):
            self.process.kill()
        self.process.join()
        return found | {"seconds": round(time.monotonic() - self.begun, 1)}


def work(network: Network, sender: Connection) -> None:
    """The process: examine, and send home what was found."""
    os.nice(5)
    torch.set_num_threads(1)
    try:
        sender.send({"ok": True} | examine(network))
    except Failed as error:
        sender.send({"ok": False, "why": str(error)})
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        sender.send({"ok": False, "why": why, "trace": traceback.format_exc()[-1500:]})


def resident(process: int | None) -> float:
    """Megabytes of memory in use (Linux; elsewhere there is no cap)."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def read(file: Path) -> dict[str, dict[str, Any]]:
    """The last line for each network."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {row["spec"]: row for row in map(json.loads, lines)}


def sweep(waiting: list[Network], file: Path, options: argparse.Namespace) -> None:
    """Run them all, a few at once."""
    running: list[Job] = []
    begun, done, total = time.monotonic(), 0, len(waiting)
    while waiting or running:
        while waiting and len(running) < options.workers:
            running.append(Job(waiting.pop(0), options.seconds, options.megabytes))
        time.sleep(0.1)
        for job in list(running):
            result = job.result()
            if result is None:
                continue
            running.remove(job)
            done += 1
            row = {"spec": job.network.spec, "zoo": job.network.zoo, "family": job.network.family}
            with file.open("a") as stream:
                stream.write(json.dumps(row | result) + "\n")
            left = (time.monotonic() - begun) / done * (total - done) / 60
            how = "ok" if result["ok"] else result["why"]
            print(f"{done}/{total}, {left:.0f} min left: {job.network.spec}: {how}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--again", action="store_true", help="once more those that failed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--megabytes", type=int, default=6000)
    parser.add_argument("--timm", type=int, default=160, help="how many networks of timm")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "sweep.jsonl"
    known = read(file)
    every = networks(options.timm)
    waiting = [
        one
        for one in every
        if options.only in one.spec
        and (one.spec not in known or (options.again and not known[one.spec]["ok"]))
    ]
    sweep(waiting, file, options)
    known = read(file)
    table.write([known[one.spec] for one in every if one.spec in known], RESULTS)


if __name__ == "__main__":
    main()
