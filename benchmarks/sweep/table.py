"""The results as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

Row = dict[str, Any]
EXPLANATIONS = {
    "not available with the torch backend": "Keras itself refuses to build it on its torch "
    "backend, for a bug of Keras; with KERAS_BACKEND=jax it is built and analyzed",
    "took longer than": "too much arithmetic for this machine within the time allowed; "
    "--again --seconds 600 runs it",
    "of memory": "larger than the memory allowed; --again --megabytes 16000 runs it",
}
ZOOS = ("torchvision", "keras.applications", "timm")
PACKAGES = ("torch", "torchvision", "timm", "keras")


def write(rows: Sequence[Row], folder: Path) -> None:
    """``sweep.md`` and ``sweep.json``; the counts are printed too."""
    versions = {package: version(package) for package in PACKAGES}
    counts = {zoo: _count([row for row in rows if row["zoo"] == zoo]) for zoo in ZOOS}
    plain = [{key: value for key, value in row.items() if key != "trace"} for row in rows]
    report = {"versions": versions, "counts": counts, "networks": plain}
    (folder / "sweep.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "sweep.md").write_text(_markdown(rows, versions, counts))
    for zoo, (good, total) in counts.items():
        print(f"{zoo}: {good} of {total}{_percent(good, total)}")


def _count(rows: Sequence[Row]) -> tuple[int, int]:
    return sum(row["ok"] for row in rows), len(rows)


def _percent(good: int, total: int) -> str:
    return f" ({100 * good / total:.1f} %)" if total else ""


def _markdown(rows: Sequence[Row], versions: Row, counts: dict[str, tuple[int, int]]) -> str:
    named = ", ".join(f"{package} {number}" for package, number in versions.items())
    lines = [
        "# The sweep: any network",
        "",
        "Random weights, a process each. Every convolution is recorded (where there are fewer than",
        "three, also every module with maps or tokens) and compared with an independent recording;",
        "one gradient is taken from the deepest recorded layer to the image; and hooks, modes,",
        "flags, gradients and buffers are compared before and after.",
        "",
        f"`python benchmarks/sweep` with {named}.",
        "",
        *(
            f"- {zoo}: **{good} of {all_}**{_percent(good, all_)}"
            for zoo, (good, all_) in counts.items()
        ),
        "",
        *_failures(rows),
        "| zoo | family | network | input | parameters | layers | convolutions | recorded | "
        "result | seconds |",
        "|---|---|---|---|---:|---:|---:|---:|---|---:|",
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _failures(rows: Sequence[Row]) -> list[str]:
    failed = [row for row in rows if not row["ok"]]
    if not failed:
        return []
    return ["## What failed, and why", "", *(f"- {_name(r)}: {_why(r)}" for r in failed), ""]


def _why(row: Row) -> str:
    """The reason in plain words, then the error."""
    known = (words for sign, words in EXPLANATIONS.items() if sign in row["why"])
    words = next(known, None)
    return f"{words} ({row['why']})" if words else str(row["why"])


def _name(row: Row) -> str:
    return f"`{row['spec'].replace(',weights=none', '')}`"


def _line(row: Row) -> str:
    result = "ok" if row["ok"] else row["why"].replace("|", "/")
    parameters = f"{row['parameters']:,}" if "parameters" in row else ""
    cells = (
        row["zoo"],
        row["family"],
        _name(row),
        row.get("input", ""),
        parameters,
        row.get("layers", ""),
        row.get("convolutions", ""),
        row.get("recorded", ""),
        result,
        row["seconds"],
    )
    return f"| {' | '.join(map(str, cells))} |"
