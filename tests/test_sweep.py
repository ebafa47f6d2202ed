"""The sweep finds what is wrong: its checks, with and without a planted defect."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope as cs

ROOT = Path(__file__).parents[1]
MODULES = ("references", "compare_layers", "table")


class Small(nn.Module):
    """A module, functions, and one result with the batch behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv(x)) + 1
        turned = y.permute(1, 0, 2, 3) * 2
        out: Tensor = self.head(turned.mean((2, 3)).T)
        return out


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its modules, imported past the networks of the zoos."""
    for folder in ("tests/models", "benchmarks/sweep"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "networks", SimpleNamespace(Network=object))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    for name in MODULES:
        sys.modules.pop(name, None)


NETWORK = SimpleNamespace(zoo="torchvision", one_by_one=False)


def compare(sweep: Any, model: cs.Model) -> Any:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return sweep.compare_layers.compare_layers(NETWORK, model, images)


def test_every_layer_and_function_is_right(sweep: Any) -> None:
    model = cs.load(Small(), input=(3, 8, 8))
    found = compare(sweep, model)
    assert not found.wrong
    assert not found.refused
    assert found.right == [layer.path for layer in model.layers]
    assert found.matched == sum(layer.function for layer in model.layers) > 3


@pytest.mark.parametrize("path", ["conv", "/add"])
def test_a_value_of_another_bit_is_found(sweep: Any, path: str) -> None:
    model = cs.load(Small(), input=(3, 8, 8)).edited({path: lambda t: t + 1e-6})
    assert path in compare(sweep, model).wrong


def test_an_image_that_gets_another_ones_part_is_found(
    sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cs.load(Small(), input=(3, 8, 8))
    own = cs.Model.activations

    def exchanged(self: Any, images: Any, layers: Any, **options: Any) -> dict[str, Tensor]:
        results = own(self, images, layers, **options)
        return results if options.get("raw") else {k: v.flip(0) for k, v in results.items()}

    monkeypatch.setattr(cs.Model, "activations", exchanged)
    found = compare(sweep, model)
    assert "image 0 alone differs from the batch" in found.wrong["conv"]


def test_one_layer_that_is_refused_takes_no_other_down(
    sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cs.load(Small(), input=(3, 8, 8))
    own = cs.Model.activations

    def refusing(self: Any, images: Any, layers: Any, **options: Any) -> dict[str, Tensor]:
        if "relu" in layers:
            raise cs.ConvscopeError("not this one")
        return own(self, images, layers, **options)

    monkeypatch.setattr(cs.Model, "activations", refusing)
    found = compare(sweep, model)
    assert found.refused == {"relu": "not this one"}
    assert len(found.right) == len(model.layers) - 1


def test_what_no_layer_lists_is_found(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cs.load(Small(), input=(3, 8, 8))
    fewer = [layer for layer in model.layers if layer.path != "relu"]
    monkeypatch.setitem(vars(model), "layers", type(model.layers)(fewer, model.name))
    assert compare(sweep, model).wrong == {"relu": "is not listed"}


def test_the_table_names_what_is_wrong_refused_and_not_run(sweep: Any) -> None:
    counts = {"layers": 4, "functions": 2, "matched": 1, "right": 2, "marked": 1, "refused": 1}
    shared = {"zoo": "timm", "family": "vit", "commit": "abc", "seconds": 1.0}
    run = shared | counts | {"parameters": 7, "input": "3×8×8"}
    rows = [
        run
        | {"spec": "timm:a,weights=none", "ok": False, "why": "conv differs"}
        | {"wrong": {"conv": "differs"}, "refusals": [["no image", 1]]},
        shared | {"spec": "timm:b", "ok": False, "why": "took longer than 120 s"},
    ]
    text = sweep.table.markdown(rows, {"torch": "2"}, {"timm": sweep.table.totals(rows)})
    assert "commit abc" in text
    assert "| timm | 2 | 1 | **0** (0.00 %) | 4 | **2** (50.00 %) | 1 | 1 | 1 | 2 |" in text
    assert "- `timm:a`: conv differs" in text
    assert "- `timm:b`: too much arithmetic" in text
    assert "- no image: 1 layers of 1 networks (`timm:a`)" in text
