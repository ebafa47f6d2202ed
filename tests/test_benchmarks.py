"""The logic of the benchmarks, without timing: installation, verdicts, tables."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HERE = {"torch": "2.15.0", "numpy": "2.4.6", "nvidia-cudnn-cu13": "9.26"}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the benchmarks by name; what it imports of them is forgotten afterwards."""
    names = {path.stem for path in BENCHMARKS.glob("*.py")}
    before = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in names & sys.modules.keys():
        del sys.modules[name]
    sys.modules.update(before)


def pair(**changed: Any) -> dict[str, Any]:
    row = {
        "work": "a picture",
        "peer": "other",
        "ours": 1.0,
        "theirs": 2.0,
        "bare": None,
        "remark": "",
        "error": "",
    }
    return row | changed


def job(what: str, *rows: dict[str, Any], **changed: Any) -> dict[str, Any]:
    base = {"module": "m", "what": what, "peer": "", "device": "cpu", "seconds": 60}
    return base | {"rows": list(rows)} | changed


def test_torch_is_neither_replaced_nor_installed_a_second_time(benchmark: Any) -> None:
    peers = benchmark("peers")
    found = [
        ("torch", "2.0.1"),
        ("numpy", "2.4.6"),
        ("torch-lucent", "0.1.8"),
        ("nvidia-x", "1"),
        ("triton", "2.0"),
        ("Some_Package", "3"),
    ]
    assert peers.lacking(found, HERE) == ["torch-lucent==0.1.8", "Some_Package==3"]
    assert peers.replaced(found, HERE) == ["torch 2.15.0 by 2.0.1"]


def test_a_peer_that_cannot_be_installed_is_noted(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = benchmark("peers")

    def fail(_wanted: object) -> None:
        raise RuntimeError("No matching distribution found for gone")

    monkeypatch.setattr(peers, "resolve", fail)
    gone = peers.Peer("gone", "gone", ("gone",))
    assert peers.install(gone) == {"error": "No matching distribution found for gone"}
    assert peers.refused("gone")["error"] == "No matching distribution found for gone"


def test_a_peer_that_raises_is_noted_and_ours_goes_on(benchmark: Any) -> None:
    timing = benchmark("timing")

    def broken() -> None:
        raise ValueError("three\nchannels wanted")

    runs: list[int] = []
    found = timing.beside(
        "w", "p", timing.Setting(3), {"ours": lambda: runs.append(1)}, lambda: broken
    )
    assert found.error == "ValueError: three channels wanted"
    assert found.theirs is None
    assert len(runs) == 4  # one warm-up, three rounds


def test_contestants_take_turns(benchmark: Any) -> None:
    order: list[str] = []
    found = benchmark("timing").compare(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2
    )
    assert "".join(order) == "ababab"
    assert set(found) == {"a", "b"}


@pytest.mark.parametrize(
    ("measured", "least", "met"),
    [
        (1.1, False, True),
        (1.2, False, False),
        (1.1, True, False),
        (1.2, True, True),
        (None, False, None),
    ],
)
def test_a_budget_is_met_from_below_or_from_above(
    benchmark: Any, measured: float | None, least: bool, met: bool | None
) -> None:
    assert benchmark("timing").Budget("w", measured, 1.15, least=least).met is met


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (2.0, "**faster, × 2.0**"),
        (1.04, "equal (× 1.04)"),
        (0.96, "equal (× 0.96)"),
        (0.5, "**slower**, × 0.50"),
    ],
)
def test_verdict(benchmark: Any, theirs: float, said: str) -> None:
    assert benchmark("written").verdict(pair(theirs=theirs)) == said


def test_a_reason_is_given_only_where_convscope_is_slower(benchmark: Any) -> None:
    written = benchmark("written")
    name, why = next(iter(written.WHY.items()))
    assert written.remark(pair(peer=name, theirs=0.5, remark="r")) == f"r. {why}"
    assert written.remark(pair(peer=name, theirs=2.0, remark="r")) == "r"


