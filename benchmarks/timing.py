"""Median CPU times of functions that run in turns, so that ratios hold on a shared machine.

On a GPU, elapsed times with synchronization.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """The device, and the number of rounds after one warm-up."""

    rounds: int = 7
    device: str = "cpu"


@dataclass(frozen=True)
class Pair:
    """Seconds of the same task by convscope and by a peer, in turns in one process.

    ``bare``: the network alone. ``remark``: what the peer leaves out. ``error``: its exception.
    """

    work: str
    peer: str
    ours: float
    theirs: float | None
    bare: float | None = None
    remark: str = ""
    error: str = ""


@dataclass(frozen=True)
class Budget:
    """A performance budget: at most ``allowed`` (with ``least``, at least)."""

    work: str
    measured: float | None
    allowed: float
    unit: str = "×"
    least: bool = False
    remark: str = ""

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.allowed if self.least else self.measured <= self.allowed


def compare(
    contestants: Mapping[str, Run], rounds: int = 9, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each, run in turns for ``rounds`` after one warm-up each."""
    now = clock(device)
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = now()
            run()
            seconds[name].append(now() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def clock(device: str) -> Callable[[], float]:
    """CPU time of this process; on a GPU, elapsed time after synchronization."""
    if device == "cpu":
        return time.process_time

    def synchronized() -> float:
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronized


def beside(
    work: str,
    peer: str,
    setting: Setting,
    ours: Mapping[str, Run],
    theirs: Callable[[], Run],
    remark: str = "",
) -> Pair:
    """Time ``ours`` (and ``bare``, if given) in turns with what ``theirs`` prepares.

    If a peer raises, the error is recorded and ``ours`` is timed alone.
    """
    runs, error = dict(ours), ""
    try:
        runs["theirs"] = theirs()
        runs["theirs"]()
    except Exception as raised:  # of any kind that a peer raises
        runs.pop("theirs", None)
        error = one_line(raised)
    found = compare(runs, setting.rounds, setting.device)
    return Pair(work, peer, found["ours"], found.get("theirs"), found.get("bare"), remark, error)


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def table(title: str, medians: Mapping[str, float], against: str) -> None:
    """Print each median beside its ratio to ``against``."""
    print(f"\n{title}")
    for name, seconds in medians.items():
        print(f"  {name:<58} {1000 * seconds:9.1f} ms   × {seconds / medians[against]:.3f}")
