"""Planted: a channel that one class depends on, channels that are copies of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._errors import DatasetError, UnknownLayer, UsageError

CLASSES = ["red", "green", "blue"]


class Colors(nn.Module):
    """Channel k of ``pick`` is color k and class k depends on it; channel 3 is −2 × channel 0 + 1
    and channel 4 is noise that the head ignores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pick = nn.Conv2d(3, 5, 1)
        self.head = nn.Linear(5, 3, bias=False)
        with torch.no_grad():
            self.pick.weight[:3, :, 0, 0] = torch.eye(3)
            self.pick.weight[3, :, 0, 0] = torch.tensor([-2.0, 0.0, 0.0])
            self.pick.bias[:] = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])
            self.head.weight[:] = torch.eye(3, 5)
            # class 0 rests on channel 3 as much as on channel 0: −½ × (−2r + 1) = r − ½
            self.head.weight[0, 0], self.head.weight[0, 3] = 0.5, -0.25

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pick(x).mean((2, 3)))


def _labeled_images(count: int = 30) -> list[tuple[Image.Image, int]]:
    """The color of the class is stronger than the others, whatever the noise."""
    draw = np.random.default_rng(3)
    images = []
    for k in range(count):
        pixels = draw.integers(90, 140, (8, 8, 3), dtype=np.uint8)
        pixels[..., k % 3] = draw.integers(190, 255, (8, 8))
        images.append((Image.fromarray(pixels), k % 3))
    return images


class Named(list[Any]):
    classes = CLASSES


@pytest.fixture
def model() -> Any:
    return cs.load(Colors().eval(), preprocess=cs.Preprocess(size=(8, 8)), classes=CLASSES)


@pytest.fixture
def images() -> Named:
    return Named(_labeled_images())


def test_a_channel_that_one_class_depends_on_drops_the_accuracy_of_that_class_alone(
    model: Any, images: Named
) -> None:
    result = cs.ablate(model, images, "pick", each=True)
    assert result.intact.accuracy == 1.0
    by_unit = {one.units[0]: result.class_accuracy_drop(one).tolist() for one in result.effects}
    assert by_unit["pick:1"] == [0.0, 1.0, 0.0]
    assert by_unit["pick:2"] == [0.0, 0.0, 1.0]
    assert by_unit["pick:4"] == [0.0, 0.0, 0.0]
    green, noise = (
        next(one for one in result.effects if one.units == (unit,)) for unit in ("pick:1", "pick:4")
    )
    assert result.accuracy_drop(green) == pytest.approx(1 / 3)
    assert result.sentence(green) == (
        "pick:1: accuracy 100.0% → 66.7%, 33.3% of the predictions change; only one class loses "
        "accuracy, green (100% → 0%)"
    )
    assert result.sentence(noise) == (
        "pick:4: accuracy 100.0% → 100.0%, 0.0% of the predictions change; no class loses accuracy"
    )
    drops = [result.accuracy_drop(one) for one in result.ranked]
    assert drops == sorted((result.accuracy_drop(one) for one in result.effects), reverse=True)


def test_a_set_is_ablated_together(model: Any, images: Named) -> None:
    result = cs.ablate(model, images, ["pick:1", "pick:2", "pick:1"])
    (effect,) = result.effects
    assert effect.name == "pick:1 + pick:2 + pick:1"
    assert result.class_accuracy_drop(effect).tolist() == [0.0, 1.0, 1.0]
    assert "2 classes lose accuracy, most of all green (100% → 0%)" in result.sentence()
    many = cs.ablate(model, images, [f"pick:{k}" for k in range(5)])
    assert many.effects[0].name == "5 units"


def test_ablation_is_that_of_a_network_without_the_channel(model: Any, images: Named) -> None:
    """The same accuracy as zeroing the weights by hand."""
    network = Colors().eval()
    with torch.no_grad():
        for channel in (0, 3):
            network.pick.weight[channel], network.pick.bias[channel] = 0, 0
    by_hand = cs.load(network, preprocess=cs.Preprocess(size=(8, 8)), classes=CLASSES)
    result = cs.ablate(model, images, ["pick:0", "pick:3"])
    plain = cs.ablate(by_hand, images, "pick:4")
    np.testing.assert_array_equal(result.effects[0].class_accuracy, plain.intact.class_accuracy)


