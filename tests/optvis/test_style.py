"""A picture takes another's style, and keeps its content; the model stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_dream import Detached, broken, network, state_of
from torch import nn

import convscope as cs
from convscope._errors import ConvscopeError, ModelError, UnknownLayer, UsageError
from convscope._models import Model
from convscope._optvis import OptimizationStep, style
from convscope._optvis.stylize.source_image import luminance
from convscope._optvis.stylize.style_statistics import style_distance, style_statistics

Loader = Callable[..., Model]
CHANCE = np.random.default_rng(0)
Y, X = np.mgrid[:72, :96]
CONTENT = np.stack([90 + 80.0 * ((Y - 36) ** 2 + (X - 48) ** 2 < 450)] * 3, 2).astype(np.uint8)
STRIPES = np.stack([255.0 * ((X + Y) % 6 < 3), 60.0 + 0 * X, 128.0 + 0 * X], 2).astype(np.uint8)
FEW = {"steps": 20, "octaves": 2, "layers": ["1", "4"], "content_layer": "4"}


def test_a_manner_is_the_covariance_and_the_mean() -> None:
    maps = torch.rand(1, 4, 5, 6)
    gram, mean = style_statistics(maps)
    flat = maps[0].flatten(1).numpy()
    np.testing.assert_allclose(gram, np.cov(flat, bias=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mean[:, 0], flat.mean(1), rtol=1e-5)


def test_distances_are_0_for_the_same_and_1_for_nothing_and_know_no_scale() -> None:
    maps, others = torch.rand(1, 4, 5, 6), torch.rand(1, 4, 8, 3)
    assert float(style_distance(maps, style_statistics(maps))) == 0
    assert float(style_distance(0 * maps, style_statistics(maps))) == pytest.approx(1)
    small, large = (
        float(style_distance(k * maps, style_statistics(k * others))) for k in (1, 1000)
    )
    assert small == pytest.approx(large, rel=1e-3)


@pytest.mark.parametrize("channels", [3, 1])
def test_the_style_comes_and_the_content_stays(small: Loader, channels: int) -> None:
    """Weighed more, the content is nearer, and the style less so."""
    model = small(network(channels), channels)
    some, more = (
        style(model, CONTENT, STRIPES, content_weight=weight, **{**FEW, "steps": 80})
        for weight in (0.02, 2.0)
    )
    (start, end), (none, moved) = some.measures.values()
    assert end < 0.35 * start
    assert none == pytest.approx(0, abs=1e-6)
    assert more.measures["content loss"][1] < 0.7 * moved
    assert more.measures["style loss"][1] > end
    assert some.values.shape == (channels, 72, 96)


def test_a_picture_in_its_own_style_hardly_changes(small: Loader) -> None:
    made = style(small(network()), CONTENT, CONTENT, **FEW)
    assert np.abs(made.values - made.before).mean() < 0.03


def test_the_contents_colors_can_be_kept(small: Loader) -> None:
    """Brightness alone changes: the differences between colors stay, clipping apart."""
    gray = (40 + CONTENT // 2 + np.array([20, 0, 40])).astype(np.uint8)
    made = style(small(network()), gray, STRIPES, colors="content", **FEW)
    inside = (made.values > 0.01).all(0) & (made.values < 0.99).all(0)
    assert inside.mean() > 0.5
    for a, b in ((0, 1), (1, 2)):
        was, now = (v[a] - v[b] for v in (made.before, made.values))
        np.testing.assert_allclose(now[inside], was[inside], atol=2.1 / 255)
    change = luminance(torch.from_numpy(made.values - made.before)[None])
    assert float(change.abs().mean()) > 0.02


def test_four_channels_and_their_sheet(small: Loader) -> None:
    content, manner = (CHANCE.random((4, 34, 47), np.float32) for _ in range(2))
    made = style(small(network(4), 4), content, manner, **FEW)
    assert made.values.shape == (4, 34, 47)
    assert len(made.sheet().sections[0].tiles) == 12


def test_a_smooth_picture_is_smoother(small: Loader) -> None:
    rough, smooth = (
        style(small(network()), CONTENT, STRIPES, smoothness=weight, **FEW) for weight in (0, 1)
    )
    variation = [np.square(np.diff(made.values, axis=2)).mean() for made in (rough, smooth)]
    assert variation[1] < 0.8 * variation[0]


def test_the_same_seed_gives_the_same_bits(small: Loader) -> None:
    few = {**FEW, "steps": 4}
    first, again, other = (
        style(small(network()), CONTENT, STRIPES, seed=seed, **few) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values != other.values).any()


def test_sizes_are_said(small: Loader) -> None:
    made = style(small(network()), CONTENT, STRIPES, size=64, style_scale=2.0, **FEW)
    assert made.values.shape == (3, 48, 64)
    assert made.settings["style image"] == "128×96"
    assert "image resized from 96×72" in made.sheet().description


def test_a_large_picture_is_reduced_and_said_to_be(small: Loader) -> None:
    large = np.zeros((8, 600, 3), np.uint8)
    made = style(
        small(network()), large, STRIPES, steps=1, octaves=1, layers="1", content_layer="4"
    )
    assert made.values.shape == (3, 7, 512)
    assert "resized from 600×8" in made.sheet().description


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt])
def test_the_model_is_left_as_found_and_what_is_done_is_kept(
    small: Loader, stop: type[BaseException] | None
) -> None:
    module = network().train()
    before, values = state_of(module), {k: v.clone() for k, v in module.state_dict().items()}

    def watch(step: OptimizationStep) -> None:
        assert step.total == 8
        assert step.images().shape == (1, 3, 72, 96)
        if stop and step.done == 3:
            raise stop

    made = style(small(module), CONTENT, STRIPES, on_step=watch, **{**FEW, "steps": 4})
    assert made.steps == len(made.curve) == (3 if stop else 8)
    assert state_of(module) == before
    assert all(torch.equal(v, values[k]) for k, v in module.state_dict().items())


def test_layers_are_chosen_by_depth() -> None:
    from convscope._optvis.stylize.default_layers import (
        layer_at_depth,
        layers_by_depth,
        shallow_layers,
    )

    model = cs.load("demo")
    known = layers_by_depth(model)
    assert known[0] == "stem"
    assert known[-1] == "stage2.second"
    assert layer_at_depth(known, 0.75) == "stage2.first"
    assert shallow_layers(known, 0.7, 3)[0] == "stem"
    assert len(shallow_layers(known, 0.7, 3)) == 3


@pytest.mark.parametrize(
    ("module", "options", "kind", "text"),
    [
        (network, {"layers": "conv9"}, UnknownLayer, "No layer 'conv9'"),
        (network, {"layers": "7"}, UsageError, "needs layers of maps; '7'"),
        (network, {"content_layer": "conv9"}, UnknownLayer, "No layer 'conv9'"),
        (network, {"steps": 0}, UsageError, "Nearest: 1"),
        (network, {"learning_rate": -1.0}, UsageError, "Usual: 0.05"),
        (network, {"content_weight": -1.0}, UsageError, "Nearest: 0"),
        (network, {"colors": "both"}, UsageError, "not 'both'"),
        (network, {"size": 1}, UsageError, "too small"),
        (Detached, {"layers": "conv", "content_layer": "conv"}, ModelError, "No gradient leads"),
        (broken, {}, ModelError, "may hold NaN"),
    ],
)
def test_what_cannot_be_is_one_line(
    small: Loader,
    module: Callable[[], nn.Module],
    options: dict[str, object],
    kind: type[Exception],
    text: str,
) -> None:
    with pytest.raises(kind) as error:
        style(small(module()), CONTENT, STRIPES, **{**FEW, "steps": 2, **options})
    assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ConvscopeError)


def test_a_gray_network_has_no_colors_to_keep(small: Loader) -> None:
    with pytest.raises(UsageError, match="no colors"):
        style(small(network(1), 1), CONTENT, STRIPES, colors="content", **FEW)
