from __future__ import annotations

import inspect

import pytest

from convscope import _errors as errors
from convscope._errors import ConvscopeError, MissingDependency, closest, is_out_of_memory


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = inspect.getdoc(errors) or ""
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if kind.__module__ == errors.__name__:
            assert issubclass(kind, ConvscopeError)
            assert name in drawn


def test_a_missing_dependency_holds_the_command() -> None:
    assert str(MissingDependency("timm", "timm:resnet18", "timm")) == (
        "timm:resnet18 needs timm. Install it: pip install 'convscope[timm]'"
    )
    assert str(MissingDependency("ray", "--engine ray")).endswith("pip install 'ray'")


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("virids", ["viridis", "magma"], " Close: 'viridis'."),
        ("VGG61", ["vgg16", "resnet18"], " Close: 'vgg16'."),
        ("add", ["layer1.0.downsample/add_relu", "fc"], " Close: 'layer1.0.downsample/add_relu'."),
        ("zebra", ["conv1", "fc"], ""),
        ("", ["conv1", "fc"], ""),
        ("conv1", [], ""),
        ("it's", ["it is"], " Close: 'it is'."),
        ("line", ["line\n"], " Close: 'line\\n'."),
    ],
)
def test_closest(word: str, known: list[str], said: str) -> None:
    assert closest(word, known) == said


def test_equally_near_names_keep_their_order_and_far_ones_are_left_out() -> None:
    known = ["layer3.0.conv2x", "layer4.0.conv2", "layer4.1.conv2", "stem.bn"]
    assert closest("layer4.conv2", known).startswith(" Close: 'layer4.0.conv2', 'layer4.1.conv2'")
    assert "stem" not in closest("layer4.conv2", known)


def test_closest_gives_at_most_as_many_as_asked() -> None:
    known = [f"conv{k}" for k in range(9)]
    assert closest("conv", known).count("'") == 6
    assert closest("conv", known, limit=1) == " Close: 'conv0'."


def test_closest_takes_an_iterator_once() -> None:
    assert closest("maxpol", iter(["maxpool", "maxpool", "relu"])) == " Close: 'maxpool'."


def test_an_exception_that_comes_round_to_itself_is_no_endless_search() -> None:
    """A model that keeps one exception and raises it again makes such a chain."""
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert not is_out_of_memory(one)
