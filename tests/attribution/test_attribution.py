"""Attributions against captum on the bare network, finite differences, and planted answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._attribution.attribution_result import Attribution
from convscope._attribution.evidence import alike
from convscope._errors import ConvscopeError, ModelError, UnknownLayer, UsageError

captum = pytest.importorskip("captum.attr", reason="captum does the attributions")
SIZE = (12, 16)


class Smooth(nn.Module):
    """Differentiable everywhere, so that finite differences hold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 6, 3, stride=2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class Patch(nn.Module):
    """Class 1 rests on the red of rows 8–15, columns 16–23 alone; class 0 on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0] = 1.0
            self.conv.weight[1, 2] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        patch = self.conv(x).relu()[:, 0, 8:16, 16:24].sum((1, 2))
        return torch.stack([torch.zeros_like(patch), patch], 1)


def _image() -> Tensor:
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def network() -> Smooth:
    return Smooth().eval().requires_grad_(False)


@pytest.fixture
def model(network: Smooth) -> Any:
    return cs.load(network, preprocess=cs.Preprocess(size=SIZE), classes=["ant", "bee", "cat", "7"])


@pytest.fixture
def patch() -> Any:
    return cs.load(Patch(), preprocess=cs.Preprocess(size=(32, 32)), input=(3, 32, 32))


def _picture() -> Image.Image:
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(60, 255, (32, 32, 3), np.uint8))


# The same numbers as captum called directly


def test_gradients_agree_with_captum_on_the_bare_network(model: Any, network: Smooth) -> None:
    found = cs.attribute(model, _image(), 2, method=["integrated_gradients", "gradient_x_input"])
    x = _image().requires_grad_()
    truth = captum.InputXGradient(network).attribute(x, target=2)
    np.testing.assert_allclose(
        found["gradient_x_input"].values, truth.detach()[0].sum(0), rtol=1e-4, atol=1e-6
    )
    truth, gap = captum.IntegratedGradients(network).attribute(
        _image(),
        baselines=torch.zeros_like(_image()),
        target=2,
        n_steps=64,
        return_convergence_delta=True,
    )
    one = found["integrated_gradients"]
    np.testing.assert_allclose(one.values, truth.detach()[0].sum(0), rtol=1e-4, atol=1e-6)
    assert one.found.gap == pytest.approx(float(gap), abs=1e-5)
    change = network(_image())[0, 2] - network(torch.zeros_like(_image()))[0, 2]
    assert one.found.change == pytest.approx(float(change), rel=1e-4)
    assert float(one.values.sum()) == pytest.approx(float(change), abs=1e-4)  # complete


def test_layers_and_occlusion_agree_with_captum_on_the_bare_network(
    model: Any, network: Smooth
) -> None:
    found = cs.attribute(
        model, _image(), 1, method=["gradcam", "occlusion"], layer="conv1", channels=5
    )
    x = _image().requires_grad_()
    truth = captum.LayerGradCam(network, network.conv1).attribute(x, target=1)
    np.testing.assert_allclose(found["gradcam"].values, truth.detach()[0, 0], rtol=1e-4, atol=1e-7)
    truth = captum.Occlusion(network).attribute(
        _image(), target=1, sliding_window_shapes=(3, 2, 2), strides=(3, 1, 1), baselines=0
    )
    np.testing.assert_allclose(found["occlusion"].values, truth[0].mean(0), rtol=1e-4, atol=1e-6)
    truth = captum.LayerGradientXActivation(network, network.conv1).attribute(x, target=1)
    assert found.channels is not None
    for one in found.channels.listed:
        channel = int(one.address.rpartition(":")[2])
        np.testing.assert_allclose(one.values, truth.detach()[0, channel], rtol=1e-4, atol=1e-7)


def test_smoothgrad_is_the_mean_gradient_over_noise(model: Any, network: Smooth) -> None:
    """With the same stream; the caller's own random numbers stay where they were."""
    before = torch.random.get_rng_state()
    found = cs.attribute(model, _image(), 0, method="smoothgrad", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    again = cs.attribute(model, _image(), 0, method="smoothgrad", seed=3)
    np.testing.assert_array_equal(found["smoothgrad"].values, again["smoothgrad"].values)
    noise = 0.15 * float(_image().max() - _image().min())
    draw = torch.Generator().manual_seed(5)
    noisy = _image() + noise * torch.randn(4000, 3, *SIZE, generator=draw)
    noisy.requires_grad_()
    network(noisy)[:, 0].sum().backward()
    assert noisy.grad is not None
    truth = noisy.grad.mean(0).sum(0)
    assert alike(found["smoothgrad"].values, truth.numpy()) > 0.9


def test_gradients_agree_with_finite_differences(model: Any, network: Smooth) -> None:
    found = cs.attribute(model, _image(), 3, method="gradient_x_input")["gradient_x_input"].values
    double = Smooth().double().eval().requires_grad_(False)
    step, x = 1e-5, _image().double()
    for y, column in ((0, 0), (5, 9), (11, 15)):
        total = 0.0
        for color in range(3):
            higher, lower = x.clone(), x.clone()
            higher[0, color, y, column] += step
            lower[0, color, y, column] -= step
            slope = (double(higher)[0, 3] - double(lower)[0, 3]) / (2 * step)
            total += float(slope * x[0, color, y, column])
        assert found[y, column] == pytest.approx(total, rel=1e-3, abs=1e-7)


# Planted answers


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion"])
def test_a_decision_that_rests_on_one_patch_is_attributed_to_it(patch: Any, method: str) -> None:
    """All of the mass lies inside; an occluding window reaches one stride beyond."""
    found = cs.attribute(patch, _picture(), 1, method=method, layer="conv")
    mass, margin = np.abs(found[method].values), 2 if method == "occlusion" else 0
    inside = mass[8 - margin : 16 + margin, 16 - margin : 24 + margin].sum()
    assert inside == pytest.approx(mass.sum())
    assert inside > 0
    one = found[method].covered
    assert one.marked < one.elsewhere < found.score


def test_smoothgrad_of_the_patch_is_nothing_outside_it(patch: Any) -> None:
    mass = np.abs(cs.attribute(patch, _picture(), 1, method="smoothgrad")["smoothgrad"].values)
    assert mass[8:16, 16:24].sum() == pytest.approx(mass.sum())


def test_the_channel_that_carries_the_decision_is_named(patch: Any) -> None:
    found = cs.attribute(patch, _picture(), 1, method="gradcam", channels=2, layer="conv")
    assert found.channels is not None
    first, second = found.channels.listed
    assert first.address == "conv:0"
    assert first.cost == pytest.approx(found.score)
    assert first.share == pytest.approx(found.score, rel=1e-4)
    assert (second.share, second.cost) == (0.0, 0.0)
    assert "1 bring 100% of what speaks for it (first 0)" in found.channels.sentence()


def test_shuffled_weights_change_the_picture_and_not_the_model(model: Any, network: Smooth) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = cs.attribute(model, _image(), 1, method=["gradient_x_input", "gradcam"], sanity=True)
    for one in found.maps:
        assert one.sanity is not None
        assert one.sanity.stages == ("fc shuffled", "last 2 shuffled", "all 3 kernels shuffled")
        assert one.sanity.follows == (abs(one.sanity.left[-1]) < 0.5)
        assert not np.array_equal(one.sanity.maps[-1].values, one.values)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_map_that_ignores_the_weights_is_found_out() -> None:
    """A score that is the sum of the input, whatever the kernel: gradient × input is the input."""

    class Ignoring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.conv(x) * 0.0 + x.sum(1, keepdim=True)
            return maps.flatten(2).sum(2)

    model = cs.load(Ignoring(), preprocess=cs.Preprocess(size=SIZE))
    found = cs.attribute(model, _image(), 0, method="gradient_x_input", layer="conv", sanity=True)
    (one,) = found.maps
    assert one.sanity is not None
    assert one.sanity.left == pytest.approx((1.0,))
    assert "hardly depends on the weights" in one.sentence(found.score)


# Targets


def test_targets_by_number_name_and_address(model: Any, network: Smooth) -> None:
    scores = network(_image())[0]
    for target, index in ((1, 1), ("bee", 1), ("2", 2), ("BEE", 1), ("7", 3), (None, None)):
        found = cs.attribute(model, _image(), target, method="gradient_x_input")
        index = int(scores.argmax()) if index is None else index
        assert found.score == pytest.approx(float(scores[index]), rel=1e-5)
        assert found.probability == pytest.approx(float(scores.softmax(0)[index]), rel=1e-5)
    maps = network.conv2(torch.tanh(network.conv1(_image())))[0]
    unit = cs.attribute(model, _image(), "conv2:4", method="gradient_x_input")
    assert (unit.target, unit.probability) == ("conv2:4", None)
    assert unit.score == pytest.approx(float(maps[4].mean()), rel=1e-4)
    place = cs.attribute(model, _image(), "conv2:4@1,3", method="gradcam", layer="conv1")
    assert place.score == pytest.approx(float(maps[4, 1, 3]), rel=1e-4)


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
def test_a_target_that_is_not_there(
    model: Any, target: Any, error: type[ConvscopeError], text: str
) -> None:
    with pytest.raises(error) as raised:
        cs.attribute(model, _image(), target)
    assert text in str(raised.value)


def test_a_step_without_a_gradient_is_told_of_in_one_line() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).detach().mean((2, 3))

    model = cs.load(Cut(), preprocess=cs.Preprocess(size=SIZE))
    for method in ("gradcam", "integrated_gradients", "gradient_x_input", "smoothgrad"):
        with pytest.raises(ModelError, match=r"has no gradient from class 1 back to .*\n?") as told:
            cs.attribute(model, _image(), 1, method=method, layer="conv")
        assert "Occlusion needs none: --method occlusion" in str(told.value)
    found = cs.attribute(model, _image(), 1, method="occlusion", layer="conv")
    assert found["occlusion"].values.any()


