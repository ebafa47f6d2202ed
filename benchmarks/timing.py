"""Ratios on a shared machine: CPU time, the contestants in turn, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def compare(contestants: Mapping[str, Callable[[], object]], rounds: int = 9) -> dict[str, float]:
    """Median CPU seconds of each, run in turn for ``rounds`` after one warm-up each."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def table(title: str, medians: Mapping[str, float], against: str) -> None:
    """Print each median beside its ratio to ``against``."""
    print(f"\n{title}")
    for name, seconds in medians.items():
        print(f"  {name:<58} {1000 * seconds:9.1f} ms   × {seconds / medians[against]:.3f}")
