"""Networks of signals: what they compute, on every path that images take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ConvscopeError, ImageError, ModelError, UnknownLayer, UsageError

LENGTH = 100


class Net(nn.Module):
    """Two convolutions over signals of two channels, three classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c1 = nn.Conv1d(2, 8, 5)
        self.pool = nn.MaxPool1d(2)
        self.c2 = nn.Conv1d(8, 6, 3, padding=1, dilation=2)
        self.f = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.c2(self.pool(self.c1(x).relu())).relu().mean(2))


@pytest.fixture
def model() -> cs.Model:
    return cs.load(Net(), input=(2, LENGTH))


@pytest.fixture
def signals() -> list[Any]:
    random = np.random.default_rng(0)
    return [random.normal(size=(2, LENGTH)).astype(np.float32) for _ in range(12)]


def recorded(batch: Tensor) -> dict[str, Tensor]:
    network, found = Net().eval(), {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda m, i, o, name=name: found.__setitem__(name, o))
    with torch.no_grad():
        network(batch)
    return found


@pytest.mark.parametrize(
    ("told", "given"),
    [
        (None, lambda batch: batch),
        (None, lambda batch: batch[:1]),
        (None, lambda batch: batch[0]),
        (None, lambda batch: batch.numpy()),
        (None, lambda batch: list(batch)),
        (None, lambda batch: batch[:, :, None]),
        ((2, LENGTH), lambda batch: batch),
        ((2, LENGTH), lambda batch: batch[0]),
        ((2, LENGTH), lambda batch: batch[:, :, None]),
        ((2, LENGTH), lambda batch: batch[0][:, None]),
        ((2, 1, LENGTH), lambda batch: batch[:, :, None]),
        ((2, 1, LENGTH), lambda batch: batch),
        ((2, LENGTH), lambda batch: batch[:, :, : LENGTH // 2]),
    ],
)
def test_activations_are_the_network_s_own(told: Any, given: Any, signals: list[Any]) -> None:
    batch = torch.from_numpy(np.stack(signals[:2]))
    model = cs.load(Net(), input=told)
    images = given(batch)
    found = model.activations(images, ["c1", "c2", "f"])
    plain = images if isinstance(images, list) else torch.as_tensor(images)
    rows = torch.stack(plain) if isinstance(plain, list) else plain
    expected = recorded(rows.reshape(-1, 2, rows.shape[-1]))
    for path, values in found.items():
        assert torch.equal(values, expected[path]), path
    assert model.layers["c1"].shape == (8, LENGTH - 4)
    assert repr(model) == f"Model('Net', input 2×{LENGTH})"


def test_lengths_are_tried_where_nothing_is_known(signals: list[Any]) -> None:
    model = cs.load(Net())
    assert model.layers["c1"].shape == (8, 1020)
    assert model.input.note == (
        "input unknown, signals of 2×1024 assumed, with which the network runs"
    )
    seen = cs.load(Net())
    seen.prepare(signals[0])
    assert seen.input.note == ("input unknown, signals of 2×100 assumed, as the array given has")


def test_gradients_reach_the_signal(model: cs.Model, signals: list[Any]) -> None:
    batch = model.prepare(signals[0])
    assert batch.values.shape == (1, 2, 1, LENGTH)
    values = batch.values.requires_grad_()
    model.activations(batch, ["c2"], grad=True)["c2"].square().sum().backward()
    one = torch.from_numpy(signals[0])[None].requires_grad_()
    network = Net().eval()
    network.c2(network.pool(network.c1(one).relu())).square().sum().backward()
    assert values.grad is not None
    assert one.grad is not None
    torch.testing.assert_close(values.grad[:, :, 0], one.grad)


def test_streams_and_edits(model: cs.Model, signals: list[Any]) -> None:
    batch, streamed = torch.from_numpy(np.stack(signals)), {}
    model.stream(signals, "kind=conv", lambda path, v: streamed.__setitem__(path, v.clone()))
    expected = recorded(batch)
    assert all(torch.equal(streamed[path], expected[path]) for path in ("c1", "c2"))
    silent = model.edited({"c2": torch.zeros_like})
    network = Net().eval()
    with torch.no_grad():
        torch.testing.assert_close(silent.logits(signals), network.f(torch.zeros(len(signals), 6)))


def test_receptive_fields_are_intervals_of_the_signal(model: cs.Model, signals: list[Any]) -> None:
    field = model.receptive_fields()["c2"]
    assert field.describe() == "1×14, stride 0×2"
    one = torch.from_numpy(signals[0])[None].requires_grad_()
    network = Net().eval()
    network.pool.forward = lambda x: nn.functional.avg_pool1d(x, 2)  # type: ignore[method-assign]
    found = network.c2(network.pool(nn.functional.softplus(network.c1(one))))
    for position in (0, 20, found.shape[2] - 1):
        (gradient,) = torch.autograd.grad(found[0, :, position].sum(), one, retain_graph=True)
        touched = gradient[0].abs().sum(0).nonzero().flatten()
        assert field.box(0, position) == (0, int(touched[0]), 1, int(touched[-1]) + 1)


def test_maps_are_lines(model: cs.Model, signals: list[Any], tmp_path: Path) -> None:
    maps = cs.feature_maps(model, signals[0])
    assert list(maps) == ["c1", "c2"]
    expected = recorded(torch.from_numpy(signals[0])[None])
    assert np.array_equal(maps["c1"].values[:, 0], expected["c1"][0].numpy())
    lines = maps["c1"].grid().lines
    assert "input array, a signal of length 100, channel 0 of 2, numbers from" in " ".join(lines)
    field = model.receptive_fields()["c2"]
    for sheet in (
        maps.overview(),
        maps["c1"].overlay(),
        maps["c2"].receptive_field(0, 20, field),
        cs.filters(model, "c1").grid(),
    ):
        assert sheet.save(tmp_path / "a.png").is_file()


def test_a_scan_of_signals(model: cs.Model, signals: list[Any], tmp_path: Path) -> None:
    atlas = cs.scan(model, signals, tmp_path / "atlas", top=4, batch=4)
    peaks = recorded(torch.from_numpy(np.stack(signals)))["c2"].amax(2).numpy()
    for channel in range(6):
        expected = np.argsort(-peaks[:, channel], kind="stable")[:4]
        top = atlas[f"c2:{channel}"].top(by="peak")
        assert [int(one.id) for one in top] == expected.tolist()
    best = atlas["c2:1"].top(by="peak")[0]
    assert best.input_box == model.receptive_fields()["c2"].box(*best.position)
    sheet = atlas["c2:1"].sheet(by="peak")
    assert "each line of values is drawn as a strip" in [text.text for text in sheet.layout.texts]


def test_optimized_signals_and_attributions(model: cs.Model, signals: list[Any]) -> None:
    seen = cs.maximize(model, "c2:2@0,20", steps=24)
    start = model.activations(np.full((2, LENGTH), 0.5, np.float32), "c2")["c2"]
    assert seen.values.shape == (2, 1, LENGTH)
    assert seen.activation > float(start[0, 2, 20])
    pytest.importorskip("captum")
    why = cs.attribute(model, signals[0], 1, method="gradient_x_input")
    one = torch.from_numpy(signals[0])[None].requires_grad_()
    (gradient,) = torch.autograd.grad(Net().eval()(one)[0, 1], one)
    expected = (gradient * one).sum(1).detach().numpy()
    np.testing.assert_allclose(why["gradient_x_input"].values, expected, atol=1e-6)
    cam = cs.attribute(model, signals[0], 1, method="gradcam", layer="c2")["gradcam"].values
    maps = recorded(torch.from_numpy(signals[0])[None])["c2"][0].requires_grad_()
    score = Net().eval().f(maps.relu().mean(1))[1]
    (weights,) = torch.autograd.grad(score, maps)
    np.testing.assert_allclose(cam[0], (weights.mean(1) @ maps).detach().numpy(), atol=1e-6)
    unit = cs.attribute(model, signals[0], "c2:1@0,5", method="gradient_x_input")
    (gradient,) = torch.autograd.grad(
        Net().eval().c2(nn.MaxPool1d(2)(Net().eval().c1(one).relu()))[0, 1, 5], one
    )
    np.testing.assert_allclose(
        unit["gradient_x_input"].values, (gradient * one).sum(1).detach().numpy(), atol=1e-6
    )


def test_a_keras_network_of_signals_knows_its_input_shape(signals: list[Any]) -> None:
    keras = pytest.importorskip("keras")
    live = keras.Sequential(
        [
            keras.layers.Input((LENGTH, 2)),
            keras.layers.Conv1D(8, 5, name="c1"),
            keras.layers.MaxPooling1D(2, name="pool"),
            keras.layers.Conv1D(6, 3, name="c2"),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model, given = cs.load(live), signals[0].T
    assert repr(model) == "Model('" + live.name + "', input 2×100)"
    found = model.activations(given, ["c1", "pool", "c2"])
    expected = given[None]
    for layer in live.layers[:3]:
        expected = layer(expected)
        values = keras.ops.convert_to_numpy(expected)
        np.testing.assert_allclose(found[layer.name].movedim(1, -1).numpy(), values, atol=1e-6)
    maps = cs.feature_maps(model, given, "c2")["c2"].values
    np.testing.assert_allclose(maps[:, 0].T, values[0], atol=1e-6)
    with pytest.raises(
        ImageError, match=r"takes signals, not images\. Give a float array \(length"
    ):
        model.predict(np.zeros((8, 10, 3), np.uint8))


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        (
            lambda model: model.predict(np.zeros((3, LENGTH), np.float32)),
            ImageError,
            "An array of float32 of shape (3, 100) has 3 channels where Net takes 2. Give (2, leng",
        ),
        (
            lambda model: model.predict(np.zeros((LENGTH, 2), np.float32)),
            ImageError,
            "An array of float32 of shape (100, 2) has 100 channels where Net takes 2. Its axes "
            "seem to be in another order. Give (2, length)",
        ),
        (
            lambda model: model.predict(np.zeros((8, 10, 3), np.uint8)),
            ImageError,
            "Net takes signals, not images. Give a float array (2, length), or a .npy file of one",
        ),
        (
            lambda model: cs.maximize(model, "c2:2", size=(50, 10)),
            UsageError,
            "Net takes signals, which are images one pixel high, and not 50×10. Give a length: "
            "--size 1x10",
        ),
        (
            lambda model: cs.maximize(model, "c2:2@0,99", steps=2),
            UnknownLayer,
            "No position 0,99 in 'c2': at this size its output is 1×46. Last: 0,45",
        ),
        (
            lambda model: cs.sensitivity(model, [np.zeros((2, LENGTH), np.float32)] * 2),
            UsageError,
            "Net takes signals; sensitivity perturbs images",
        ),
        (
            lambda model: cs.dream(model, np.zeros((2, LENGTH), np.float32), "c2"),
            ModelError,
            "Net takes signals; DeepDream and style transfer need images",
        ),
        (
            lambda model: model.logits(np.zeros((2, 3), np.float32)),
            ModelError,
            "Net failed on an input of 2×3: RuntimeError: ",
        ),
        (
            lambda model: cs.load(Net(), input=(3, 32, 32)).layers,
            ModelError,
            "Net failed on an input of 3×32×32: RuntimeError: ",
        ),
    ],
)
def test_errors(model: cs.Model, asked: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        asked(model)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_a_network_of_signals_told_to_take_images_says_what_to_give() -> None:
    with pytest.raises(ConvscopeError, match=r"It takes signals\. Give their shape: --input C,L$"):
        print(cs.load(Net(), input=(3, 32, 32)).layers)