def test_other_errors_are_one_line(model: Any) -> None:
    with pytest.raises(UsageError, match=r"No method 'grad-cam'. Close: 'gradcam'. Known"):
        cs.attribute(model, _image(), method="grad-cam")
    with pytest.raises(UsageError, match=r"No baseline 'grey'. Close: 'gray'"):
        cs.attribute(model, _image(), baseline="grey")
    with pytest.raises(UsageError, match="A blurred baseline needs a picture"):
        cs.attribute(model, _image(), baseline="blurred")
    with pytest.raises(UsageError, match="2 images were given"):
        cs.attribute(model, [_picture(), _picture()])
    with pytest.raises(UsageError, match="Grad-CAM needs a layer of maps, and 'fc' has none"):
        cs.attribute(model, _image(), method="gradcam", layer="fc")


# As pictures


def test_the_sheet_says_what_it_shows(patch: Any, tmp_path: Path) -> None:
    found: Attribution = cs.attribute(patch, _picture(), 1, layer="conv", channels=2, sanity=True)
    sheet = found.sheet(theme="dark")
    text = "\n".join([sheet.title, sheet.description])
    for part in (
        "why class 1",
        "model Patch",
        "red speaks for class 1, blue against it",
        "completeness gap",
        "Grad-CAM at conv",
        "“nothing” is black",
    ):
        assert part in text
    labels = [tile.label for tile in sheet.sections[0].tiles]
    assert labels == [
        "what the model sees",
        "Grad-CAM",
        "Integrated gradients",
        "Gradient × input",
        "SmoothGrad",
        "Occlusion",
    ]
    assert [s.heading for s in sheet.sections[1:3]] == [
        "channels of conv, gradient × activation",
        "Grad-CAM, weights shuffled",
    ]
    assert found.save(tmp_path / "why.png").stat().st_size
    with np.load(found.save(tmp_path / "why.npz")) as arrays:
        np.testing.assert_array_equal(arrays["occlusion"], found["occlusion"].values)
    assert found.to_dict()["methods"][1]["completeness_gap"] is not None


