from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convscope._data import open_dataset, split_dataset
from convscope._errors import ConvscopeError, DatasetError, ImageError, UsageError


def message(raised: pytest.ExceptionInfo[ConvscopeError]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


class Pairs(torch.utils.data.Dataset[Any]):
    """What people write: ``(PIL image, label)``, and nothing else to be known of it."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index >= 6:
            raise IndexError
        return Image.new("L", (4, 3), index * 10), index % 3


def test_a_list_of_images(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png")
    items = [tmp_path / "a.png", Image.new("L", (3, 3)), np.zeros((4, 4, 3), np.uint8)]
    data = open_dataset(items)
    assert [data.image(i).size for i in range(3)] == [(2, 2), (3, 3), (4, 4)]
    assert (list(data.ids), data.labels, data.name) == (["0", "1", "2"], None, "list of 3")


def test_an_array_of_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    data = open_dataset(pixels)
    assert np.array_equal(np.asarray(data.image(3)), pixels[3])


def test_pairs() -> None:
    data = open_dataset(Pairs())
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == ([0, 1, 2, 0, 1, 2], ("0", "1", "2"))
    assert data.image(4).getpixel((0, 0)) == 40
    train, test = split_dataset(Pairs())
    assert (len(train), len(test)) == (5, 1)


def test_pairs_with_names_for_labels() -> None:
    image = Image.new("L", (2, 2))
    data = open_dataset([(image, "dog"), (image, "ant"), (image, "dog")])
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == ([1, 0, 1], ("ant", "dog"))


def test_targets_and_classes_are_used_and_no_image_is_decoded() -> None:
    class Known(Pairs):
        targets = torch.tensor([1, 1, 0, 0, 1, 0])
        classes = ("cat", "dog")

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            raise AssertionError("decoded")

    data = open_dataset(Known())
    assert data.labels is not None
    assert (data.labels.tolist(), data.classes) == ([1, 1, 0, 0, 1, 0], ("cat", "dog"))
    subset = open_dataset(torch.utils.data.Subset(Known(), [5, 0]))
    assert subset.labels is not None
    assert (subset.labels.tolist(), subset.classes) == ([0, 1], ("cat", "dog"))


@pytest.mark.parametrize("labels", [[-1, 0], [0.5, 1.0], [None, None]])
def test_labels_that_are_no_classes_are_not_used(labels: list[Any]) -> None:
    image = Image.new("L", (2, 2))
    data = open_dataset([(image, label) for label in labels])
    assert (data.labels, data.classes) == (None, ())
    assert data.image(1).size == (2, 2)


def test_floats_are_kept_as_they_are() -> None:
    items = [(torch.full((6, 4, 5), -1.5), 0), (torch.full((6, 4, 5), 7.0), 1)]
    data = open_dataset(items)
    assert data.preprocessed
    assert not open_dataset([Image.new("L", (2, 2))]).preprocessed
    assert data.labels is not None
    np.testing.assert_array_equal(data.image(1), np.full((6, 4, 5), 7, np.float32))
    assert data.fingerprint() != open_dataset([(x + 1, label) for x, label in items]).fingerprint()


def test_what_the_caller_s_code_raises_is_an_image_error() -> None:
    class Failing(Pairs):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            raise RuntimeError("disk\nis gone")

    data = open_dataset(Failing())
    assert data.labels is None
    with pytest.raises(ImageError) as raised:
        data.image(2)
    assert message(raised) == "Item 2 of Failing of 6 cannot be read: disk is gone"


@pytest.mark.parametrize("wrong", [None, 3, {"a.png": 1}, iter([])])
def test_what_is_no_dataset(wrong: object) -> None:
    with pytest.raises(DatasetError) as raised:
        open_dataset(wrong)
    assert "is not a dataset. Give a path, 'shapes', or a sequence" in message(raised)


def test_an_empty_list() -> None:
    with pytest.raises(DatasetError, match="list of 0 is empty"):
        open_dataset([])


# --- torchvision ----------------------------------------------------------------------------------


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    pytest.importorskip("torchvision")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 30), ("t10k", 8)):
        images = bytes([k for k in range(count) for _ in range(784)])
        head = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28])
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + images)
        labels = bytes([0, 0, 8, 1, 0, 0, 0, count, *(k % 10 for k in range(count))])
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    return tmp_path


def test_torchvision_by_name(mnist: Path) -> None:
    data = open_dataset(f"torchvision:MNIST,root={mnist}")
    assert (len(data), data.name) == (30, f"torchvision:MNIST,root={mnist} (train)")
    assert data.classes[3] == "3 - three"
    assert data.labels is not None
    assert data.labels[13] == 3
    assert data.image(7).getpixel((5, 5)) == 7
    train, test = split_dataset(f"torchvision:MNIST,root={mnist}")
    assert (len(train), len(test)) == (30, 8)
    assert len(open_dataset(f"torchvision:MNIST,root={mnist}", split="test")) == 8
    assert len(open_dataset(f"torchvision:MNIST,root={mnist},train=false")) == 8


def test_torchvision_without_splits() -> None:
    pytest.importorskip("torchvision")
    data = open_dataset("torchvision:FakeData,size=20,num_classes=3")
    assert (len(data), data.name) == (20, "torchvision:FakeData,size=20,num_classes=3")
    assert data.split("test") is None
    assert data.image(0).size == (224, 224)


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        (
            "torchvision:CIFR10,root=x",
            DatasetError,
            "No dataset 'torchvision:CIFR10'. Close: 'CIFAR10'",
        ),
        (
            "torchvision:MNIST,rot=x",
            UsageError,
            "torchvision:MNIST does not take 'rot'. Close: 'root'. It takes: root, train",
        ),
        ("torchvision:MNIST,root", UsageError, "'root' is not an option. Write NAME=VALUE"),
        (
            "torchvision:CIFAR10,root=/nowhere",
            DatasetError,
            "torchvision:CIFAR10 cannot be opened: Dataset not found or corrupted",
        ),
        ("torchvision:CIFAR10", DatasetError, "torchvision:CIFAR10 cannot be opened: "),
    ],
)
def test_torchvision_errors(spec: str, kind: type[ConvscopeError], text: str) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(kind) as raised:
        open_dataset(spec)
    assert message(raised).startswith(text)
    if "cannot be opened" in text:
        assert message(raised).endswith("Give its folder: torchvision:CIFAR10,root=FOLDER")
