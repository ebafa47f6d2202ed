"""Feature maps against hand-made networks whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import convscope as cs
from convscope._errors import ImageError, UnknownLayer, UsageError
from convscope._feature_maps import FeatureMapsBatch
from convscope._layers import figure_name

SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


class Planted(nn.Module):
    """Channel 0 answers to vertical edges, 1 to horizontal ones, 2 is dead, 3 constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0], self.conv.weight[1, 0] = SOBEL, SOBEL.T
            self.conv.bias.copy_(torch.tensor([0.0, 0, 0, 0.5]))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(x)).mean((2, 3))


@pytest.fixture
def edge() -> np.ndarray:
    """Black on the left, white on the right: one vertical edge between columns 15 and 16."""
    picture = np.zeros((24, 32), np.uint8)
    picture[:, 16:] = 255
    return picture


def test_the_edge_filter_sees_the_edge_where_it_is(edge: np.ndarray) -> None:
    values = cs.feature_maps(Planted(), edge, "conv")["conv"].values
    assert values.shape == (4, 22, 30)
    assert values.dtype == np.float32
    assert set(np.nonzero(values[0])[1]) == {14, 15}  # a 3×3 window over the edge starts there
    np.testing.assert_allclose(values[0][:, 14:16], 4.0)
    assert not values[1].any()
    assert not values[2].any()
    np.testing.assert_array_equal(values[3], 0.5)


def test_negative_values_survive_an_in_place_relu(edge: np.ndarray) -> None:
    values = cs.feature_maps(Planted(), edge[:, ::-1].copy(), "conv")["conv"].values
    assert values[0].min() == pytest.approx(-4)


def test_values_equal_a_convolution_by_hand() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU())
    numbers = torch.rand(3, 20, 31)
    found = cs.feature_maps(module, numbers, "0")["0"].values
    expected = functional.conv2d(numbers[None], module[0].weight, module[0].bias, stride=2)
    np.testing.assert_allclose(found, expected[0].detach().numpy(), atol=1e-6)


def test_one_image_gives_maps_and_several_give_a_batch(edge: np.ndarray) -> None:
    model = cs.load(Planted())
    batch = cs.feature_maps(model, [edge, edge[:20]], "conv")
    assert isinstance(batch, FeatureMapsBatch)
    assert [m["conv"].values.shape for m in batch] == [(4, 22, 30), (4, 18, 30)]
    assert repr(batch) == "FeatureMapsBatch(2 images in Planted: conv)"
    single = cs.feature_maps(model, edge, "conv")
    np.testing.assert_array_equal(batch[0]["conv"].values, single["conv"].values)
    assert len(cs.feature_maps(model, torch.rand(2, 1, 8, 8), "conv")) == 2


def test_a_batch_is_sliced_and_drawn_image_by_image(edge: np.ndarray) -> None:
    batch = cs.feature_maps(Planted(), [edge, edge, edge[:20]], "conv")
    assert isinstance(batch[1:], FeatureMapsBatch)
    assert len(batch[1:]) == 2
    sheet = batch.grid("conv", channels=[0, 3])
    assert [len(section.tiles) for section in sheet.sections] == [3, 3, 3]
    assert [tile.label for tile in sheet.sections[0].tiles] == ["input", "0", "3"]
    with pytest.raises(UnknownLayer, match="was not recorded"):
        batch.grid("relu")
    assert batch._repr_html_().count("<img") == 3


def test_a_batch_is_saved_under_names_of_its_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("L", (12, 12)).save(tmp_path / folder / "cat.png")
    images = [tmp_path / "a/cat.png", tmp_path / "b/cat.png"]
    written = cs.feature_maps(Planted(), images, ["conv", "relu"]).save(tmp_path / "out")
    assert [path.name for path in written] == [
        "cat.conv.png",
        "cat.relu.png",
        "cat.2.conv.png",
        "cat.2.relu.png",
    ]
    assert all(path.is_file() for path in written)


def test_linear_layers_are_maps_of_one_pixel() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)
    )
    found = cs.feature_maps(module, torch.rand(3, 9, 9), "3")["3"]
    assert found.values.shape == (7, 1, 1)
    assert found.grid().image.size[0] > 0


def test_default_layers_are_the_last_convolution_of_each_size() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1),
    )
    assert list(cs.feature_maps(module, torch.rand(3, 16, 16))) == ["1", "3", "5"]


def test_strongest_is_by_peak_with_nan_last(edge: np.ndarray) -> None:
    maps = cs.feature_maps(Planted(), edge, "conv")["conv"]
    assert maps.strongest(2) == [0, 3]
    maps.values[0, 0, 0] = np.nan
    assert maps.strongest(1) == [0]
    maps.values[0] = np.nan
    assert maps.strongest(4) == [3, 1, 2, 0]


def test_a_title_says_what_is_shown_and_lines_what_was_done(edge: np.ndarray) -> None:
    sheet = cs.feature_maps(Planted(), edge, "conv")["conv"].grid(first=3, columns=3)
    assert sheet.title == "conv · Conv2d 4×22×30"
    assert sheet.lines[0] == "model Planted · 3 of 4 channels"
    assert sheet.lines[1] == "input image 24×32 (height×width), preprocessed to 24×32"
    assert "assumed: the model brings none" in sheet.lines[2]