def test_the_share_of_changed_predictions_is_counted_by_hand(images: Named) -> None:
    """Random weights: labels do not matter, predictions do."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()
    model = cs.load(network, preprocess=cs.Preprocess(size=(8, 8)), classes=CLASSES)
    result = cs.ablate(model, images, "1", each=True)
    pixels = np.stack([np.asarray(image, np.float32) for image, _ in images]) / 255
    labels = np.array([label for _, label in images])
    with torch.no_grad():
        maps = network[1](network[0](torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        means, head = maps.mean((2, 3)).numpy(), network[4]
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()  # type: ignore[union-attr,operator]
    intact = (means @ weight.T + bias).argmax(1)
    for channel, effect in enumerate(result.effects):
        ablated = means.copy()
        ablated[:, channel] = 0
        predictions = (ablated @ weight.T + bias).argmax(1)
        assert effect.changed_predictions == pytest.approx((predictions != intact).mean())
        assert effect.accuracy == pytest.approx((predictions == labels).mean())
        for k in range(3):
            hits = (predictions == labels)[labels == k].mean()
            assert effect.class_accuracy[k] == pytest.approx(hits)


def test_duplicates_are_found_and_reconstructed_without_an_accuracy_drop(
    model: Any, images: Named
) -> None:
    result = cs.ablate(model, images, "pick", duplicates=0.999)
    ablated, reconstructed = result.effects
    assert ablated.units == reconstructed.units == ("pick:0",)  # channel 3 varies more: the source
    assert ablated.name == "pick:0 ablated"
    assert reconstructed.name == "pick:0 from :3 (ρ 1.00)"
    assert (reconstructed.accuracy, reconstructed.changed_predictions) == (1.0, 0.0)
    assert result.fill == "set to 0, or reconstructed from the channel they duplicate"
    again = cs.ablate(model, images, ["pick:1"], duplicates=0.9999999)
    assert "pick:0" in again.effects[0].units  # a layer's duplicates are searched in all of it


def test_without_duplicates_there_is_a_note_and_no_effect(images: Named) -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = cs.load(network, preprocess=cs.Preprocess(size=(8, 8)), classes=CLASSES)
    result = cs.ablate(model, images, "0", duplicates=1.0)
    assert result.effects == ()
    assert result.sentence() == "no two channels have a correlation of 1.0 or more"


def test_channels_can_be_set_to_their_mean(model: Any, images: Named) -> None:
    result = cs.ablate(model, images, "pick:1", fill="mean")
    mean = np.mean([np.asarray(image, np.float32)[..., 1].mean() / 255 for image, _ in images])

    def constant(maps: Tensor) -> Tensor:
        edited = maps.clone()
        edited[:, 1] = float(mean)
        return edited

    edited = model.edited({"pick": constant})
    truth = [edited.predict(image, top=1)[0][0] == CLASSES[k] for image, k in images]
    assert result.effects[0].accuracy == pytest.approx(np.mean(truth))
    assert result.fill == "set to their mean over the images"


def test_the_model_is_left_as_it_was(model: Any, images: Named) -> None:
    before = model.logits(images[0][0])
    cs.ablate(model, images, "pick", each=True, fill="mean")
    torch.testing.assert_close(model.logits(images[0][0]), before)


def test_the_number_of_images_can_be_limited(model: Any, images: Named) -> None:
    done: list[tuple[int, int]] = []
    result = cs.ablate(
        model, images, "pick:1", first=6, progress=lambda count, total: done.append((count, total))
    )
    assert result.counts.sum() == 6
    assert done[-1] == (6, 6)


def test_errors_are_one_line(model: Any, images: Named) -> None:
    with pytest.raises(DatasetError, match=r"is not labeled, and ablation needs labels. Sort its"):
        cs.ablate(model, [image for image, _ in images], "pick:0")
    wrong = Named(images)
    wrong.classes = ["red", "green", "bleu"]
    with pytest.raises(
        DatasetError,
        match=r"Classes do not match: .* has 'bleu' \(1 of 3 classes\)"
        r", which Colors does not have. Close: 'blue'",
    ):
        cs.ablate(model, wrong, "pick:0")
    with pytest.raises(UnknownLayer, match="No channel 7 in 'pick' of Colors"):
        cs.ablate(model, images, "pick:7")
    with pytest.raises(UsageError, match=r"'pick:1@0,0' is one position.*Nearest: pick:1"):
        cs.ablate(model, images, "pick:1@0,0")
    with pytest.raises(UsageError, match=r"No fill 'one'. Known: zero, mean"):
        cs.ablate(model, images, "pick:1", fill="one")
    with pytest.raises(UsageError, match="No unit was named"):
        cs.ablate(model, images, [])


def test_damaged_images_are_counted_and_left_out(model: Any, tmp_path: Path) -> None:
    for k, (image, label) in enumerate(_labeled_images(9)):
        (tmp_path / CLASSES[label]).mkdir(exist_ok=True)
        image.save(tmp_path / CLASSES[label] / f"{k}.png")
    (tmp_path / "red" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    result = cs.ablate(model, tmp_path, "pick:1")
    assert result.images.startswith("9 images of ")
    assert "(1 damaged, left out)" in result.images
    assert result.counts.tolist() == [3, 3, 3]


def test_the_figure_is_a_matrix_of_units_and_classes(
    model: Any, images: Named, tmp_path: Path
) -> None:
    result = cs.ablate(model, images, "pick", each=True)
    sheet = result.sheet(theme="dark")
    (section,) = sheet.sections
    assert section.heads == ("all", *CLASSES)
    assert set(section.rows) == {f"pick:{k}" for k in range(5)}
    assert section.rows[-1] == "pick:4"
    assert sheet.title == "Colors · accuracy drop when channels are ablated"
    for part in ("rows: ablated channels (set to 0)", "change in accuracy", "intact accuracy 100"):
        assert part in sheet.description
    assert result.save(tmp_path / "drop.png").stat().st_size


def test_a_class_without_images_has_no_accuracy_and_no_column(model: Any, images: Named) -> None:
    some = Named([one for one in images if one[1] != 2])
    result = cs.ablate(model, some, "pick:1")
    assert result.counts.tolist() == [10, 10, 0]
    assert np.isnan(result.effects[0].class_accuracy).tolist() == [False, False, True]
    assert result.sheet().sections[0].heads == ("all", "red", "green")
    stored = json.loads(json.dumps(result.to_dict()))
    assert stored["effects"][0]["class_accuracy"] == [1.0, 0.0, None]
    assert stored["intact"]["accuracy"] == 1.0
    assert repr(result).startswith("AblationResult(pick:1: accuracy 100.0% → 50.0%, ")
