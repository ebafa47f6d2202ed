"""The results as a table."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
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
ZOOS = (
    "torchvision",
    "keras.applications",
    "timm",
    "transformers",
    "segmentation-models-pytorch",
)
PACKAGES = ("torch", "torchvision", "timm", "keras", "transformers", "segmentation_models_pytorch")
ABOUT = """
Random weights, a process each. Two different images pass through each network. Every layer that
convscope lists, modules and functions, is recorded: its raw result must equal, to the last bit,
that of a plain hook on an untouched copy (of functions: that of a plain function recorder; of
Keras: that of its own sub-model), and in the standard layout an image's part of the batch what the
image gives alone. Detectors are given one image. One gradient is taken from the deepest layer to
the image; hooks, modes, flags, gradients and buffers are compared before and after.

*Right* counts layers of which all that holds, *no map* those of them that are marked as such.
*Refused* are those of which convscope says in words why it does not show them; *wrong* is what is
not as it should be and is not said. *Matched* are the functions that the recorder has under the
same caller and name; the others were compared by image alone.
"""


def commit() -> str:
    """The commit that is checked, with a plus where files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    where = ":/src"
    dirty = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", where], check=False)
    return (head.stdout.strip() or "unknown") + "+" * (dirty.returncode == 1)


def write(rows: Sequence[Row], folder: Path) -> None:
    """``sweep.md`` and ``sweep.json``; the counts are printed too."""
    versions = {package: version(package) for package in PACKAGES if find_spec(package)}
    zoos = {zoo: totals([row for row in rows if row["zoo"] == zoo]) for zoo in ZOOS}
    zoos = {zoo: total for zoo, total in zoos.items() if total["networks"]}
    plain = [{key: value for key, value in row.items() if key != "trace"} for row in rows]
    report = {"versions": versions, "counts": zoos, "networks": plain}
    (folder / "sweep.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "sweep.md").write_text(markdown(rows, versions, zoos))
    for zoo, total in zoos.items():
        print(f"{zoo}: {total['ok']} of {total['networks']} networks{_percent(total)}")


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """Networks and layers, by what was found of them."""
    run = [row for row in rows if "layers" in row]
    counts = {"networks": len(rows), "run": len(run), "ok": sum(row["ok"] for row in rows)}
    for word in ("layers", "functions", "matched", "right", "marked", "refused"):
        counts[word] = sum(row[word] for row in run)
    return counts | {"wrong": sum(len(row["wrong"]) for row in run)}


def _percent(total: dict[str, int], part: str = "ok", whole: str = "networks") -> str:
    return f" ({100 * total[part] / total[whole]:.2f} %)" if total[whole] else ""


def markdown(rows: Sequence[Row], versions: Row, zoos: dict[str, dict[str, int]]) -> str:
    """The table."""
    named = ", ".join(f"{package} {number}" for package, number in versions.items())
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    lines = [
        "# The sweep: any network",
        ABOUT,
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commits}: `python benchmarks/sweep` with {named}.",
        "",
        "| zoo | networks | run | right | layers | right | of these no map | refused | wrong | "
        "functions | matched |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_zoo_line(zoo, total) for zoo, total in zoos.items()),
        _zoo_line("all", totals(rows)),
        "",
        *_section("Wrong", [f"{_name(r)}: {_why(r)}" for r in rows if "layers" in r and r["why"]]),
        *_section("Not run", [f"{_name(r)}: {_why(r)}" for r in rows if "layers" not in r]),
        *_section("Refused, in words", _refusals(rows)),
        "| zoo | family | network | input | parameters | layers | right | refused | wrong | "
        "result | seconds |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---|---:|",
        *map(_line, rows),
    ]
    return "\n".join(lines) + "\n"


def _zoo_line(zoo: str, total: dict[str, int]) -> str:
    cells = (
        zoo,
        total["networks"],
        total["run"],
        f"**{total['ok']}**{_percent(total)}",
        f"{total['layers']:,}",
        f"**{total['right']:,}**{_percent(total, 'right', 'layers')}",
        f"{total['marked']:,}",
        f"{total['refused']:,}",
        total["wrong"],
        f"{total['functions']:,}",
        f"{total['matched']:,}{_percent(total, 'matched', 'functions')}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _section(title: str, entries: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {entry}" for entry in entries), ""] if entries else []


def _refusals(rows: Sequence[Row]) -> list[str]:
    """Each reason once, with the number of layers and some of the networks."""
    layers: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for row in rows:
        for reason, count in row.get("refusals", ()):
            layers[reason] += count
            where.setdefault(reason, []).append(_name(row))
    return [
        f"{reason}: {count:,} layers of {len(where[reason])} networks "
        f"({', '.join(where[reason][:6])}{', …' if len(where[reason]) > 6 else ''})"
        for reason, count in layers.most_common()
    ]


def _why(row: Row) -> str:
    """The reason in plain words, then the error."""
    known = (words for sign, words in EXPLANATIONS.items() if sign in row["why"])
    words = next(known, None)
    return f"{words} ({row['why']})" if words else str(row["why"])


def _name(row: Row) -> str:
    return f"`{row['spec'].replace(',weights=none', '')}`"


def _line(row: Row) -> str:
    run = "layers" in row
    result = "right" if row["ok"] else "wrong" if run else "not run"
    cells = (
        row["zoo"],
        row["family"],
        _name(row),
        row.get("input", ""),
        f"{row['parameters']:,}" if run else "",
        *(row.get(word, "") for word in ("layers", "right", "refused")),
        len(row["wrong"]) if run else "",
        result,
        row["seconds"],
    )
    return f"| {' | '.join(map(str, cells))} |"
