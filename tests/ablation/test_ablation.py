"""Planted: a channel that one class rests on, channels that are copies of another."""

from __future__ import annotations

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
    """Channel k of ``pick`` is color k and class k rests on it; channel 3 is −2 × channel 0 + 1
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


def _pictures(count: int = 30) -> list[tuple[Image.Image, int]]:
    """The color of the class is stronger than the others, whatever the noise."""
    draw = np.random.default_rng(3)
    found = []
    for k in range(count):
        pixels = draw.integers(90, 140, (8, 8, 3), dtype=np.uint8)
        pixels[..., k % 3] = draw.integers(190, 255, (8, 8))
        found.append((Image.fromarray(pixels), k % 3))
    return found


class Named(list[Any]):
    classes = CLASSES


@pytest.fixture
def model() -> Any:
    return cs.load(Colors().eval(), preprocess=cs.Preprocess(size=(8, 8)), classes=CLASSES)


def test_a_channel_that_one_class_rests_on_costs_that_class_alone(model: Any) -> None:
    found = cs.ablate(model, Named(_pictures()), "pick", each=True)
    assert found.intact.accuracy == 1.0
    by_unit = {loss.units[0]: found.cost_by_class(loss).tolist() for loss in found.losses}
    assert by_unit["pick:1"] == [0.0, 1.0, 0.0]
    assert by_unit["pick:2"] == [0.0, 0.0, 1.0]
    assert by_unit["pick:4"] == [0.0, 0.0, 0.0]
    green = next(loss for loss in found.losses if loss.units == ("pick:1",))
    assert found.sentence(green) == (
        "pick:1: accuracy 100.0% → 66.7%, 33.3% of the answers change; it costs one class only, "
        "green (100% → 0%)"
    )
    assert [found.cost(loss) for loss in found.worst] == sorted(
        (found.cost(loss) for loss in found.losses), reverse=True
    )


def test_a_set_is_silenced_together(model: Any) -> None:
    found = cs.ablate(model, Named(_pictures()), ["pick:1", "pick:2"])
    (loss,) = found.losses
    assert loss.name == "pick:1 + pick:2"
    assert found.cost_by_class(loss).tolist() == [0.0, 1.0, 1.0]
    assert "2 classes lose" in found.sentence()


def test_ablation_is_that_of_a_network_without_the_channel(model: Any) -> None:
    """The same accuracy as zeroing the weights by hand."""
    network = Colors().eval()
    with torch.no_grad():
        for channel in (0, 3):
            network.pick.weight[channel], network.pick.bias[channel] = 0, 0
    by_hand = cs.load(network, preprocess=cs.Preprocess(size=(8, 8)), classes=CLASSES)
    found = cs.ablate(model, Named(_pictures()), ["pick:0", "pick:3"])
    plain = cs.ablate(by_hand, Named(_pictures()), "pick:4")
    np.testing.assert_array_equal(found.losses[0].by_class, plain.intact.by_class)


def test_duplicates_are_found_and_cost_nothing_when_computed_from_their_twin(model: Any) -> None:
    found = cs.ablate(model, Named(_pictures()), "pick", duplicates=0.999)
    silenced, computed = found.losses
    assert silenced.units == computed.units == ("pick:0",)  # channel 3 varies more, so it leads
    assert silenced.name == "pick:0 silenced"
    assert computed.name == "pick:0 from :3 (ρ 1.00)"
    assert (computed.accuracy, computed.changed) == (1.0, 0.0)
    nothing = cs.ablate(model, Named(_pictures()), ["pick:1"], duplicates=0.9999999)
    assert "pick:0" in nothing.losses[0].units  # a layer's duplicates are looked for in all of it


def test_channels_can_be_held_at_their_mean(model: Any) -> None:
    found = cs.ablate(model, Named(_pictures()), "pick:1", fill="mean")
    mean = np.mean([np.asarray(p, np.float32)[..., 1].mean() / 255 for p, _ in _pictures()])

    def constant(maps: Tensor) -> Tensor:
        changed = maps.clone()
        changed[:, 1] = float(mean)
        return changed

    edited = model.edited({"pick": constant})
    truth = [edited.predict(p, top=1)[0][0] == CLASSES[k] for p, k in _pictures()]
    assert found.losses[0].accuracy == pytest.approx(np.mean(truth))


def test_the_model_is_left_as_it_was(model: Any) -> None:
    before = model.logits(_pictures()[0][0])
    cs.ablate(model, Named(_pictures()), "pick", each=True, fill="mean")
    torch.testing.assert_close(model.logits(_pictures()[0][0]), before)


def test_errors_are_one_line(model: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is not labeled, and ablation needs labels. Sort its"):
        cs.ablate(model, [picture for picture, _ in _pictures()], "pick:0")
    wrong = Named(_pictures())
    wrong.classes = ["red", "green", "bleu"]
    with pytest.raises(
        DatasetError,
        match=r"Classes do not match: .* has 'bleu' \(1 of 3 classes\)"
        r", which Colors does not have. Close: 'blue'",
    ):
        cs.ablate(model, wrong, "pick:0")
    with pytest.raises(UnknownLayer, match="No channel 7 in 'pick' of Colors"):
        cs.ablate(model, Named(_pictures()), "pick:7")
    with pytest.raises(UsageError, match=r"'pick:1@0,0' is one position.*Nearest: pick:1"):
        cs.ablate(model, Named(_pictures()), "pick:1@0,0")
    with pytest.raises(UsageError, match=r"No fill 'one'. Known: zero, mean"):
        cs.ablate(model, Named(_pictures()), "pick:1", fill="one")
    with pytest.raises(UsageError, match="No unit was named"):
        cs.ablate(model, Named(_pictures()), [])


def test_damaged_pictures_are_counted_and_left_out(model: Any, tmp_path: Path) -> None:
    for k, (picture, label) in enumerate(_pictures(9)):
        (tmp_path / CLASSES[label]).mkdir(exist_ok=True)
        picture.save(tmp_path / CLASSES[label] / f"{k}.png")
    (tmp_path / "red" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    found = cs.ablate(model, tmp_path, "pick:1")
    assert found.pictures.startswith("9 images of ")
    assert "(1 damaged, left out)" in found.pictures
    assert found.counts.tolist() == [3, 3, 3]


def test_the_sheet_is_a_matrix_of_units_and_classes(model: Any, tmp_path: Path) -> None:
    found = cs.ablate(model, Named(_pictures()), "pick", each=True)
    (section,) = found.sheet(theme="dark").sections
    assert section.heads == ("all", *CLASSES)
    assert set(section.rows) == {f"pick:{k}" for k in range(5)}
    assert "change in accuracy" in found.sheet().description
    assert found.save(tmp_path / "cost.png").stat().st_size
    assert found.to_dict()["losses"][1]["by_class"] == [1.0, 0.0, 1.0]
