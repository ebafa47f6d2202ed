"""Training: it learns, it is repeatable, and what it writes is read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import convscope as cs
from convscope._data import Dataset, split_dataset
from convscope._errors import DatasetError, UsageError
from convscope._models import Model
from convscope._models.architectures import build
from convscope._plot import Theme
from convscope._train import ConfusionMatrix, EpochResult, Recipe, training_files
from convscope._train.confusion_matrix import count_predictions
from convscope._train.trainer import augment


class Bars(Dataset):
    """Two classes that any network can tell apart: a horizontal and a vertical bar."""

    classes = ("lying", "standing")

    def __init__(self, count: int = 200, broken: int = -1) -> None:
        self.name = "bars"
        self.ids = [str(i) for i in range(count)]
        self.labels = np.arange(count, dtype=np.int64) % 2
        self.broken = broken

    def image(self, index: int) -> Image.Image:
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
    epochs: list[EpochResult] = []
    steps: list[tuple[int, int]] = []
    trained = cs.train(
        Bars(),
        tmp_path / "bars.safetensors",
        recipe=RECIPE,
        command="convscope train bars",
        on_epoch=epochs.append,
        on_batch=lambda done, of: steps.append((done, of)),
    )
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
        (name, probability), _ = model.predict(Bars(2000).image(index))
        assert name == Bars.classes[index % 2]
        assert probability > 0.5


def test_the_metadata_describe_the_training(tmp_path: Path) -> None:
    cs.train(Bars(), tmp_path / "bars.safetensors", recipe=RECIPE, command="convscope train bars")
    metadata = json.loads((tmp_path / "bars.json").read_text())
    assert metadata["architecture"]["name"] == "simplecnn"
    parameters = sum(v.numel() for v in load_file(tmp_path / "bars.safetensors").values())
    assert metadata["architecture"]["parameters"] == parameters
    assert metadata["data"] == {
        "train": {"name": "bars (90 %)", "images": 180},
        "test": {"name": "bars (10 % held out)", "images": 20},
    }
    assert metadata["accuracy"]["images"] == 20
    assert metadata["command"] == "convscope train bars"
    assert metadata["recipe"]["epochs"] == 4
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


def test_normalization_is_that_of_the_training_split(tmp_path: Path) -> None:
    cs.train(Bars(), tmp_path / "bars.safetensors", recipe=Recipe(epochs=1))
    model = cs.load(tmp_path / "bars.safetensors")
    values = model.prepare([Bars().image(i) for i in range(200)]).values
    assert float(values.mean()) == pytest.approx(0, abs=0.05)
    assert float(values.std()) == pytest.approx(1, abs=0.05)


def test_accuracy_is_a_plain_count(tmp_path: Path) -> None:
    trained = cs.train(Bars(), tmp_path / "bars.safetensors", recipe=RECIPE)
    model = cs.load(tmp_path / "bars.safetensors")
    right = sum(model.predict(Bars().image(i))[0][0] == Bars.classes[i % 2] for i in range(40))
    pixels = torch.stack([torch.from_numpy(np.array(Bars().image(i)))[None] for i in range(40)])
    labels = torch.arange(40) % 2
    mean, std = trained.metadata["preprocess"]["mean"], trained.metadata["preprocess"]["std"]
    counts = count_predictions(
        trained.module, pixels, labels, lambda x: (x / 255 - mean[0]) / std[0], 2
    )
    assert np.trace(counts) / counts.sum() == pytest.approx(right / 40)


def test_a_damaged_image_is_skipped_and_counted(tmp_path: Path) -> None:
    trained = cs.train(Bars(broken=3), tmp_path / "b.safetensors", recipe=Recipe(epochs=1))
    skipped = trained.metadata["data"]["train"].get("skipped", 0)
    skipped += trained.metadata["data"]["test"].get("skipped", 0)
    assert skipped == 1


def test_shifts_move_images_and_repeat_their_edges() -> None:
    image = torch.arange(25, dtype=torch.uint8).reshape(1, 1, 5, 5)
    random = torch.Generator().manual_seed(0)
    seen = {tuple(augment(image, Recipe(shift=1), random).flatten().tolist()) for _ in range(99)}
    padded = np.pad(np.arange(25).reshape(5, 5), 1, mode="edge")
    expected = {tuple(padded[y : y + 5, x : x + 5].ravel()) for y in range(3) for x in range(3)}
    assert seen == expected


def test_flips_mirror_about_half() -> None:
    images = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4).repeat(400, 1, 1, 1)
    random = torch.Generator().manual_seed(0)
    flipped = augment(images, Recipe(shift=0, flip=True), random)[:, 0, 0, 0] == 3
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
    with pytest.raises(UsageError, match=r"patience is 0 .* or more, not -1"):
        cs.train(Bars(), tmp_path / "b.safetensors", recipe=Recipe(patience=-1))
    with pytest.raises(cs.ConvscopeError, match=r"No architecture 'simplenn'. Close: 'simplecnn'."):
        cs.train(Bars(), tmp_path / "b.safetensors", architecture="simplenn")
    unlabeled = Bars()
    unlabeled.labels = None
    with pytest.raises(DatasetError, match=r"is not labeled: training needs one sub-folder"):
        cs.train(unlabeled, tmp_path / "b.safetensors")


def stop_after(number: int) -> Callable[[EpochResult], None]:
    def interrupt(epoch: EpochResult) -> None:
        if epoch.number == number:
            raise KeyboardInterrupt

    return interrupt


def test_an_interrupted_run_keeps_the_last_epoch(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cs.train(Bars(), tmp_path / "b.safetensors", recipe=RECIPE, on_epoch=stop_after(2))
    assert json.loads((tmp_path / "b.json").read_text())["accuracy"]["epoch"] == 2
    assert cs.load(tmp_path / "b.safetensors").predict(Bars().image(0))


@pytest.mark.parametrize("architecture", ["simplecnn", "compact"])
@pytest.mark.parametrize("between", [True, False], ids=["between epochs", "within an epoch"])
def test_a_resumed_run_gives_the_weights_of_an_undisturbed_one(
    tmp_path: Path, architecture: str, between: bool
) -> None:
    recipe = Recipe(epochs=3, rate=0.05, flip=True)

    def within(done: int, of: int) -> None:
        if done == of // 2 and not between:
            raise KeyboardInterrupt

    whole = tmp_path / "whole.safetensors"
    cs.train(Bars(100), whole, architecture=architecture, recipe=recipe)
    path, epochs = tmp_path / "net.safetensors", list[int]()
    with pytest.raises(KeyboardInterrupt):
        cs.train(
            Bars(100),
            path,
            architecture=architecture,
            recipe=recipe,
            on_epoch=stop_after(1 if between else 9),
            on_batch=within,
        )
    torch.manual_seed(99)  # whatever the process does in between
    cs.train(
        Bars(100),
        path,
        architecture=architecture,
        recipe=recipe,
        on_epoch=lambda epoch: epochs.append(epoch.number),
    )
    assert epochs == [2, 3]
    assert path.read_bytes() == whole.read_bytes()
    assert path.with_suffix(".json").read_text() == whole.with_suffix(".json").read_text()
    assert {file.name for file in tmp_path.iterdir()} == {
        "whole.safetensors",
        "whole.json",
        "net.safetensors",
        "net.json",
    }


def test_a_state_written_by_version_0_1_0_is_continued(tmp_path: Path) -> None:
    """Its optimizer stood under a British key, and settings were named otherwise."""
    recipe, path = Recipe(epochs=2, rate=0.05), tmp_path / "net.safetensors"
    whole = tmp_path / "whole.safetensors"
    cs.train(Bars(40), whole, recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        cs.train(Bars(40), path, recipe=recipe, on_epoch=stop_after(1))
    state = torch.load(path.with_suffix(".resume.pt"), weights_only=True)
    old = {
        "optimizer": "optimiser",
        "image size": "pictures of",
        "training images": "training pictures",
        "test images": "test pictures",
    }
    state["settings"] = {old.get(key, key): value for key, value in state["settings"].items()}
    torch.save(
        {old.get(key, key): value for key, value in state.items()}, path.with_suffix(".resume.pt")
    )
    epochs = list[int]()
    cs.train(Bars(40), path, recipe=recipe, on_epoch=lambda epoch: epochs.append(epoch.number))
    assert epochs == [2]
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("done", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("at", range(1, 7))
def test_no_moment_is_wrong_to_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, done: bool
) -> None:
    """Each epoch replaces three files: it ends before or after any of them is."""
    recipe, written = Recipe(epochs=2, rate=0.05, patience=1), list[Path]()
    whole, path = tmp_path / "whole.safetensors", tmp_path / "net.safetensors"
    cs.train(Bars(40), whole, recipe=recipe)

    def replace(target: Path, write: Callable[[BinaryIO], object]) -> None:
        written.append(target)
        if len(written) == at and not done:
            raise KeyboardInterrupt
        replaced(target, write)
        if len(written) == at:
            raise KeyboardInterrupt

    replaced = training_files._replace
    monkeypatch.setattr(training_files, "_replace", replace)
    for _ in range(2):
        with suppress(KeyboardInterrupt):
            cs.train(Bars(40), path, recipe=recipe)
            break
    assert path.read_bytes() == whole.read_bytes()
    assert path.with_suffix(".json").read_text() == whole.with_suffix(".json").read_text()
    assert not path.with_suffix(".resume.pt").exists()


def test_a_run_that_ended_is_not_continued(tmp_path: Path) -> None:
    recipe, epochs = Recipe(epochs=1), list[int]()
    for _ in range(2):
        cs.train(
            Bars(),
            tmp_path / "b.safetensors",
            recipe=recipe,
            on_epoch=lambda epoch: epochs.append(epoch.number),
        )
    assert epochs == [1, 1]


def test_a_run_stopped_after_its_last_epoch_only_ends(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    with pytest.raises(KeyboardInterrupt):
        cs.train(Bars(), path, recipe=Recipe(epochs=2), on_epoch=stop_after(2))
    before = path.read_bytes()
    path.unlink()  # tidied up too early
    trained = cs.train(Bars(), path, recipe=Recipe(epochs=2), on_epoch=stop_after(2))
    assert path.read_bytes() == before
    assert trained.metadata["accuracy"]["epoch"] == 2


def test_only_the_same_training_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    with pytest.raises(KeyboardInterrupt):
        cs.train(Bars(), path, recipe=RECIPE, on_epoch=stop_after(1))
    again = r"Give the same settings to continue it. To start again: --no-resume \(resume=False\)"
    with pytest.raises(
        UsageError, match=f"epoch 1 of a training with rate 0.05, not 0.02; shift 1, not 2. {again}"
    ):
        cs.train(Bars(), path, recipe=Recipe(epochs=4))
    with pytest.raises(UsageError, match="with architecture simplecnn, not compact"):
        cs.train(Bars(), path, architecture="compact", recipe=RECIPE)
    with pytest.raises(UsageError, match="with image size 12×16, not 16×16"):
        cs.train(Bars(), path, size=16, recipe=RECIPE)
    with pytest.raises(UsageError, match=r"training images bars \(90 %\) \(checksum .*, not bars"):
        cs.train(Bars(240), path, recipe=RECIPE)
    seen: list[int] = []
    cs.train(Bars(240), path, recipe=RECIPE, resume=False, on_epoch=lambda e: seen.append(e.number))
    assert seen == [1, 2, 3, 4]


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    path.with_suffix(".resume.pt").write_bytes(b"PK nonsense")
    with pytest.raises(
        UsageError, match=r"b.resume.pt cannot be read: .* To start again"
    ) as caught:
        cs.train(Bars(), path, recipe=RECIPE)
    assert "\n" not in str(caught.value)


class Witness:
    """What ``watch=`` may return: notes the weights after each epoch."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.labels: list[str] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.closed = False

    def step(self, label: str = "", *, number: int | None = None) -> None:
        assert number == len(self.labels) + 1
        self.labels.append(label)
        module: torch.nn.Module = self.model.module
        self.weights.append({k: v.clone() for k, v in module.state_dict().items()})

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], None]:
    """Set the number of correct predictions on the 20 test images, epoch by epoch."""

    def plant(rights: list[int]) -> None:
        answers = iter(rights)

        def count(*_: object) -> np.ndarray:
            right = next(answers)
            return np.array([[right, 20 - right], [0, 0]])

        monkeypatch.setattr("convscope._train.training.count_predictions", count)

    return plant


