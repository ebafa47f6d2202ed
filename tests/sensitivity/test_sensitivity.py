"""Planted: channels invariant to rotation, explained by a color, tuned to an orientation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import convscope as cs
from convscope._data import open_dataset
from convscope._data.shapes import Shapes
from convscope._errors import UnknownLayer, UsageError
from convscope._plot.curves import curve_tile
from convscope._sensitivity import sensitivity_result
from convscope._sensitivity.perturbations import FACTORS, PERTURBATIONS, redraw_factor

ANGLES = (0, 30, 47, 90, 135)  # of channels 0 to 4 in conftest.py


# Planted answers


@pytest.mark.parametrize(("channel", "orientation"), list(enumerate(ANGLES)))
def test_the_orientation_that_a_channel_is_built_for_is_found(
    on_stripes: Any, channel: int, orientation: float
) -> None:
    tuning = on_stripes["relu"].tuning
    found, selectivity = tuning.orientation(channel)
    assert min((found - orientation) % 180, (orientation - found) % 180) <= 10
    assert selectivity > 0.4
    assert tuning.period(channel) in (4, 6, 8)
    assert f"prefers stripes of {found:.0f}° and " in on_stripes.unit_sentence(f"relu:{channel}")


def test_a_round_channel_is_invariant_to_rotation_and_an_oriented_one_is_not(
    on_stripes: Any,
) -> None:
    layer = on_stripes["relu"]
    rotation = dict(zip(layer.invariance, layer.channel_invariance, strict=True))["rotation"]
    assert rotation[5] > 0.9
    assert rotation[:5].max() < 0.6
    assert layer.tuning.orientation(5)[1] < 0.1
    assert "least to" in on_stripes.unit_sentence("relu:5")


def test_a_channel_for_red_has_its_variance_explained_by_color_on_the_shapes(model: Any) -> None:
    result = cs.sensitivity(model, "shapes,count=120,size=32", "relu", first=120, pool="peak")
    shares = {name: values[6] for name, values in result["relu"].factors.items()}
    assert max(shares, key=lambda name: shares[name]) == "color"
    assert shares["color"] > 0.8
    assert max(shares[name] for name in ("rotation", "position", "background")) < 0.1
    text = result.unit_sentence("relu:6")
    assert text.startswith("relu:6: variance explained by color (")
    little = text[text.index("hardly any by") :].split("; ")[0]
    assert all(name in little for name in ("rotation", "position"))
    assert "most sensitive to hue (invariance " in text
    hue, selectivity = result["relu"].tuning.hue(6)
    assert min(hue, 360 - hue) <= 10  # red
    assert selectivity > 0.5
    assert "prefers hue" in text


def test_a_dead_channel_has_no_numbers(on_stripes: Any) -> None:
    layer = on_stripes["relu"]
    assert np.isnan(layer.channel_invariance[:, 7]).all()
    assert on_stripes.unit_sentence("relu:7") == "relu:7 responds equally to every image"
    assert np.isnan(layer.tuning.orientation(7)[0])
    assert layer.rows()[7]["invariance"]["blur"] is None
    assert np.isfinite(layer.mean_invariance)


def test_numbers_of_many_bands_are_perturbed_on_their_own_scale() -> None:
    """Channel 0 sums all bands, which a flip cannot change; channel 1 has weights of two signs."""
    network = nn.Sequential(nn.Conv2d(5, 2, 9, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(0.1)
        network[0].weight[1, :, :, 4:] = -0.1  # type: ignore[index]
    random = np.random.default_rng(0)
    bands = [random.normal(100, 30, (5, 9, 9)).astype(np.float32) for _ in range(12)]
    result = cs.sensitivity(cs.load(network, input=(5, 9, 9)), bands, "0")
    assert not {"hue", "JPEG"} & set(result["0"].invariance)
    flip = result["0"].invariance["flip"]
    assert flip[0, 0] > 0.99 > flip[0, 1]
    assert any("0…1 stands for numbers from" in line for line in result.lines)


# The numbers, computed another way


def _responses(model: Any, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The network called directly on ``(N, H, W, 3)``, 0…255."""
    values = torch.from_numpy(np.rint(np.clip(pixels, 0, 255))).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        responses: NDArray[np.float64] = model.module(values.float()).double().numpy()
    return responses


def test_invariance_and_shift_are_those_of_numpy(model: Any, images: list[Image.Image]) -> None:
    """Brightness by hand, the network called directly."""
    result = cs.sensitivity(model, images[:9], "relu", perturbations="brightness")["relu"]
    arrays = np.stack([np.asarray(image, np.float64) for image in images[:9]])
    original = _responses(model, arrays)
    for place, level in enumerate((-0.4, -0.2, 0.2, 0.4)):
        perturbed = _responses(model, arrays + 255 * level)
        truth = 1 - ((perturbed - original) ** 2).mean(0) / (2 * original.var(0) + 1e-30)
        np.testing.assert_allclose(
            result.invariance["brightness"][place, :6], np.clip(truth, -1, 1)[:6], atol=1e-3
        )
        shift = (perturbed - original).mean(0)[:6] / original.std(0)[:6]
        np.testing.assert_allclose(result.shift["brightness"][place, :6], shift, atol=1e-3)
    np.testing.assert_allclose(
        result.channel_invariance[0], result.invariance["brightness"].mean(0)
    )
    row = result.channel_invariance[0]
    expected = np.nanmean(row)
    assert result.perturbation_invariance == {"brightness": pytest.approx(expected)}
    assert result.mean_invariance == pytest.approx(expected)


