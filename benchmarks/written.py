"""The results of the benchmarks as tables."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import peers

Row = Mapping[str, Any]
EQUAL = 0.05  # relative difference between two runs of the same code
PACKAGES = ("convscope", "torch", "torchvision", "captum", "numpy", "pillow", "matplotlib")
_COLD = (
    "nearly all of it is importing torch and torchvision; convscope also runs the network once to "
    "list its layers and receptive fields (0.1 s)"
)
# Why a peer is faster, where it is.
WHY = {
    "semanticlens ActMaxCache": "it stores one ranking, by peak, in bfloat16; convscope stores "
    "four exact ones with positions, histograms, moments, a sample and class means",
    "all kept, then argsort": "it stores one ranking, by peak, and holds all activations in memory",
    "TorchLens record": "the same work; recording differs by a few ms per pass",
    "a hook by hand": _COLD,
    "torchvision's extractor": _COLD,
    "captum LayerActivation": _COLD,
}
HEAD = """# Side by side

The same task by convscope and by another tool, in turns, in one process for each pair, on one
thread: medians of CPU seconds (on a GPU, of elapsed seconds). “× 2.0” means that the other tool
takes twice as long; differences within 5 % count as equal, because two runs of the same code
differ by as much. Networks have random weights unless stated otherwise.
"""


def write(jobs: Mapping[str, Row], path: Path) -> None:
    """Write ``path`` with the endings .md and .json."""
    about = run_info()
    path.parent.mkdir(exist_ok=True)
    whole = {"about": about, "installed": peers.recorded(), "jobs": jobs}
    path.with_suffix(".json").write_text(json.dumps(whole, indent=1, default=str) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines(jobs, about)) + "\n")


def run_info() -> dict[str, Any]:
    """Date, machine and versions."""
    names = [*PACKAGES, *(one.wanted[0].partition("==")[0] for one in peers.PEERS)]
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "GB": round(pages / 2**30),
        "python": platform.python_version(),
        "versions": {name: one for name in dict.fromkeys(names) if (one := _version(name))},
    }


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return named[0] if named else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        beside = [e for p in peers.recorded()["peers"].values() for e in p.get("beside", ())]
        plain = {peers.plain(one.partition("==")[0]): one.partition("==")[2] for one in beside}
        return plain.get(peers.plain(name), "")


def lines(jobs: Mapping[str, Row], about: Row) -> Iterator[str]:
    yield HEAD
    named = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    yield (
        f"{about['date']}; {about['processor']}, {about['cores']} cores, {about['GB']} GB; Python "
        f"{about['python']}, {named}. {sum(j['seconds'] for j in jobs.values()) / 60:.0f} minutes."
    )
    yield from busy(jobs)
    for device, title in (("cpu", "## Speed"), ("cuda", "## Speed on a GPU")):
        yield from speed([job for job in jobs.values() if job["device"] == device], title)
    if not any(job["device"] == "cuda" for job in jobs.values()):
        yield "\nOn a GPU: nothing measured (`make bench OPTIONS=--gpu` has not been run)."
    yield from checks(rows(jobs, "checks"))
    yield from sizes(rows(jobs, "sizes"))
    yield from budgets(rows(jobs, "budgets"))
    yield from errors(jobs)


def busy(jobs: Mapping[str, Row]) -> Iterator[str]:
    """A note where other processes kept the machine busy."""
    loads = sorted(job.get("load", 0) for job in jobs.values())
    if loads and loads[-1] > (os.cpu_count() or 1):
        yield (
            f"\nOther processes used this machine (load {loads[0]:.0f} to {loads[-1]:.0f}): "
            "elapsed times are too long, and ratios of memory-bound work too high."
        )


def rows(jobs: Mapping[str, Row], what: str) -> list[Row]:
    return [
        {"load": job.get("load", 0), **row}
        for job in jobs.values()
        if job["what"] == what
        for row in job["rows"]
    ]


def speed(jobs: Iterable[Row], title: str) -> Iterator[str]:
    found = [row for job in jobs if job["what"] == "pairs" for row in job["rows"]]
    if not found:
        return
    yield from (f"\n{title}\n", "| task | tool | tool | convscope | convscope is | |")
    yield "|---|---|---:|---:|---|---|"
    for row in sorted(found, key=_order(found)):
        yield f"| {row['work']} | {row['peer']} | {' | '.join(_cells(row))} |"


def _order(found: list[Row]) -> Any:
    """Sort pairs by task, in the order of first appearance."""
    works = list(dict.fromkeys(row["work"] for row in found))
    return lambda row: works.index(row["work"])


def _cells(row: Row) -> tuple[str, str, str, str]:
    if row["theirs"] is None:
        ours = f"{time_of(row['ours'])}" if row["ours"] else "–"
        return "–", ours, "not compared", row["error"].replace("|", "/")
    return time_of(row["theirs"]), time_of(row["ours"]), verdict(row), remark(row)


def time_of(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def verdict(row: Row) -> str:
    """Whether convscope is faster, and by how much."""
    ratio = row["theirs"] / row["ours"]
    if abs(ratio - 1) <= EQUAL:
        return f"equal (× {ratio:.2f})"
    return f"**faster, × {ratio:.1f}**" if ratio > 1 else f"**slower**, × {ratio:.2f}"


def remark(row: Row) -> str:
    """What the tool leaves out, and why it is faster where it is."""
    lost = row["theirs"] < (1 - EQUAL) * row["ours"]
    return ". ".join(filter(None, (row["remark"], WHY.get(row["peer"], "") if lost else "")))


def checks(found: list[Row]) -> Iterator[str]:
    if not found:
        return
    yield from ("\n## Correctness\n", "| task | tool | correct | result |")
    yield "|---|---|---|---|"
    tasks = list(dict.fromkeys(row["task"] for row in found))
    for row in sorted(found, key=lambda row: tasks.index(row["task"])):
        correct, result = "yes" if row["correct"] else "**no**", row["result"].replace("|", "/")
        yield f"| {row['task']} | {row['tool']} | {correct} | {result} |"


def sizes(found: list[Row]) -> Iterator[str]:
    if not found:
        return
    yield from ("\n## Size of an installation, beyond torch and torchvision\n",)
    yield from ("| tool | packages | MB on disk | largest packages |", "|---|---:|---:|---|")
    for row in sorted(found, key=lambda one: one["MB"]):
        largest = ", ".join(f"{name} {size}" for name, size in row["largest"].items())
        yield f"| {row['tool']} | {row['packages']} | {row['MB']:.0f} | {largest} |"


def budgets(found: list[Row]) -> Iterator[str]:
    if not found:
        return
    yield from ("\n## Performance budgets\n", "| task | measured | budget | met | |")
    yield "|---|---:|---:|---|---|"
    for row in found:
        met = {True: "yes", False: "**no**", None: "–"}[row["met"]]
        sign = "≥" if row["least"] else "≤"
        cells = (
            row["work"],
            amount(row["measured"], row["unit"]),
            f"{sign} {amount(row['allowed'], row['unit'])}",
            met,
            missed(row),
        )
        yield f"| {' | '.join(cells)} |"


def amount(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "× bare":
        return f"{value:.2f} × bare"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"


MISSED = {
    "up to the": "early layers take longer than their share of the FLOPs (large maps are "
    "memory-bound); torchvision's extractor, which stops there too, takes the same time",
    "scan, lists": "a scan reduces every map to its statistics (two sums, two extremes, a "
    "count), which is memory-bound (about 14 % on ResNet-50); the rankings add about 8 % after "
    "512 images, and less with more images",
    "scan, every": "the same reductions, and the rankings, which change less with more images",
    "an optimization step": "the image itself (Fourier transform, rotation, blur, Adam, each "
    "forward and backward) costs 5 to 6 ms at 224² for any network, and this network only 25 ms",
}


ON_THE_CLOCK = ("s", "ms")


def missed(row: Row) -> str:
    """By how much a budget is exceeded, and why."""
    if row["met"] is not False:
        return str(row["remark"])
    why = next((reason for start, reason in MISSED.items() if row["work"].startswith(start)), "")
    if row["unit"] in ON_THE_CLOCK and row["load"] > (os.cpu_count() or 1) / 2:
        why = f"elapsed time, on a busy machine (load {row['load']:.1f})"
    by = f"misses by {abs(row['measured'] / row['allowed'] - 1):.0%}"
    return ": ".join(filter(None, (by, "; ".join(filter(None, (why, row["remark"]))))))


def errors(jobs: Mapping[str, Row]) -> Iterator[str]:
    """What could not be installed or did not run."""
    noted = peers.recorded()
    failed = [f"- `{key}`: {job['error']}" for key, job in jobs.items() if job.get("error")]
    failed += [
        f"- {name}: {one['error']}" for name, one in noted["peers"].items() if one.get("error")
    ]
    if failed:
        yield from ("\n## Failures\n", *failed)
    if noted["others"]:
        yield from ("\n## Similar tools, not measured\n",)
        yield from (
            f"- {name} ({peers.OTHERS.get(name, '')}): {_refusal(one)}"
            for name, one in noted["others"].items()
        )


def _refusal(one: Row) -> str:
    if one["error"]:
        return f"pip: {one['error']}"
    if one["replaces"]:
        return f"would replace {', '.join(one['replaces'][:4])}"
    return "can be installed beside this torch"