@pytest.mark.parametrize("stopped", [0, 3])
def test_patience_keeps_the_best_epoch(
    tmp_path: Path, planted: Callable[[list[int]], None], stopped: int
) -> None:
    recipe, path, seen = Recipe(epochs=9, rate=0.05, patience=2), tmp_path / "b.safetensors", []

    def witness(model: Model) -> Witness:
        seen.append(Witness(model))
        return seen[-1]

    planted([10, 15, 15, 14, 20])  # equally good is not better
    if stopped:
        with pytest.raises(KeyboardInterrupt):
            cs.train(Bars(), path, recipe=recipe, on_epoch=stop_after(stopped), watch=witness)
        assert seen[0].closed
        planted([14, 20])
        trained = cs.train(Bars(), path, recipe=recipe)
    else:
        trained = cs.train(Bars(), path, recipe=recipe, watch=witness)
        assert len(seen[0].labels) == 4
    assert trained.accuracy == 0.75
    assert trained.metadata["accuracy"]["epoch"] == 2
    assert trained.metadata["accuracy"]["chosen"] == "the best epoch on these images"
    written, held = load_file(path), trained.module.state_dict()
    for name, value in seen[0].weights[1].items():
        assert torch.equal(written[name], value)
        assert torch.equal(held[name], value)


