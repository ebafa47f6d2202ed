"""Record, check and differentiate every network of torchvision and Keras, and many of other zoos.

    python benchmarks/sweep [--only WORD] [--again] [--workers 2]

Of timm a sample, of transformers tiny configurations, of segmentation-models-pytorch each decoder;
the last two are left out where they are not installed (``pip install transformers
segmentation_models_pytorch``). Random weights, one process per network. Results are appended to
``benchmarks/results/sweep.jsonl``; the same command resumes where it stopped, also after Ctrl-C,
and ``--again`` repeats the networks that failed. At the end the table is written: ``sweep.md`` and
``sweep.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"
sys.path.insert(0, str(RESULTS.parents[1] / "tests" / "models"))  # the plain reference

import table  # noqa: E402
import torch  # noqa: E402
from check_network import CheckFailed, check_network  # noqa: E402
from networks import Network, networks  # noqa: E402

_processes = multiprocessing.get_context("fork")  # the frameworks are imported once, here


@dataclass
class Job:
    """One network in a process of its own."""

    network: Network
    seconds: float
    megabytes: int
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.receiver, sender = _processes.Pipe(duplex=False)
        self.process = _processes.Process(target=run_job, args=(self.network, sender))
        self.process.start()
        sender.close()

    def result(self) -> dict[str, Any] | None:
        """The result; ``None`` while it is running."""
        if self.receiver.poll():
            try:
                result: dict[str, Any] = self.receiver.recv()
            except EOFError:
                self.process.join()
                result = {"ok": False, "why": f"crashed with exit code {self.process.exitcode}"}
        elif time.monotonic() - self.started > self.seconds:
            result = {"ok": False, "why": f"took longer than {self.seconds:.0f} s"}
        elif resident(self.process.pid) > self.megabytes:
            result = {"ok": False, "why": f"took more than {self.megabytes} MB of memory"}
        else:
            return None
        if "took" in result.get("why", ""):
            self.process.kill()
        self.process.join()
        return result | {"seconds": round(time.monotonic() - self.started, 1)}


def run_job(network: Network, sender: Connection) -> None:
    """The process: check one network and send the result."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word
    os.nice(5)
    torch.set_num_threads(1)
    try:
        sender.send(check_network(network))
    except CheckFailed as error:
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
    """The last result of each network."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = map(json.loads, lines)
    return {row["spec"]: row for row in rows if "commit" in row}  # without: of older checks


def sweep(waiting: list[Network], file: Path, options: argparse.Namespace) -> None:
    """Run all networks that wait, a few at once."""
    running: list[Job] = []
    at = table.commit()
    started, done, total = time.monotonic(), 0, len(waiting)
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
            one = job.network
            row = {"spec": one.spec, "zoo": one.zoo, "family": one.family, "commit": at}
            with file.open("a") as stream:
                stream.write(json.dumps(row | result) + "\n")
            left = (time.monotonic() - started) / done * (total - done) / 60
            how = "ok" if result["ok"] else result["why"][:300]
            print(f"{done}/{total}, {left:.0f} min left: {job.network.spec}: {how}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="Only networks whose name contains this.")
    parser.add_argument("--again", action="store_true", help="Repeat the networks that failed.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--megabytes", type=int, default=6000)
    parser.add_argument("--timm", type=int, default=320, help="Number of networks of timm.")
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
    try:
        sweep(waiting, file, options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
    known = read(file)
    table.write([known[one.spec] for one in every if one.spec in known], RESULTS)


if __name__ == "__main__":
    main()