def test_the_variance_explained_by_a_factor_is_its_total_effect(model: Any) -> None:
    """E[(f(x) − f(x′))²] / 2 Var f, x′ with the factor drawn anew (Jansen, 1999)."""
    shapes = Shapes(40, 32, seed=5)
    result = cs.sensitivity(model, shapes, "relu", first=40, perturbations="flip")
    test = shapes.split("test")
    assert isinstance(test, Shapes)
    assert set(result["relu"].factors) == set(FACTORS)
    arrays = np.stack([np.asarray(test.image(k), np.float64) for k in range(40)])
    original = _responses(model, arrays)
    for factor in ("color", "rotation"):
        redrawn = np.stack(
            [np.asarray(redraw_factor(test, k, factor), np.float64) for k in range(40)]
        )
        change = ((_responses(model, redrawn) - original) ** 2).mean(0)
        truth = np.minimum(change[:7] / (2 * original.var(0)[:7]), 2)
        np.testing.assert_allclose(result["relu"].factors[factor][:7], truth, atol=1e-3)


# Around it


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"perturbations": "rotate"}, "No perturbation 'rotate'. Close: 'rotation'"),
        ({"pool": "max"}, "No pool 'max'. Known: mean, peak"),
        ({"images": 1}, "gave 1 image; sensitivity compares at least two"),
    ],
)
def test_errors_are_one_line(
    model: Any, images: list[Image.Image], arguments: dict[str, Any], text: str
) -> None:
    count = arguments.pop("images", 2)
    with pytest.raises(UsageError) as raised:
        cs.sensitivity(model, images[:count], **arguments)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_was_not_measured_is_an_error(on_stripes: Any) -> None:
    for address in ("relu:8", "relu", "relu:x"):
        with pytest.raises(UsageError, match=f"'{address}' is no unit that was measured"):
            on_stripes.unit_sentence(address)
    with pytest.raises(UnknownLayer, match=r"Layer 'conv' was not measured. Measured: 'relu'"):
        on_stripes["conv"]


def test_layers_stand_in_the_order_of_the_network(model: Any, images: list[Image.Image]) -> None:
    done: list[tuple[int, int]] = []
    result = cs.sensitivity(
        model,
        images,
        ["relu", "conv"],
        perturbations=["flip", "blur"],
        first=20,
        progress=lambda count, total: done.append((count, total)),
    )
    assert list(result) == [one.layer.path for one in result.layers]
    assert len(result) == 2
    assert done == [(16, 20), (20, 20)]
    means = {path: one.mean_invariance for path, one in result.items()}
    most = min(means, key=lambda path: means[path])
    text = result.sentence()
    assert f"{most} is the most sensitive layer (mean invariance {means[most]:.2f})" in text
    averages = {
        name: np.mean([one.perturbation_invariance[name] for one in result.layers])
        for name in ("flip", "blur")
    }
    strongest = min(averages, key=lambda name: averages[name])
    assert f"responses change most with {strongest} ({averages[strongest]:.2f})" in text
    assert repr(result) == f"SensitivityResult({text})"


def test_the_figures_state_what_they_show(model: Any, tmp_path: Path) -> None:
    dataset = open_dataset("shapes,count=8,size=32")
    result = cs.sensitivity(model, dataset, ["conv", "relu"], first=8)
    written = result.save(tmp_path / "all", theme="dark")
    assert [path.name for path in written] == [
        "sensitivity.png",
        "conv.curves.png",
        "conv.gratings.png",
        "relu.curves.png",
        "relu.gratings.png",
    ]
    assert all(path.stat().st_size for path in written)
    text = result.sheet().description
    for part in ("model Tuned", "shapes,count=8", "1 = the response never changes"):
        assert part in text
    assert result.sheet().sections[0].heads == tuple(PERTURBATIONS)
    assert "explained by each factor" in result.sheet().sections[2].heading
    assert "counter-clockwise" in result.tuning_sheet("relu").description
    stored = json.loads(json.dumps(result.to_dict()))
    assert stored["layers"][0]["channels"][0]["address"] == "conv:0"
    assert stored["layers"][1]["mean"] == result["relu"].mean_invariance
    assert set(stored["layers"][1]["channels"][6]["factors"]) == set(FACTORS)


def test_channels_whose_invariances_differ_most_are_drawn(on_stripes: Any) -> None:
    sheet = on_stripes.channel_sheet("relu", limit=3)
    (section,) = sheet.sections
    values = on_stripes["relu"].channel_invariance
    difference = values.max(0) - values.min(0)
    expected = sorted(np.argsort(-np.nan_to_num(difference, nan=-1))[:3].tolist())
    assert [int(row) for row in section.rows] == expected
    assert section.heads == tuple(PERTURBATIONS)
    assert len(section.tiles) == 3 * len(PERTURBATIONS)
    assert "the 3 of 8 channels whose invariances differ most" in sheet.description


def test_curves_go_from_weak_to_strong_with_the_unchanged_image_at_its_place(
    model: Any, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JPEG from quality 100 down, brightness from dark to bright with 0 in the middle."""
    kinds = ["JPEG", "brightness", "blur", "scale"]
    result = cs.sensitivity(model, images[:4], "relu", perturbations=kinds)
    drawn: list[list[float]] = []

    def record(values: list[float]) -> Any:
        drawn.append(values)
        return curve_tile(values)

    monkeypatch.setattr(sensitivity_result, "curve_tile", record)
    result.channel_sheet("relu", limit=1)
    (channel,) = result.channel_sheet("relu", limit=1).sections[0].rows
    jpeg, brightness, blur, scale = (
        result["relu"].invariance[name][:, int(channel)].tolist() for name in kinds
    )
    assert drawn[:4] == [
        [1.0, *jpeg],
        [*brightness[:2], 1.0, *brightness[2:]],
        [1.0, *blur],
        [*scale[:2], 1.0, *scale[2:]],
    ]