def test_every_reason_belongs_to_something_that_is_measured(benchmark: Any) -> None:
    """A peer or a piece of work renamed would lose its explanation silently."""
    written = benchmark("written")
    rankers, capture, cold = (benchmark(name) for name in ("rankers", "capture", "cold"))
    known = {one.name for some in rankers.RANKERS.values() for one in some}
    known |= {route[0] for some in capture.ROUTES.values() for route in some} | {*cold.CAPTURES}
    assert set(written.WHY) <= known


def test_the_table_holds_all_results(benchmark: Any) -> None:
    written = benchmark("written")
    budget = {
        "work": "an optimization step",
        "measured": 1.38,
        "allowed": 1.15,
        "unit": "× bare",
        "least": False,
        "remark": "",
        "met": False,
    }
    click = budget | {"work": "click", "measured": 300.0, "allowed": 100, "unit": "ms"}
    found = {
        "pairs": job("pairs", pair(), pair(peer="broken", theirs=None, error="E: a|b")),
        "checks": job("checks", {"task": "q", "tool": "t", "correct": False, "result": "0.00"}),
        "sizes": job("sizes", {"tool": "t", "packages": 2, "MB": 7.4, "largest": {"p": 7}}),
        "budgets": job("budgets", budget),
        "clicks": job("budgets", click, load=9.0),
        "gone": job("pairs", error="longer than 420 s"),
    }
    text = "\n".join(written.lines(found, written.run_info()))
    for line in (
        "| a picture | other | 2.00 s | 1.00 s | **faster, × 2.0** |  |",
        "| a picture | broken | – | 1.00 s | not compared | E: a/b |",
        "| q | t | **no** | 0.00 |",
        "| t | 2 | 7 | p 7 |",
        "- `gone`: longer than 420 s",
        "On a GPU: nothing measured",
    ):
        assert line in text
    assert "misses by 200%: elapsed time, on a busy machine (load 9.0)" in text
    assert "| 1.38 × bare | ≤ 1.15 × bare | **no** | misses by 20%: the image itself" in text


def test_rows_of_a_gpu_stand_apart(benchmark: Any) -> None:
    written = benchmark("written")
    found = {"gpu": job("pairs", pair(), device="cuda")}
    text = "\n".join(written.lines(found, written.run_info()))
    assert "## Speed on a GPU" in text
    assert "nothing measured" not in text


def test_every_job_names_a_function_of_its_module(benchmark: Any) -> None:
    side = benchmark("side_by_side")
    waiting = list(side.jobs(set(), gpu=True))
    assert len({one.key for one in waiting}) == len(waiting)
    assert {one.device for one in waiting} == {"cpu", "cuda"}
    for one in waiting:
        assert callable(getattr(benchmark(one.module), one.what))
    assert {one.module for one in side.jobs({"render"}, gpu=False)} == {"render"}


def test_only_what_a_tool_needs_beside_torch_counts(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = benchmark("size")
    requires = {
        "torch": ["numpy"],
        "torchvision": ["torch"],
        "numpy": None,
        "unrelated": None,
        "tool": ["torch", "Light.One>=1", "extra; extra == 'docs'", "absent"],
        "light-one": None,
        "extra": None,
    }
    here = {name: SimpleNamespace(requires=wanted) for name, wanted in requires.items()}
    monkeypatch.setattr(size, "known", lambda _folders: here)
    monkeypatch.setattr(size, "bytes_of", lambda one: 5 if one is here["tool"] else 9)
    assert size.added(["tool"], []) == {"light-one": 9, "tool": 5}


def test_no_module_of_the_benchmarks_stays_behind(benchmark: Any) -> None:
    """The fixture's own promise: names as plain as ``scan`` must not reach other tests."""
    module = benchmark("timing")
    assert isinstance(module, ModuleType)
    assert Path(str(module.__file__)).parent == BENCHMARKS