def test_without_patience_the_last_epoch_is_kept(
    tmp_path: Path, planted: Callable[[list[int]], None]
) -> None:
    planted([10, 20, 5])
    trained = cs.train(Bars(), tmp_path / "b.safetensors", recipe=Recipe(epochs=3))
    assert trained.accuracy == 0.25
    assert "chosen" not in trained.metadata["accuracy"]


def test_watching_is_told_of_each_epoch_and_changes_nothing(tmp_path: Path) -> None:
    seen: list[Witness] = []

    def witness(model: Model) -> Witness:
        seen.append(Witness(model))
        return seen[-1]

    cs.train(Bars(), tmp_path / "a.safetensors", recipe=RECIPE, watch=witness)
    cs.train(Bars(), tmp_path / "b.safetensors", recipe=RECIPE)
    (one,) = seen
    assert one.closed
    assert one.model.name == "a.safetensors"
    assert one.model.input.classes == ("lying", "standing")
    assert one.model.input.size == (12, 16)
    assert one.labels[0].startswith("epoch 1 of 4 · accuracy ")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_run_stopped_while_the_animation_is_drawn_draws_it_again(tmp_path: Path) -> None:
    class Dying(Witness):
        def close(self) -> None:
            raise KeyboardInterrupt

    again: list[tuple[str, int | None]] = []

    class Second:
        def step(self, label: str = "", *, number: int | None = None) -> None:
            again.append((label, number))

        def close(self) -> None:
            again.append(("closed", None))

    dying: list[Witness] = []
    path = tmp_path / "b.safetensors"
    with pytest.raises(KeyboardInterrupt):
        cs.train(
            Bars(), path, recipe=RECIPE, watch=lambda model: dying.append(Dying(model)) or dying[0]
        )
    cs.train(Bars(), path, recipe=RECIPE, watch=lambda _: Second())
    assert again == [(dying[0].labels[3], 4), ("closed", None)]


