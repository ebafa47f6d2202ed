"""One network with the same weights in torch and in Keras: everything must agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_networks import TinyCNN
from torch import Tensor

COMMON = ["conv1", "relu1", "pool1", "conv2", "norm2", "relu2", "deep", "fc"]


def _same_images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 10, 14, generator=generator)
    return images, images.permute(0, 2, 3, 1).contiguous()


def _by_hand(tiny: TinyCNN, x: Tensor) -> dict[str, Tensor]:
    """The forward pass written out once more, every step on its own."""
    found = {}
    for name in COMMON[:-1]:
        module = getattr(tiny, name)
        x = torch.relu(x) if name == "relu1" else module(x)
        found[name] = x
    return found | {"fc": tiny.fc(x.mean((2, 3)))}


def test_every_layer_agrees_with_the_other_framework_and_with_a_pass_by_hand(
    torch_and_keras: tuple[Any, Any], tiny: TinyCNN
) -> None:
    first, last = _same_images()
    with torch.no_grad():
        truth = _by_hand(tiny, first)
    for model, images in zip(torch_and_keras, (first, last), strict=True):
        maps = model.activations(images, COMMON)
        assert list(maps) == COMMON
        for path in COMMON:
            assert maps[path].dtype == torch.float32
            torch.testing.assert_close(maps[path], truth[path], atol=1e-5, rtol=0)
        torch.testing.assert_close(model.logits(images), truth["fc"], atol=1e-5, rtol=0)


def test_shapes_and_weights_agree(torch_and_keras: tuple[Any, Any]) -> None:
    ours, theirs = torch_and_keras
    for path in COMMON:
        assert ours.layers[path].shape == theirs.layers[path].shape
    for path in ("conv1", "conv2", "deep", "fc"):
        np.testing.assert_array_equal(ours.weights(path), theirs.weights(path))
        assert ours.layers[path].parameters == theirs.layers[path].parameters
    assert ours.weights("conv2").shape == (8, 6, 3, 2)
    assert ours.weights("deep").shape == (8, 1, 3, 3)


def test_kernels_are_copies(torch_and_keras: tuple[Any, Any]) -> None:
    for model in torch_and_keras:
        for path in ("conv1", "fc"):
            kernel = model.weights(path)
            kernel[:] = 0
            assert model.weights(path).any()


def test_gradients_agree(torch_and_keras: tuple[Any, Any], tiny: TinyCNN) -> None:
    wanted = ["conv1", "conv2", "relu2", "deep"]
    first, last = _same_images()
    truth = _gradients_by_hand(tiny, first, wanted)
    for model, images in zip(torch_and_keras, (first, last), strict=True):
        images = images.clone().requires_grad_()
        maps = model.activations(images, [*wanted, "fc"], grad=True)
        kept = [maps[path] for path in wanted]
        *layers, pixels = torch.autograd.grad(maps["fc"].pow(2).sum(), [*kept, images])
        pixels = pixels if model is torch_and_keras[0] else pixels.permute(0, 3, 1, 2)
        torch.testing.assert_close(pixels, truth["input"], atol=1e-4, rtol=0)
        for path, gradient in zip(wanted, layers, strict=True):
            torch.testing.assert_close(gradient, truth[path], atol=1e-4, rtol=0)


def _gradients_by_hand(tiny: TinyCNN, images: Tensor, wanted: list[str]) -> dict[str, Tensor]:
    images = images.clone().requires_grad_()
    found = _by_hand(tiny, images)
    nodes = [images, *(found[path] for path in wanted)]
    gradients = torch.autograd.grad(found["fc"].pow(2).sum(), nodes)
    return dict(zip(["input", *wanted], gradients, strict=True))


def test_gradients_of_the_logits_reach_the_pixels(torch_and_keras: tuple[Any, Any]) -> None:
    found = []
    for model, images in zip(torch_and_keras, _same_images(), strict=True):
        pixels = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.logits(pixels, grad=True)[:, 1].sum(), pixels)
        found.append(gradient)
    torch.testing.assert_close(found[0], found[1].permute(0, 3, 1, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("index", [0, 1])
def test_an_image_is_preprocessed_alike(torch_and_keras: tuple[Any, Any], index: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 28, 3), np.uint8)
    model, reference = torch_and_keras[index], torch_and_keras[0]
    batch = model.prepare(image)
    assert batch.values.shape == (1, 3, 10, 14)
    torch.testing.assert_close(batch.values, reference.prepare(image).values)
    torch.testing.assert_close(model.logits(image), reference.logits(image), atol=1e-5, rtol=0)