def test_the_preprocessing_shown_is_the_one_used(edge: np.ndarray) -> None:
    model = cs.load(Planted(), preprocess=cs.Preprocess(size=(16, 16)))
    lines = cs.feature_maps(model, edge, "conv", size=(20, 28))["conv"].grid().lines
    assert "20×28" in lines[2]
    assert "16×16" not in " ".join(lines)


def test_an_untrained_network_is_said_to_look_so() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 5))
    lines = cs.feature_maps(module, torch.rand(3, 9, 9), "0")["0"].grid().lines
    assert any("looks untrained" in line for line in lines)


def test_overview_has_the_input_and_a_row_for_each_layer(edge: np.ndarray) -> None:
    sheet = cs.feature_maps(Planted(), edge, ["conv", "relu"]).overview(strongest=2)
    assert [section.heading for section in sheet.sections] == [
        "input",
        "conv · Conv2d 4×22×30",
        "relu · ReLU 4×22×30",
    ]
    assert [tile.label for tile in sheet.sections[1].tiles] == ["0", "3"]


def test_seen_shows_the_original_beside_it(edge: np.ndarray) -> None:
    model = cs.load(Planted(), preprocess=cs.Preprocess(size=(16, 16)))
    tiles = cs.feature_maps(model, edge, "conv").preprocessed().sections[0].tiles
    assert [(tile.label, tile.size) for tile in tiles] == [
        ("original", (24, 32)),
        ("preprocessed input", (16, 16)),
    ]


def test_numbers_have_no_original_and_say_how_they_are_drawn() -> None:
    maps = cs.feature_maps(Planted(), np.float32(np.eye(12))[None], "conv")
    (tile,) = maps.preprocessed().sections[0].tiles
    assert tile.label == "preprocessed input"
    assert "drawn black to white" in maps.input.lines[0]


def test_overlay_lies_on_what_the_model_sees(edge: np.ndarray) -> None:
    sheet = cs.feature_maps(Planted(), edge, "conv")["conv"].overlay(channels=[0, 3], range="layer")
    tiles = sheet.sections[0].tiles
    assert [tile.size for tile in tiles] == [(24, 32), (24, 32)]
    assert {(tile.low, tile.high) for tile in tiles} == {(0.0, 4.0)}


def test_a_receptive_field_is_framed_and_cut_out(edge: np.ndarray) -> None:
    model = cs.load(Planted())
    maps = cs.feature_maps(model, edge, "conv")
    field = model.receptive_fields(maps.size)["conv"]
    sheet = maps["conv"].receptive_field(5, 14, field)
    whole, cut, pointed = sheet.sections[0].tiles
    assert [tuple(frame) for frame in whole.frames] == [(5, 14, 8, 17, False)]
    np.testing.assert_array_equal(cut.pixels[..., 0], edge[5:8, 14:17])
    assert pointed.label == "channel 0"  # the edge filter answers most strongly there
    assert [tuple(frame) for frame in pointed.frames] == [(5, 14, 6, 15, False)]
    assert "position 5,14 of channel 0: 4" in sheet.lines
    assert "receptive field 3×3, stride 1" in sheet.lines
    with pytest.raises(UnknownLayer, match="No position 22,0 in 'conv' of Planted: its maps are"):
        maps["conv"].receptive_field(22, 0, field)


def test_saving(edge: np.ndarray, tmp_path: Path) -> None:
    maps = cs.feature_maps(Planted(), edge, ["conv", "relu"])
    files = maps.save(tmp_path / "new")
    assert [file.name for file in files] == ["image.conv.png", "image.relu.png"]
    with Image.open(files[0]) as picture:
        assert picture.mode == "P"
    with np.load(maps["conv"].save(tmp_path / "maps.npz")) as stored:
        np.testing.assert_array_equal(stored["values"], maps["conv"].values)
        assert str(stored["layer"]) == "conv"
    assert not list(tmp_path.glob("*.tmp"))


def test_figure_names_can_be_read_back() -> None:
    assert figure_name("my cat.jpg", "layer1.0/add", ".png") == "my%20cat.layer1.0%2Fadd.png"


def test_notebooks_get_a_picture(edge: np.ndarray) -> None:
    maps = cs.feature_maps(Planted(), edge, "conv")
    assert "<img" in maps._repr_html_()
    assert "<img" in maps["conv"]._repr_html_()
    assert "conv · Conv2d 4×22×30" in repr(maps["conv"])


def test_mapping_protocol(edge: np.ndarray) -> None:
    maps = cs.feature_maps(Planted(), edge, "conv")
    assert "conv" in maps
    assert "relu" not in maps
    assert maps.get("relu") is None
    with pytest.raises(UnknownLayer, match=r"^Layer 'relu' was not recorded. Recorded: 'conv'$"):
        maps["relu"]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"channels": [3, 4]}, UnknownLayer, "No channel 4 in 'conv' of Planted: it has 4, 0 to 3"),
        ({"first": 0}, UsageError, "first=0 shows no map. Nearest: 1"),
        ({"first": 1, "channels": [0]}, UsageError, "Give either first= or channels=, not both"),
    ],
)
def test_wrong_channels(edge: np.ndarray, options: dict, kind: type, text: str) -> None:
    maps = cs.feature_maps(Planted(), edge, "conv")["conv"]
    with pytest.raises(kind) as caught:
        maps.grid(**options)
    assert str(caught.value) == text


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        cs.feature_maps(Planted(), tmp_path, "conv")