def test_confusion_counts_labels_and_predictions(tmp_path: Path) -> None:
    trained = cs.train(Bars(), tmp_path / "b.safetensors", recipe=Recipe(epochs=1, rate=0.01))
    model = cs.load(trained.path)
    test = split_dataset(Bars())[1]
    counts = np.zeros((2, 2), int)
    for index in range(len(test)):
        answer = model.predict(test.image(index))[0][0]
        counts[test.labels[index], Bars.classes.index(answer)] += 1
    assert trained.confusion.counts.tolist() == counts.tolist()
    assert trained.confusion.accuracy == trained.accuracy
    metadata = json.loads((tmp_path / "b.json").read_text())
    assert metadata["confusion"] == counts.tolist()


CONFUSED = ConfusionMatrix(
    np.array([[80, 12, 8], [0, 50, 0], [0, 0, 0]]), ("cat", "dog", "frog"), "net"
)


def test_the_most_frequent_confusions_are_named() -> None:
    assert CONFUSED.most_frequent_confusions() == [("cat", "dog", 0.12), ("cat", "frog", 0.08)]
    assert CONFUSED.sentence() == (
        "most frequent confusions: cat predicted as dog 12 %, cat predicted as frog 8.0 %"
    )
    assert CONFUSED.accuracy == 130 / 150
    assert (
        ConfusionMatrix(np.eye(2, dtype=int), ("a", "b")).sentence() == "no image is misclassified"
    )


