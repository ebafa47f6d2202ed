"""Random networks of odd modules under observation: 2,000 of them, and 2,000 passes in threads.

    python benchmarks/odd_networks.py [--count 2000] [--passes 2000] [--workers 2] [--again]

Each network is compared with plain hooks on another one made alike (``tests/models/odd_check.py``).
Results are appended to ``benchmarks/results/odd_networks.jsonl``; the same command resumes where it
stopped, also after Ctrl-C; another commit begins anew, and so does ``--again``. At the end the
table is written: ``odd_networks.md``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "tests" / "models"))

import torch  # noqa: E402
from odd_check import check  # noqa: E402
from odd_networks import PENDING, build  # noqa: E402
from odd_steps import STEPS  # noqa: E402
from odd_threads import wrong_passes  # noqa: E402

SIZES = ((8, 12), (12, 8), (8, 16), (16, 12))
Row = dict[str, Any]


def look(seed: int) -> Row:
    """One network: how many of its results are right, marked as no map, or refused."""
    random = Random(seed)
    kinds = [kind for kind in STEPS if kind not in PENDING]
    count = random.randint(1, 9)
    plan = (
        random.choice(SIZES),
        tuple((random.choice(kinds), random.randint(0, 999)) for _ in range(count)),
    )
    images = torch.rand(3, 3, *plan[0], generator=torch.Generator().manual_seed(seed))
    try:
        report = check(lambda: build(plan), images)
    except Exception as error:
        return {"seed": seed, "wrong": [f"{type(error).__name__}: {error}"], "plan": plan}
    row: Row = {"seed": seed, "kinds": build(plan).kinds, "wrong": report.wrong}
    for word in ("right", "no map", "refused"):
        row[word] = report.count(word)
    row["layers"] = len(report.layers)
    return row | ({"plan": plan} if report.wrong else {})


def start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    torch.set_num_threads(1)


def commit() -> str:
    """The commit that is looked at, with a plus where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "tests"], check=False)
    return (head.stdout.strip() or "unknown") + "+" * (dirty.returncode == 1)


def read(file: Path, at: str) -> dict[int, Row]:
    """The results of this commit by seed."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = (json.loads(line) for line in lines)
    return {row["seed"]: row for row in rows if row.get("commit") == at}


def look_at(seeds: Sequence[int], file: Path, at: str, workers: int) -> None:
    """Look at all these networks, a line of the file each."""
    started, wrong = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, start_worker) as pool:
        for done, row in enumerate(pool.imap_unordered(look, seeds), 1):
            with file.open("a") as stream:
                stream.write(json.dumps({"commit": at} | row) + "\n")
            for problem in row["wrong"]:
                print(f"network {row['seed']}: {problem}", flush=True)
            wrong += bool(row["wrong"])
            if done % 20 == 0 or done == len(seeds):
                left = (time.monotonic() - started) / done * (len(seeds) - done) / 60
                print(f"{done}/{len(seeds)}, {wrong} wrong, {left:.0f} min left", flush=True)


def table(rows: Sequence[Row], threads: list[str], passes: int, at: str) -> str:
    """The results in Markdown."""
    total = {word: sum(row.get(word, 0) for row in rows) for word in WORDS}
    bad = [row for row in rows if row["wrong"]]
    lines = [
        "# Odd networks",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {at}, torch {torch.__version__}:"
        " `python benchmarks/odd_networks.py`.",
        "",
        "| | number |",
        "|---|---:|",
        f"| networks | {len(rows)} |",
        f"| networks with something wrong and unsaid | {len(bad)} |",
        *(f"| results: {WORDS[word]} | {total[word]} |" for word in WORDS),
        f"| passes in each of two threads, beside the owner's own training | {passes} |",
        f"| wrong among them | {len(threads)} |",
        "",
        f"Kinds of steps that are not generated yet: {', '.join(PENDING) or 'none'}.",
        "",
        "| step | networks with it | with something wrong |",
        "|---|---:|---:|",
        *steps_table(rows),
        "",
        *(f"- network {row['seed']}: {row['wrong'][0]}" for row in bad[:50]),
    ]
    return "\n".join(lines).rstrip() + "\n"


WORDS = {
    "layers": "compared",
    "right": "right",
    "no map": "right, and marked as no map",
    "refused": "refused in words",
}


def steps_table(rows: Sequence[Row]) -> Iterator[str]:
    used = Counter(kind for row in rows for kind in set(row.get("kinds", ())))
    wrong = Counter(kind for row in rows if row["wrong"] for kind in set(row.get("kinds", ())))
    for kind, count in sorted(used.items()):
        yield f"| {kind} | {count} | {wrong[kind]} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=2000, help="Number of networks.")
    parser.add_argument("--passes", type=int, default=2000, help="Number of passes of a thread.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="Forget what was found before.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder of the table.")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    file, at = options.results / "odd_networks.jsonl", commit()
    if options.again:
        file.unlink(missing_ok=True)
    known = read(file, at)
    try:
        look_at([n for n in range(options.count) if n not in known], file, at, options.workers)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
        return 130
    rows = [row for seed, row in sorted(read(file, at).items()) if seed < options.count]
    threads = wrong_passes(options.passes)
    (options.results / "odd_networks.md").write_text(table(rows, threads, options.passes, at))
    bad = sum(bool(row["wrong"]) for row in rows)
    print(f"{len(rows)} networks, {bad} wrong; {options.passes} passes, {len(threads)} wrong")
    return int(bool(bad or threads))


if __name__ == "__main__":
    sys.exit(main())