def test_ranks_share_ties() -> None:
    one = np.array([[1, 2, 2, 3]], np.float32)
    assert alike(one, 10 * one) == pytest.approx(1)
    assert alike(one, -one) == pytest.approx(-1)
    assert alike(one, np.ones_like(one)) == 0


# With an atlas


def test_an_atlas_shows_what_the_channels_respond_to(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    (tmp_path / "photos").mkdir()
    for k in range(9):
        pixels = random.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    model = cs.load(Smooth(), preprocess=cs.Preprocess(size=SIZE))
    cs.scan(model, tmp_path / "photos", tmp_path / "atlas", "conv1", top=8)
    picture = tmp_path / "photos" / "3.png"
    found = cs.attribute(model, picture, 2, method="gradcam", channels=2, atlas=tmp_path / "atlas")
    assert found.layer == "conv1"  # the deepest that the atlas has
    sheet = found.sheet()
    headings = [section.heading for section in sheet.sections]
    named = [one.address for one in found.channels.listed]  # type: ignore[union-attr]
    assert headings[-2:] == [f"{unit} is highest on these of 9 images" for unit in named]
    atlas = cs.open_atlas(tmp_path / "atlas")
    best = atlas[named[0]].top("mean")
    labels = [tile.label for tile in sheet.sections[-2].tiles]
    assert labels == [Path(one.id).stem for one in best]
    elsewhere = cs.attribute(
        model, picture, 2, method="gradcam", layer="conv2", channels=2, atlas=atlas
    )
    assert not any("is highest on" in section.heading for section in elsewhere.sheet().sections)
    other = cs.load(Patch(), input=(3, 16, 24), preprocess=cs.Preprocess(size=(16, 24)))
    with pytest.raises(UsageError, match="The atlas is of Smooth, not of Patch"):
        cs.attribute(other, picture, 1, channels=1, atlas=atlas)