def test_the_matrix_colors_span_the_confusions(tmp_path: Path) -> None:
    sheet = CONFUSED.grid()
    (section,) = sheet.sections
    assert section.rows == ("cat · 100", "dog · 50", "frog · 0")
    assert section.heads == ("cat", "dog", "frog")
    corners = [int(tile.pixels[0, 0]) for tile in section.tiles]
    assert corners == [240, 240, 160, 0, 240, 0, 0, 0, 0]  # 8 of 12 is two thirds of 240
    assert {(tile.low, tile.high) for tile in section.tiles} == {(0.0, 12.0)}
    assert all(len(np.unique(tile.pixels)) > 1 for tile in section.tiles[:3])  # numbers
    assert "accuracy 86.67% on 150 images" in sheet.description
    assert "values outside have the end colors" in sheet.description
    assert CONFUSED.save(tmp_path / "c.png").stat().st_size
    assert "Confusion matrix" in CONFUSED._repr_html_()


@pytest.mark.parametrize("classes", [1, 2, 30, 100, 300])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_matrices_of_any_size_are_drawn(classes: int, theme: Theme) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    names = tuple(f"a rather long name {k}" for k in range(classes))
    sheet = ConfusionMatrix(counts, names).grid(theme=theme)
    assert max(sheet.image.size) < 1400
    assert len(sheet.sections[0].tiles) == min(classes, 100) ** 2
    assert ("the 100 of 300 classes with the most errors" in sheet.description) == (classes > 100)


def test_images_of_many_sizes_get_that_of_the_first(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [
        (random.integers(0, 255, (8 + k % 3, 9, *[3] * (k > 30)), np.uint8), k % 2)
        for k in range(40)
    ]
    trained = cs.train(images, tmp_path / "b.safetensors", recipe=Recipe(epochs=1))
    assert trained.metadata["architecture"]["channels"] == 1
    assert trained.metadata["architecture"]["size"][1] == 9


def test_two_images_are_too_few(tmp_path: Path) -> None:
    images = [(np.zeros((8, 8), np.uint8), k) for k in range(2)]
    with pytest.raises(DatasetError, match=r"leaves one image to train on. Give at least three"):
        cs.train(images, tmp_path / "b.safetensors")


@pytest.mark.slow
def test_simplecnn_reads_digits(real_data: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, so the last digits, depends on their number
    try:
        trained = cs.train(
            real_data / "mnist", tmp_path / "mnist.safetensors", recipe=Recipe(epochs=1, rate=0.1)
        )
    finally:
        torch.set_num_threads(threads)
    assert trained.accuracy >= 0.985
    maps = cs.feature_maps(trained.path, np.asarray(Image.new("L", (28, 28), 9)), "conv1")
    assert maps["conv1"].values.shape == (16, 28, 28)
