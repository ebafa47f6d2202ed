"""What was measured side by side, as one table."""

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
EQUAL = 0.05  # two runs of the same differ by about so much
PACKAGES = ("convscope", "torch", "torchvision", "captum", "numpy", "pillow", "matplotlib")
_COLD = (
    "nearly all of it is importing torch and torchvision; ours also runs the network once more to "
    "list its layers and where they look (0.1 s)"
)
# Why a peer is the quicker one, where it is.
WHY = {
    "semanticlens ActMaxCache": "it keeps one list, by peak, in bfloat16; ours keeps four exact "
    "ones with positions, histograms, moments, a sample and class means",
    "all kept, then argsort": "it keeps one list, by peak, and all activations in memory",
    "TorchLens record": "the same work; differences are of recording, some ms a pass",
    "a hook by hand": _COLD,
    "torchvision's extractor": _COLD,
    "captum LayerActivation": _COLD,
}
HEAD = """# Side by side

The same work by convscope and by other tools, in turn, in one process a pair, on one thread:
medians of CPU seconds (of a GPU, seconds on the clock). “× 2.0” is how many times as long the
other tool takes; within 5 % they count as equal, for two runs of the same differ by as much.
Networks have random weights unless said otherwise.
"""


def write(jobs: Mapping[str, Row], path: Path) -> None:
    """``path`` with .md and .json."""
    about = circumstances()
    path.parent.mkdir(exist_ok=True)
    whole = {"about": about, "installed": peers.recorded(), "jobs": jobs}
    path.with_suffix(".json").write_text(json.dumps(whole, indent=1, default=str) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines(jobs, about)) + "\n")


def circumstances() -> dict[str, Any]:
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
        yield "\nOn a GPU: nothing measured (`make bench OPTIONS=--gpu`; it has not been run yet)."
    yield from answers(rows(jobs, "answers"))
    yield from sizes(rows(jobs, "sizes"))
    yield from budgets(rows(jobs, "budgets"))
    yield from errors(jobs)


def busy(jobs: Mapping[str, Row]) -> Iterator[str]:
    """That others were at work, where they were: it is not to be held against anybody."""
    loads = sorted(job.get("load", 0) for job in jobs.values())
    if loads and loads[-1] > (os.cpu_count() or 1):
        yield (
            f"\nOthers were at work on this machine (load {loads[0]:.0f} to {loads[-1]:.0f}): times"
            " on the clock are too long, and ratios of work that memory limits too high."
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
    yield from (f"\n{title}\n", "| work | tool | tool | convscope | convscope is | |")
    yield "|---|---|---:|---:|---|---|"
    for row in sorted(found, key=_order(found)):
        yield f"| {row['work']} | {row['peer']} | {' | '.join(_compared(row))} |"


def _order(found: list[Row]) -> Any:
    """Pairs of one work together, the works as they come."""
    works = list(dict.fromkeys(row["work"] for row in found))
    return lambda row: works.index(row["work"])


def _compared(row: Row) -> tuple[str, str, str, str]:
    if row["theirs"] is None:
        ours = f"{time_of(row['ours'])}" if row["ours"] else "–"
        return "–", ours, "not compared", row["error"].replace("|", "/")
    return time_of(row["theirs"]), time_of(row["ours"]), verdict(row), remark(row)


def time_of(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def verdict(row: Row) -> str:
    """Who is quicker, and by how much."""
    ratio = row["theirs"] / row["ours"]
    if abs(ratio - 1) <= EQUAL:
        return f"equal (× {ratio:.2f})"
    return f"**quicker, × {ratio:.1f}**" if ratio > 1 else f"**slower**, × {ratio:.2f}"


def remark(row: Row) -> str:
    """What the tool leaves out, and why it wins where it does."""
    lost = row["theirs"] < (1 - EQUAL) * row["ours"]
    return ". ".join(filter(None, (row["remark"], WHY.get(row["peer"], "") if lost else "")))


def answers(found: list[Row]) -> Iterator[str]:
    if not found:
        return
    yield from ("\n## Is the answer right?\n", "| question | tool | right | what came |")
    yield "|---|---|---|---|"
    for row in sorted(found, key=_asked(found)):
        right = "yes" if row["right"] else "**no**"
        yield f"| {row['question']} | {row['tool']} | {right} | {row['said'].replace('|', '/')} |"


def _asked(found: list[Row]) -> Any:
    questions = list(dict.fromkeys(row["question"] for row in found))
    return lambda row: questions.index(row["question"])


def sizes(found: list[Row]) -> Iterator[str]:
    if not found:
        return
    yield from ("\n## What an installation adds to torch and torchvision\n",)
    yield from ("| tool | packages | MB on disk | the largest |", "|---|---:|---:|---|")
    for row in sorted(found, key=lambda one: one["MB"]):
        largest = ", ".join(f"{name} {size}" for name, size in row["largest"].items())
        yield f"| {row['tool']} | {row['packages']} | {row['MB']:.0f} | {largest} |"


def budgets(found: list[Row]) -> Iterator[str]:
    if not found:
        return
    yield from ("\n## The budgets of the design\n", "| work | measured | budget | met | |")
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
    "up to the": "early layers take more time than their share of the multiplications says (large "
    "maps: memory, not arithmetic); torchvision's extractor, which ends there too, takes the same",
    "scan, lists": "a scan reduces every map to all of its figures (two sums, two extremes, a "
    "count): memory, not arithmetic (about 14 % on ResNet-50); the lists add some 8 % after "
    "512 images, and less the more were seen",
    "scan, every": "the same reductions, and the lists, which change less the more were seen",
    "a step of ascent": "the picture itself (a Fourier transform, a turn, a blur, Adam, each there "
    "and back) costs 5 to 6 ms at 224² whatever the network, and this network only 25",
}


ON_THE_CLOCK = ("s", "ms")


def missed(row: Row) -> str:
    """By how much a budget is missed, and why."""
    if row["met"] is not False:
        return str(row["remark"])
    why = next((said for start, said in MISSED.items() if row["work"].startswith(start)), "")
    if row["unit"] in ON_THE_CLOCK and row["load"] > (os.cpu_count() or 1) / 2:
        why = f"on the clock, and others kept the machine busy (load {row['load']:.1f})"
    by = f"misses by {abs(row['measured'] / row['allowed'] - 1):.0%}"
    return ": ".join(filter(None, (by, "; ".join(filter(None, (why, row["remark"]))))))


def errors(jobs: Mapping[str, Row]) -> Iterator[str]:
    """What could not be installed, and what did not run."""
    noted = peers.recorded()
    failed = [f"- `{key}`: {job['error']}" for key, job in jobs.items() if job.get("error")]
    failed += [
        f"- {name}: {one['error']}" for name, one in noted["peers"].items() if one.get("error")
    ]
    if failed:
        yield from ("\n## What did not run\n", *failed)
    if noted["others"]:
        yield from ("\n## Of the same trade, not measured\n",)
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
