"""Ratios on a shared machine: CPU time, the contestants in turn, medians. On a GPU the clock on the
wall, the device waited for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """Where and how often; ``rounds`` after one warm-up."""

    rounds: int = 7
    device: str = "cpu"


@dataclass(frozen=True)
class Pair:
    """The same work by convscope and by a peer, in turn in one process: seconds.

    ``bare``: the network alone, where there is one. ``remark``: what the peer does not do, or why
    it wins. ``error``: one line, where it raised.
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
    """A row of the design's budgets: at most ``allowed`` (at least, where ``least``)."""

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
    """Median seconds of each, run in turn for ``rounds`` after one warm-up each."""
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
    """CPU time of this process; on a GPU the wall's, once all that was begun there is done."""
    if device == "cpu":
        return time.process_time

    def waited() -> float:
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    return waited


def beside(
    work: str,
    peer: str,
    setting: Setting,
    ours: Mapping[str, Run],
    theirs: Callable[[], Run],
    remark: str = "",
) -> Pair:
    """``ours`` (and perhaps ``bare``) in turn with what ``theirs`` prepares.

    A peer that raises is noted, and ours goes on alone.
    """
    runs, error = dict(ours), ""
    try:
        runs["theirs"] = theirs()
        runs["theirs"]()
    except Exception as raised:  # whatever a peer does not bear
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
