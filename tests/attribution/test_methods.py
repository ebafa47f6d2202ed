"""Each method against captum on the bare network, finite differences, closed forms and numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._attribution.checks import rank_correlation
from convscope._attribution.methods import METHODS, select_methods
from convscope._errors import ConvscopeError, ModelError, UsageError

captum = pytest.importorskip("captum.attr", reason="captum does the attributions")
SIZE = (12, 16)
DOCS = Path(__file__).resolve().parents[2] / "docs" / "see" / "attribute.md"


def _values(result: Any, method: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = result[method].values
    return found


# Against captum called directly


def test_gradients_agree_with_captum_on_the_bare_network(
    model: Any, network: nn.Module, values: Tensor
) -> None:
    methods = ["integrated_gradients", "gradient_x_input"]
    result = cs.attribute(model, values, 2, method=methods)
    truth = captum.InputXGradient(network).attribute(values.clone().requires_grad_(), target=2)
    np.testing.assert_allclose(
        _values(result, "gradient_x_input"), truth.detach()[0].sum(0), rtol=1e-4, atol=1e-6
    )
    truth, gap = captum.IntegratedGradients(network).attribute(
        values,
        baselines=torch.zeros_like(values),
        target=2,
        n_steps=64,
        return_convergence_delta=True,
    )
    one = result["integrated_gradients"]
    np.testing.assert_allclose(one.values, truth.detach()[0].sum(0), rtol=1e-4, atol=1e-6)
    assert one.output.completeness_gap == pytest.approx(float(gap), abs=1e-5)
    change = network(values)[0, 2] - network(torch.zeros_like(values))[0, 2]
    assert one.output.score_change == pytest.approx(float(change), rel=1e-4)
    assert float(one.values.sum()) == pytest.approx(float(change), abs=1e-4)  # complete


def test_layers_and_occlusion_agree_with_captum_on_the_bare_network(
    model: Any, network: Any, values: Tensor
) -> None:
    result = cs.attribute(
        model, values, 1, method=["gradcam", "occlusion"], layer="conv1", channels=5
    )
    x = values.clone().requires_grad_()
    truth = captum.LayerGradCam(network, network.conv1).attribute(x, target=1)
    np.testing.assert_allclose(
        _values(result, "gradcam"), truth.detach()[0, 0], rtol=1e-4, atol=1e-7
    )
    truth = captum.Occlusion(network).attribute(
        values, target=1, sliding_window_shapes=(3, 2, 2), strides=(3, 1, 1), baselines=0
    )
    np.testing.assert_allclose(_values(result, "occlusion"), truth[0].mean(0), rtol=1e-4, atol=1e-6)
    truth = captum.LayerGradientXActivation(network, network.conv1).attribute(x, target=1)
    assert result.channels is not None
    for one in result.channels.channels:
        channel = int(one.address.rpartition(":")[2])
        np.testing.assert_allclose(one.values, truth.detach()[0, channel], rtol=1e-4, atol=1e-7)


def test_smoothgrad_is_the_mean_gradient_over_noise(
    model: Any, network: nn.Module, values: Tensor
) -> None:
    """With the same stream; the caller's own random numbers stay where they were."""
    before = torch.random.get_rng_state()
    result = cs.attribute(model, values, 0, method="smoothgrad", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    again = cs.attribute(model, values, 0, method="smoothgrad", seed=3)
    np.testing.assert_array_equal(_values(result, "smoothgrad"), _values(again, "smoothgrad"))
    other = cs.attribute(model, values, 0, method="smoothgrad", seed=4)
    assert not np.array_equal(_values(result, "smoothgrad"), _values(other, "smoothgrad"))
    noise = 0.15 * float(values.max() - values.min())
    draw = torch.Generator().manual_seed(5)
    noisy = values + noise * torch.randn(4000, 3, *SIZE, generator=draw)
    noisy.requires_grad_()
    network(noisy)[:, 0].sum().backward()
    assert noisy.grad is not None
    truth = noisy.grad.mean(0).sum(0)
    assert rank_correlation(_values(result, "smoothgrad"), truth.numpy()) > 0.9


# Without captum: finite differences, closed forms, loops


def test_gradients_agree_with_finite_differences(
    model: Any, network: nn.Module, values: Tensor
) -> None:
    result = cs.attribute(model, values, 3, method="gradient_x_input")
    double, step, x = network.double(), 1e-5, values.double()
    for y, column in ((0, 0), (5, 9), (11, 15)):
        total = 0.0
        for color in range(3):
            higher, lower = x.clone(), x.clone()
            higher[0, color, y, column] += step
            lower[0, color, y, column] -= step
            slope = (double(higher)[0, 3] - double(lower)[0, 3]) / (2 * step)
            total += float(slope * x[0, color, y, column])
        found = _values(result, "gradient_x_input")[y, column]
        assert found == pytest.approx(total, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("baseline", ["zero", "gray"])
def test_attributions_of_a_linear_network_are_weight_times_difference(
    linear: Any, values: Tensor, baseline: str
) -> None:
    """Gradient × input compares with 0, integrated gradients with the baseline; no gap."""
    methods = ["integrated_gradients", "gradient_x_input", "smoothgrad"]
    result = cs.attribute(linear, values, 1, method=methods, baseline=baseline, layer="conv")
    weight, x = linear.weights("conv")[1], values[0].numpy()
    level = 0.0 if baseline == "zero" else x.mean()
    np.testing.assert_allclose(
        _values(result, "integrated_gradients"), (weight * (x - level)).sum(0), atol=1e-5
    )
    np.testing.assert_allclose(_values(result, "gradient_x_input"), (weight * x).sum(0), atol=1e-5)
    np.testing.assert_allclose(_values(result, "smoothgrad"), weight.sum(0), atol=1e-5)
    gap = result["integrated_gradients"].output.completeness_gap
    assert gap == pytest.approx(0, abs=1e-4)


def test_attributions_of_a_quadratic_network_have_closed_forms(
    quadratic: Any, values: Tensor
) -> None:
    """∫ 2 w (t x) dt · x = w x², half of gradient × input; the noise of SmoothGrad averages out."""
    methods = ["integrated_gradients", "gradient_x_input", "smoothgrad"]
    result = cs.attribute(quadratic, values, 0, method=methods, layer="conv")
    weight, x = quadratic.weights("conv")[0], values[0].numpy()
    np.testing.assert_allclose(
        _values(result, "integrated_gradients"), (weight * x**2).sum(0), atol=1e-5
    )
    np.testing.assert_allclose(
        _values(result, "gradient_x_input"), (2 * weight * x**2).sum(0), atol=1e-5
    )
    error = _values(result, "smoothgrad") - (2 * weight * x).sum(0)
    scale = 2 * 0.15 * (x.max() - x.min()) / np.sqrt(24)  # of the mean of 24 samples
    sigma = scale * np.sqrt((weight**2).sum(0))
    assert np.abs(error / sigma).mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.25)


def test_gradcam_is_the_maps_weighted_by_mean_gradients_in_numpy(
    model: Any, network: Any, values: Tensor
) -> None:
    """For tanh and a mean, the gradient of conv2 is fc / (h w) · (1 − tanh²)."""
    result = cs.attribute(model, values, 2, method="gradcam", layer="conv2")
    with torch.no_grad():
        maps = network.conv2(torch.tanh(network.conv1(values)))[0].numpy()
    slope = network.fc.weight[2].numpy()[:, None, None] / maps[0].size * (1 - np.tanh(maps) ** 2)
    truth = (slope.mean((1, 2), keepdims=True) * maps).sum(0)
    np.testing.assert_allclose(_values(result, "gradcam"), truth, rtol=1e-3, atol=1e-7)
    assert (truth < 0).any()  # signed: no ReLU


def test_occlusion_is_the_mean_drop_of_the_windows_that_cover_a_pixel(
    model: Any, network: nn.Module, values: Tensor
) -> None:
    """2×2 windows at stride 1 on 12×16, filled with the mean."""
    result = cs.attribute(model, values, 1, method="occlusion", baseline="gray")
    drops, counts = np.zeros(SIZE), np.zeros(SIZE)
    with torch.no_grad():
        score = float(network(values)[0, 1])
        for y in range(SIZE[0] - 1):
            for x in range(SIZE[1] - 1):
                occluded = values.clone()
                occluded[:, :, y : y + 2, x : x + 2] = values.mean()
                drop = score - float(network(occluded)[0, 1])
                drops[y : y + 2, x : x + 2] += drop
                counts[y : y + 2, x : x + 2] += 1
    np.testing.assert_allclose(_values(result, "occlusion"), drops / counts, atol=1e-5)


# Planted answers


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion"])
def test_a_decision_that_rests_on_one_patch_is_attributed_to_it(
    patch: Any, image: Image.Image, method: str
) -> None:
    """All of the mass lies inside; an occluding window reaches one stride beyond."""
    result = cs.attribute(patch, image, 1, method=method, layer="conv")
    mass, margin = np.abs(_values(result, method)), 2 if method == "occlusion" else 0
    inside = mass[8 - margin : 16 + margin, 16 - margin : 24 + margin].sum()
    assert inside == pytest.approx(mass.sum())
    assert inside > 0
    check = result[method].deletion
    assert check.top < check.control < result.score


def test_smoothgrad_of_the_patch_is_zero_outside_it(patch: Any, image: Image.Image) -> None:
    mass = np.abs(_values(cs.attribute(patch, image, 1, method="smoothgrad"), "smoothgrad"))
    assert mass[8:16, 16:24].sum() == pytest.approx(mass.sum())


def test_a_class_that_rests_on_nothing_has_a_map_of_zeros(patch: Any, image: Image.Image) -> None:
    result = cs.attribute(patch, image, 0, method="occlusion", layer="conv")
    assert not _values(result, "occlusion").any()
    assert "all values are 0" in result["occlusion"].sentence(result.score)


# The table


@pytest.mark.parametrize("method", METHODS)
def test_a_method_needs_a_gradient_where_the_table_says_so(method: str, values: Tensor) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).detach().mean((2, 3))

    model = cs.load(Cut(), preprocess=cs.Preprocess(size=SIZE))
    if not METHODS[method].needs_gradient:
        assert _values(cs.attribute(model, values, 1, method=method, layer="conv"), method).any()
        return
    with pytest.raises(ModelError, match=r"has no gradient from class 1 back to ") as raised:
        cs.attribute(model, values, 1, method=method, layer="conv")
    assert "Occlusion needs none: --method occlusion" in str(raised.value)
    assert "\n" not in str(raised.value)
    start = "layer conv" if METHODS[method].needs_layer else "the image"
    assert f"back to {start}: a step between them is not differentiable" in str(raised.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_depends_on_layer_and_baseline_where_the_table_says_so(
    model: Any, values: Tensor, method: str
) -> None:
    def compute(**changed: Any) -> NDArray[np.float32]:
        settings: dict[str, Any] = {"layer": "conv2", **changed}
        return _values(cs.attribute(model, values, 1, method=method, **settings), method)

    first = compute()
    elsewhere, gray = compute(layer="conv1"), compute(baseline="gray")
    assert (first.shape == SIZE) != METHODS[method].needs_layer
    same_layer = first.shape == elsewhere.shape and np.array_equal(first, elsewhere)
    assert same_layer != METHODS[method].needs_layer
    assert np.array_equal(first, gray) != METHODS[method].uses_baseline


@pytest.mark.parametrize("method", METHODS)
def test_a_single_pass_is_one_image_forward(
    network: nn.Module, values: Tensor, method: str
) -> None:
    """Counted without the check by deletion, which shows nine images; captum may run one twice."""
    counts: list[int] = []
    network.register_forward_pre_hook(lambda _, images: counts.append(len(images[0])))
    model = cs.load(network, preprocess=cs.Preprocess(size=SIZE), input=(3, *SIZE))
    model.activations(values, "*")  # traced and checked before anything is counted

    def images_shown(methods: list[str]) -> int:
        counts.clear()
        cs.attribute(model, values, 1, method=methods)
        return sum(counts)

    # a method listed twice differs by one run of it and one check
    shown = images_shown([method, method]) - images_shown([method]) - 9
    assert (shown <= 2) == METHODS[method].single_pass


def test_methods_are_selected_by_name() -> None:
    assert [one.title for one in select_methods("gradcam")] == ["Grad-CAM"]
    assert [one.name for one in select_methods(("occlusion", "gradcam"))] == [
        "occlusion",
        "gradcam",
    ]
    for names, text in (
        ("grad-cam", "No method 'grad-cam'. Close: 'gradcam'. Known: gradcam, integrated_grad"),
        (["gradcam", "lrp"], "No method 'lrp'."),
        ([], "No method was named. Known: gradcam"),
    ):
        with pytest.raises(UsageError) as raised:
            select_methods(names)
        assert text in str(raised.value)


def test_the_documentation_lists_every_method_and_its_paper() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for method in METHODS.values():
        assert f"| `{method.name}` | {method.title} |" in text, method.name
        assert method.source in text, method.source
        assert method.source in (cs.attribute.__doc__ or ""), method.source


def test_without_captum_the_error_says_how_to_install_it(
    model: Any, values: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConvscopeError, match=r"Attribution needs captum.*convscope\[captum\]"):
        cs.attribute(model, values)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"baseline": "grey"}, "No baseline 'grey'. Close: 'gray'. Known: zero, gray, blurred"),
        ({"baseline": "blurred"}, "A blurred baseline needs an image, not numbers"),
        (
            {"method": "gradcam", "layer": "fc"},
            "Grad-CAM needs a layer of maps, and 'fc' has none. Name a convolution: --layer PATH",
        ),
        ({"target": 9}, "No class 9 in Smooth: it has 4, 0 to 3"),
    ],
)
def test_errors_are_one_line(
    model: Any, values: Tensor, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError) as raised:
        cs.attribute(model, values, **arguments)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_image_at_a_time(model: Any, image: Image.Image) -> None:
    with pytest.raises(UsageError, match="2 images were given; attribution takes one at a time"):
        cs.attribute(model, [image, image])
