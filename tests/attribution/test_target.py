"""Which score is explained, the module that computes it, and baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

import convscope as cs
from convscope._attribution.target import (
    AttributionTask,
    TargetScore,
    make_baseline,
    resolve_target,
)
from convscope._errors import ConvscopeError, UnknownLayer, UsageError

pytest.importorskip("captum.attr", reason="captum does the attributions")


def test_targets_by_number_name_and_address(model: Any, network: Any, values: Tensor) -> None:
    logits = network(values)[0]
    for target, index in ((1, 1), ("bee", 1), ("2", 2), ("BEE", 1), ("7", 3), (None, None)):
        result = cs.attribute(model, values, target, method="gradient_x_input")
        index = int(logits.argmax()) if index is None else index
        assert result.score == pytest.approx(float(logits[index]), rel=1e-5)
        assert result.probability == pytest.approx(float(logits.softmax(0)[index]), rel=1e-5)
    maps = network.conv2(torch.tanh(network.conv1(values)))[0]
    unit = cs.attribute(model, values, "conv2:4", method="gradient_x_input")
    assert (unit.target, unit.probability) == ("conv2:4", None)
    assert unit.score == pytest.approx(float(maps[4].mean()), rel=1e-4)
    position = cs.attribute(model, values, "conv2:4@1,3", method="gradcam", layer="conv1")
    assert position.score == pytest.approx(float(maps[4, 1, 3]), rel=1e-4)


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        (4, UsageError, "No class 4 in Smooth: it has 4, 0 to 3. See: convscope predict"),
        (-1, UsageError, "No class -1 in Smooth"),
        ("bea", UsageError, "'bea' is no class of Smooth and no address of a unit. Close: 'bee'"),
        ("conv1:9", UnknownLayer, "No channel 9 in 'conv1' of Smooth. Channels: 0 to 4"),
        ("conv9:1", UnknownLayer, "No layer 'conv9' in Smooth"),
        ("conv2", UsageError, "'conv2' is a layer, and one number is to be explained. Name a unit"),
    ],
)
def test_a_target_that_does_not_exist(
    model: Any, values: Tensor, target: Any, error: type[ConvscopeError], text: str
) -> None:
    with pytest.raises(error) as raised:
        cs.attribute(model, values, target)
    assert text in str(raised.value)


@pytest.mark.parametrize("target", [2, "conv2:4", "conv2:4@1,3", "conv1:0@0,0"])
def test_the_score_module_has_the_networks_gradient(
    model: Any, network: Any, values: Tensor, target: Any
) -> None:
    resolved = resolve_target(model, target, model.prepare(values))
    x = values.repeat(2, 1, 1, 1).requires_grad_()
    scores = TargetScore(model, resolved)(x)
    assert scores.shape == (2,)
    (found,) = torch.autograd.grad(scores.sum(), x)
    y = x.detach().clone().requires_grad_()
    first = network.conv1(y)
    second = network.conv2(torch.tanh(first))
    truth = {
        2: network(y)[:, 2],
        "conv2:4": second[:, 4].mean((1, 2)),
        "conv2:4@1,3": second[:, 4, 1, 3],
        "conv1:0@0,0": first[:, 0, 0, 0],
    }[target]
    torch.testing.assert_close(scores.detach(), truth.detach())
    (expected,) = torch.autograd.grad(truth.sum(), y)
    torch.testing.assert_close(found, expected)


def test_the_score_depends_on_the_activations_that_pass_through_the_layer(
    model: Any, network: Any, values: Tensor
) -> None:
    """What a hook on ``layer`` receives is what the gradient of the score is taken of."""
    resolved = resolve_target(model, 1, model.prepare(values))
    module, received = TargetScore(model, resolved, "conv2"), []
    module.layer.register_forward_hook(lambda _, __, output: received.append(output))
    score = module(values)
    (slope,) = torch.autograd.grad(score.sum(), received[0])
    maps = network.conv2(torch.tanh(network.conv1(values))).detach().requires_grad_()
    (truth,) = torch.autograd.grad(network.fc(torch.tanh(maps).mean((2, 3)))[0, 1], maps)
    torch.testing.assert_close(slope, truth)


def test_a_task_for_another_network_keeps_image_and_target(
    model: Any, network: nn.Module, values: Tensor
) -> None:
    batch = model.prepare(values)
    baseline, _ = make_baseline(model, batch, "zero")
    task = AttributionTask(model, batch, resolve_target(model, 1, batch), "conv2", baseline)
    halved = task.with_model(model.edited({"conv1": lambda maps: 0.5 * maps}))
    assert float(task.score(values)) == pytest.approx(float(network(values)[0, 1]), rel=1e-5)
    assert float(halved.score(values)) != pytest.approx(float(task.score(values)))
    assert halved.batch is batch
    assert not task.score(values).requires_grad


# Baselines


def test_a_baseline_for_numbers_is_zero_or_their_mean(model: Any, values: Tensor) -> None:
    batch = model.prepare(values)
    zero, name = make_baseline(model, batch, "zero")
    assert name == "zero"
    assert not zero.any()
    gray, name = make_baseline(model, batch, "gray")
    assert name == f"{float(values.mean()):.3g}"
    torch.testing.assert_close(gray, torch.full_like(values, float(values.mean())))


@pytest.mark.parametrize(
    ("kind", "name"), [("zero", "zero (black)"), ("gray", "gray"), ("blurred", "blurred image")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_baseline_for_an_image_is_made_of_pixels_and_preprocessed(
    image: Image.Image, kind: str, name: str, channels: int
) -> None:
    network = nn.Sequential(nn.Conv2d(channels, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    preprocess = cs.Preprocess(size=(32, 32), mean=(0.4,) * channels, std=(0.2,) * channels)
    model = cs.load(network, preprocess=preprocess, input=(channels, 32, 32))
    given = image if channels == 3 else image.convert("L")
    baseline, words = make_baseline(model, model.prepare(given), kind)
    assert words == name
    assert baseline.shape == (1, channels, 32, 32)
    pixels = np.asarray(
        {
            "zero": Image.new(given.mode, given.size),
            "gray": Image.new(given.mode, given.size, (128,) * channels if channels == 3 else 128),
            "blurred": given.filter(ImageFilter.GaussianBlur(3.2)),
        }[kind],
        np.float32,
    )
    truth = (pixels.reshape(32, 32, channels) / 255 - 0.4) / 0.2
    np.testing.assert_allclose(baseline[0].permute(1, 2, 0), truth, atol=1e-5)
