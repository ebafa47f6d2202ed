"""Networks of volumes: what they compute, on every path that images take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ImageError, ModelError, UsageError
from convscope._models import stack_slices

SHAPE = (2, 6, 8, 10)  # channels, slices, height, width


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(4, 5, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    ).eval()


@pytest.fixture
def model() -> cs.Model:
    return cs.load(network(), input=SHAPE)


@pytest.fixture
def volumes() -> list[Any]:
    random = np.random.default_rng(0)
    return [random.normal(size=SHAPE).astype(np.float32) for _ in range(12)]


def test_activations_are_the_network_s_own(model: cs.Model, volumes: list[Any]) -> None:
    plain = network()
    batch = torch.from_numpy(np.stack(volumes))
    found = model.activations(volumes, ["0", "3", "7"])
    with torch.no_grad():
        assert torch.equal(found["0"], plain[0](batch))
        assert torch.equal(found["3"], plain[:4](batch))
        assert torch.equal(found["7"], plain(batch))
    assert model.layers["3"].shape == (5, 3, 4, 5)
    assert "input 2×6×8×10" in repr(model)


def test_gradients_reach_the_volume(model: cs.Model, volumes: list[Any]) -> None:
    batch = model.prepare(volumes[0])
    values = batch.values.requires_grad_()
    model.activations(batch, ["3"], grad=True)["3"].sum().backward()
    assert values.grad is not None
    one = torch.from_numpy(volumes[0])[None].requires_grad_()
    network()[:4](one).sum().backward()
    assert one.grad is not None
    torch.testing.assert_close(values.grad, one.grad.flatten(2, 3))


def test_maps_are_slices_one_below_the_other(model: cs.Model, volumes: list[Any]) -> None:
    maps = cs.feature_maps(model, volumes[0], ["0", "3"])
    with torch.no_grad():
        expected = network()[0](torch.from_numpy(volumes[0])[None])[0].numpy()
    np.testing.assert_array_equal(maps["0"].values.reshape(4, 6, 8, 10), expected)
    assert any("6 slices, one below the other" in line for line in maps["0"].grid().lines)
    assert maps["3"].overlay(first=2).image.height > 0


def test_slices_lie_over_the_slices_they_stand_for() -> None:
    slices = np.arange(3)[:, None, None] * np.ones((3, 2, 4))
    over = stack_slices(slices, 6)
    assert over.shape == (12, 4)
    assert over[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(
        stack_slices(torch.from_numpy(slices), 3), torch.from_numpy(slices).flatten(0, 1)
    )


def test_a_scan_of_volumes(model: cs.Model, volumes: list[Any], tmp_path: Path) -> None:
    atlas = cs.scan(model, volumes, tmp_path / "atlas", ["0", "3"], top=4, batch=4)
    with torch.no_grad():
        found = network()[:4](torch.from_numpy(np.stack(volumes))).flatten(2)
    peaks = found.amax(2).numpy()
    for channel in range(5):
        expected = np.argsort(-peaks[:, channel], kind="stable")[:4]
        top = atlas[f"3:{channel}"].top(by="peak")
        assert [int(one.id) for one in top] == expected.tolist()
    lines = atlas["3:1"].sheet(by="peak").lines
    assert any("6 slices, one below the other; channel 0 of 2" in line for line in lines)


def test_grad_cam_on_a_volume_finds_the_slice(tmp_path: Path) -> None:
    """The network counts what is bright in the second half of the slices."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 1, (1, 3, 3), padding=(0, 1, 1), bias=False)
            nn.init.constant_(self.conv.weight, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            maps = torch.relu(self.conv(x))
            late, early = maps[:, :, 3:].mean((1, 2, 3, 4)), maps[:, :, :3].mean((1, 2, 3, 4))
            return torch.stack([late, early], 1)

    pytest.importorskip("captum")
    volume = np.zeros((1, 6, 8, 10), np.float32)
    volume[0, 4, 2:5, 3:6] = 1
    why = cs.attribute(
        cs.load(Half(), input=(1, 6, 8, 10)), volume, 0, method="integrated_gradients"
    )
    values = np.abs(why["integrated_gradients"].values).reshape(6, 8, 10)
    assert values[4].sum() == pytest.approx(values.sum())
    seen = cs.attribute(
        cs.load(network(), input=SHAPE), np.ones(SHAPE, np.float32), 0, method="gradcam", layer="3"
    )
    assert seen["gradcam"].values.shape == (18 * 4 // 3, 5)


def test_an_optimized_volume_raises_its_unit(model: cs.Model) -> None:
    seen = cs.maximize(model, "3:2", steps=24)
    start = model.activations(np.full(SHAPE, 0.5, np.float32), "3")["3"][0, 2].mean()
    assert seen.activation > float(start)
    assert seen.values.shape == (2, 48, 10)


def test_a_keras_network_of_volumes_knows_its_input_shape() -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    live = keras.Sequential(
        [
            keras.layers.Input((6, 8, 10, 2)),
            keras.layers.Conv3D(4, 3, padding="same", name="conv"),
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(3),
        ]
    )
    model = cs.load(live)
    assert "input 2×6×8×10" in repr(model)
    volume = np.random.default_rng(1).normal(size=(6, 8, 10, 2)).astype(np.float32)
    found = model.activations(volume, "conv")["conv"]
    assert found.shape == (1, 4, 6, 8, 10)
    expected = keras.ops.convert_to_numpy(live.layers[0](volume[None]))
    np.testing.assert_allclose(found.movedim(1, -1).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        (
            lambda model: model.predict(np.zeros((2, 5, 8, 10), np.float32)),
            ImageError,
            "An array of float32 of shape (2, 5, 8, 10) has 5 slices where Sequential takes 6.",
        ),
        (
            lambda model: model.predict(np.zeros((8, 10, 3), np.uint8)),
            ImageError,
            "Sequential takes volumes, not images. Give a float array (2, 6, height, width)",
        ),
        (
            lambda model: cs.maximize(model, "3:2", size=(50, 10)),
            UsageError,
            "Sequential takes volumes of 6 slices, one below the other: a height of 50 is no multi",
        ),
        (
            lambda model: model.receptive_fields(),
            ModelError,
            "Sequential takes volumes; receptive fields are traced for images alone",
        ),
        (
            lambda model: cs.sensitivity(model, [np.zeros(SHAPE, np.float32)] * 2),
            UsageError,
            "Sequential takes volumes; sensitivity perturbs images",
        ),
        (
            lambda model: cs.dream(model, np.zeros(SHAPE, np.float32)),
            ModelError,
            "Sequential takes volumes; DeepDream and style transfer need images",
        ),
        (
            lambda model: cs.load(nn.Sequential(network(), nn.Linear(2, 2)), input=SHAPE).layers,
            ModelError,
            "Sequential failed on an input of 2×6×8×10: RuntimeError: ",
        ),
        (
            lambda model: cs.load(network()).predict(np.zeros((2, 8, 10), np.float32)),
            ModelError,
            "Sequential failed on an input of 2×8×10: RuntimeError: ",
        ),
    ],
)
def test_errors(model: cs.Model, asked: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        asked(model)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_a_network_of_volumes_without_input_shape_says_what_to_give() -> None:
    with pytest.raises(ModelError, match=r"It takes volumes\. Give their shape: --input C,D,H,W"):
        print(cs.load(network()).layers)
