"""Random networks of odd modules: no wrong value, no result of another image, nothing changed.

``python benchmarks/odd_networks.py`` (``make evidence``) looks at 2,000 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import plain_reference as plain
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from odd_check import check
from odd_meaning import Atom, Dim, Meaning, image_map, standard, standards
from odd_networks import PENDING, Plan, build, plans
from odd_steps import RETURNED, STEPS
from odd_threads import wrong_passes
from torch import nn

QUIET = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def assert_right(plan: Plan) -> None:
    generator = torch.Generator().manual_seed(len(plan[1]))
    images = torch.rand(3, 3, *plan[0], generator=generator)
    report = check(lambda: build(plan), images)
    assert report.wrong == []
    assert report.layers


@settings(QUIET, max_examples=15)
@given(plans(4))
def test_a_few_odd_networks(plan: Plan) -> None:
    assert_right(plan)


@pytest.mark.slow
@settings(QUIET, max_examples=200)
@given(plans())
def test_many_odd_networks(plan: Plan) -> None:
    assert_right(plan)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in STEPS if kind not in PENDING])
def test_each_kind_of_step_alone(kind: str) -> None:
    for salt in range(2):
        assert_right(((8, 12), ((kind, salt),)))


@pytest.mark.slow
def test_two_threads_and_the_owners_own() -> None:
    assert wrong_passes(200) == []


def test_a_few_passes_in_two_threads_and_the_owners_own() -> None:
    assert wrong_passes(12) == []


# --- the generator itself


def test_the_same_plan_is_the_same_network() -> None:
    plan: Plan = ((8, 12), (("conv", 1), ("windows", 2), ("linear", 3), ("parametrized", 4)))
    one, other = build(plan).module.eval(), build(plan).module.eval()
    images = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        assert torch.equal(one(images), other(images))
    assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}


@pytest.mark.parametrize("kind", [kind for kind in STEPS if kind != "restored"])
def test_steps_state_the_shape_of_what_they_return(kind: str) -> None:
    for salt in range(4):
        made = build(((8, 12), ((kind, salt),)))
        for count in (1, 2, 3):
            with torch.no_grad():
                results, _, output = plain.record(made.module.eval(), torch.rand(count, 3, 8, 12))
            assert output.shape == (count, 5)
            for path, meaning in made.meanings.items():
                for size, dim in zip(results[path].shape, meaning.dims, strict=True):
                    sizes = [count if atom.kind == "n" else atom.size for atom in dim.atoms]
                    assert size == dim.apart + prod(sizes), path


def test_the_standard_layout_of_windows_is_the_map_they_were_cut_from() -> None:
    images = torch.rand(2, 4, 8, 12)
    cut = images.view(2, 4, 2, 4, 3, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 4)
    outer = Dim((Atom("n", -1), Atom("h", 2), Atom("w", 3)))
    inner = Dim((Atom("h", 4, 1), Atom("w", 4, 1)))
    meaning = Meaning((outer, inner, Dim((Atom("c", 4),))))
    assert torch.equal(standard(cut, meaning), images)
    rolled = Meaning(image_map(4, 8, 12).dims, (("h", 1), ("w", -2)))
    turned = torch.roll(images, (1, -2), (2, 3))
    assert any(torch.equal(one, images) for one in standards(turned, rolled))


@pytest.mark.parametrize("name", RETURNED)
def test_the_reference_finds_and_replaces_tensors_in_any_block(name: str) -> None:
    wrap, unwrap = RETURNED[name]
    tensor = torch.rand(2)
    found = plain.first(wrap(tensor))
    assert found is tensor
    assert torch.equal(unwrap(plain.replaced(wrap(tensor), tensor, tensor * 0)), tensor * 0)


def test_the_reference_sees_what_changes() -> None:
    part = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    changes: list[Callable[[], object]] = [
        lambda: part[0].weight.data.mul_(2),
        lambda: part[0].register_forward_hook(lambda *_: None),
        lambda: part[0].weight.requires_grad_(False),
        lambda: part[1].running_mean.add_(1),
        lambda: part.eval(),
        lambda: setattr(part[1], "note", 1),
    ]
    for change in changes:
        before = plain.state(part)
        assert plain.changed(before, plain.state(part)) == []
        change()
        assert plain.changed(before, plain.state(part)) != []


def test_functions_are_recorded_by_the_module_that_calls_them() -> None:
    made = build(((8, 12), (("used again", 0),)))
    images = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        _, functions, _ = plain.record(made.module.eval(), images, ["s1/relu", "/mean"])
    assert {key: len(found) for key, found in functions.items()} == {
        ("s1", "relu"): 1,
        ("", "mean"): 1,
    }
    assert plain.function_key("a.b/__setitem__#2") == ("a.b", "setitem")
    assert plain.function_key("/chunk[1]") == ("", "chunk")
