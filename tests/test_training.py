"""Training: it learns, it is repeatable, and what it writes is read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import convscope as cs
from convscope.data import Dataset
from convscope.errors import DatasetError, UsageError
from convscope.models.architectures import build
from convscope.training import Epoch, Recipe, _augment, evaluate


class Bars(Dataset):
    """Two classes that any network can tell apart: a horizontal and a vertical bar."""

    classes = ("lying", "standing")

    def __init__(self, count: int = 200, broken: int = -1) -> None:
        self.name = "bars"
        self.ids = [str(i) for i in range(count)]
        self.labels = np.arange(count, dtype=np.int64) % 2
        self.broken = broken

    def picture(self, index: int) -> Image.Image:
        if index == self.broken:
            raise cs.ConvscopeError("damaged")
        random = np.random.default_rng(index)
        pixels = random.integers(0, 60, (12, 16), np.uint8)
        if index % 2:
            pixels[:, random.integers(2, 14)] = 255
        else:
            pixels[random.integers(2, 10)] = 255
        return Image.fromarray(pixels)


RECIPE = Recipe(epochs=4, rate=0.05, shift=1)


def test_it_learns_and_is_read_back(tmp_path: Path) -> None:
    epochs: list[Epoch] = []
    steps: list[tuple[int, int]] = []
    trained = cs.train(
        Bars(), tmp_path / "bars.safetensors", recipe=RECIPE, command="convscope train bars",
        on_epoch=epochs.append, on_batch=lambda done, of: steps.append((done, of)),
    )  # fmt: skip
    assert trained.accuracy >= 0.95
    assert [e.number for e in epochs] == [1, 2, 3, 4]
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].accuracy == trained.accuracy
    assert steps[-1][0] == steps[-1][1] == len(steps)

    model = cs.load(tmp_path / "bars.safetensors")
    assert model.input.classes == ("lying", "standing")
    assert model.input.size == (12, 16)
    assert model.input.channels == 1
    for index in (1001, 1002):
        (name, probability), _ = model.predict(Bars(2000).picture(index))
        assert name == Bars.classes[index % 2]
        assert probability > 0.5


def test_the_card_says_what_was_done(tmp_path: Path) -> None:
    cs.train(Bars(), tmp_path / "bars.safetensors", recipe=RECIPE, command="convscope train bars")
    card = json.loads((tmp_path / "bars.json").read_text())
    assert card["architecture"]["name"] == "simplecnn"
    parameters = sum(v.numel() for v in load_file(tmp_path / "bars.safetensors").values())
    assert card["architecture"]["parameters"] == parameters
    assert card["data"] == {
        "train": {"name": "bars (90 %)", "images": 180},
        "test": {"name": "bars (10 % held out)", "images": 20},
    }
    assert card["accuracy"]["images"] == 20
    assert card["command"] == "convscope train bars"
    assert card["recipe"]["epochs"] == 4
    assert not list(tmp_path.glob("*.tmp"))


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, rate=0.05)
    one, two, other = (
        cs.train(Bars(), tmp_path / f"{k}.safetensors", recipe=r)
        for k, r in enumerate((recipe, recipe, Recipe(epochs=1, rate=0.05, seed=1)))
    )
    weights = [torch.cat([p.flatten() for p in t.module.parameters()]) for t in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_normalisation_is_that_of_the_training_part(tmp_path: Path) -> None:
    cs.train(Bars(), tmp_path / "bars.safetensors", recipe=Recipe(epochs=1))
    model = cs.load(tmp_path / "bars.safetensors")
    values = model.prepare([Bars().picture(i) for i in range(200)]).values
    assert float(values.mean()) == pytest.approx(0, abs=0.05)
    assert float(values.std()) == pytest.approx(1, abs=0.05)


def test_accuracy_is_a_plain_count(tmp_path: Path) -> None:
    trained = cs.train(Bars(), tmp_path / "bars.safetensors", recipe=RECIPE)
    model = cs.load(tmp_path / "bars.safetensors")
    right = sum(model.predict(Bars().picture(i))[0][0] == Bars.classes[i % 2] for i in range(40))
    pixels = torch.stack([torch.from_numpy(np.array(Bars().picture(i)))[None] for i in range(40)])
    labels = torch.arange(40) % 2
    mean, std = trained.card["preprocess"]["mean"], trained.card["preprocess"]["std"]
    found = evaluate(trained.module, pixels, labels, lambda x: (x / 255 - mean[0]) / std[0])
    assert found == pytest.approx(right / 40)


def test_a_damaged_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    trained = cs.train(Bars(broken=3), tmp_path / "b.safetensors", recipe=Recipe(epochs=1))
    skipped = trained.card["data"]["train"].get("skipped", 0)
    skipped += trained.card["data"]["test"].get("skipped", 0)
    assert skipped == 1


def test_shifts_move_pictures_and_repeat_their_edges() -> None:
    picture = torch.arange(25, dtype=torch.uint8).reshape(1, 1, 5, 5)
    random = torch.Generator().manual_seed(0)
    seen = {tuple(_augment(picture, Recipe(shift=1), random).flatten().tolist()) for _ in range(99)}
    padded = np.pad(np.arange(25).reshape(5, 5), 1, mode="edge")
    expected = {tuple(padded[y : y + 5, x : x + 5].ravel()) for y in range(3) for x in range(3)}
    assert seen == expected


def test_flips_mirror_about_half() -> None:
    pictures = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4).repeat(400, 1, 1, 1)
    random = torch.Generator().manual_seed(0)
    flipped = _augment(pictures, Recipe(shift=0, flip=True), random)[:, 0, 0, 0] == 3
    assert 150 < int(flipped.sum()) < 250


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 48), (17, 23)])
@pytest.mark.parametrize("name", ["simplecnn", "compact"])
def test_architectures_take_any_size(name: str, size: tuple[int, int]) -> None:
    for channels in (1, 3, 5):
        module = build(name, channels, size, 7).eval()
        assert module(torch.rand(2, channels, *size)).shape == (2, 7)


def test_compact_takes_other_sizes_than_it_was_built_for() -> None:
    module = build("compact", 3, (32, 32), 10).eval()
    assert module(torch.rand(1, 3, 224, 161)).shape == (1, 10)
    assert sum(p.numel() for p in module.parameters()) <= 500_000


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not 'bars.pth'. Use -o .*bars.safetensors"):
        cs.train(Bars(), tmp_path / "bars.pth")
    with pytest.raises(UsageError, match="precision is float32 or bfloat16, not 'half'"):
        cs.train(Bars(), tmp_path / "b.safetensors", recipe=Recipe(precision="half"))
    with pytest.raises(cs.ConvscopeError, match=r"No architecture 'simplenn'. Close: 'simplecnn'."):
        cs.train(Bars(), tmp_path / "b.safetensors", architecture="simplenn")
    unlabelled = Bars()
    unlabelled.labels = None
    with pytest.raises(DatasetError, match=r"is not labelled: training needs one sub-folder"):
        cs.train(unlabelled, tmp_path / "b.safetensors")


def test_an_interrupted_run_keeps_the_last_epoch(tmp_path: Path) -> None:
    def interrupt(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cs.train(Bars(), tmp_path / "b.safetensors", recipe=RECIPE, on_epoch=interrupt)
    assert json.loads((tmp_path / "b.json").read_text())["accuracy"]["epoch"] == 2
    assert cs.load(tmp_path / "b.safetensors").predict(Bars().picture(0))


@pytest.mark.slow
def test_simplecnn_reads_digits(real_data: Path, tmp_path: Path) -> None:
    trained = cs.train(real_data / "mnist", tmp_path / "mnist.safetensors", recipe=Recipe(epochs=1))
    assert trained.accuracy >= 0.985
    maps = cs.feature_maps(trained.path, np.asarray(Image.new("L", (28, 28), 9)), "conv1")
    assert maps["conv1"].values.shape == (16, 28, 28)
