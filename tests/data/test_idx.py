from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from convscope._data import open_dataset, split_dataset
from convscope._errors import DatasetError

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.array([3, 0, 1, 1, 2], np.uint8)


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(struct.pack(">I", side) for side in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def write(root: Path, *, zipped: bool = False, mark: str = "-", **files: np.ndarray) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, values in files.items():
        stem, kind = name.split("_")
        file = root / f"{stem}-{kind}{mark}idx{values.ndim}-ubyte{'.gz' if zipped else ''}"
        file.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    return root


def refused(root: Path, split: str | None = None) -> str:
    with pytest.raises(DatasetError) as raised:
        open_dataset(root, split=split)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_reading(zipped: bool, mark: str, below: str, tmp_path: Path) -> None:
    write(
        tmp_path / below,
        zipped=zipped,
        mark=mark,
        train_images=IMAGES,
        train_labels=LABELS,
        t10k_images=IMAGES[:2],
        t10k_labels=LABELS[:2],
    )
    whole = open_dataset(tmp_path)
    assert len(whole) == 7
    assert whole.classes == ("0", "1", "2", "3")
    assert whole.labels is not None
    assert whole.labels.tolist() == [3, 0, 1, 1, 2, 3, 0]
    assert (whole.ids[4], whole.ids[5], whole.name) == ("train/4", "t10k/0", str(tmp_path))
    assert np.array_equal(np.asarray(whole.image(4)), IMAGES[4])
    assert whole.image(0).mode == "L"
    train, test = split_dataset(tmp_path)
    assert (list(train.ids)[-1], list(test.ids)) == ("train/4", ["t10k/0", "t10k/1"])
    assert test.name == f"{tmp_path} (test)"
    assert test.classes == whole.classes


def test_without_labels(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, train_images=IMAGES))
    assert (data.labels, data.classes, len(data)) == (None, (), 5)


def test_labels_of_one_part_only(tmp_path: Path) -> None:
    write(tmp_path, train_images=IMAGES, train_labels=LABELS, t10k_images=IMAGES)
    assert open_dataset(tmp_path).labels is None
    train = open_dataset(tmp_path, split="train")
    assert train.labels is not None
    assert train.labels.tolist() == LABELS.tolist()
    assert train.classes == ("0", "1", "2", "3")


def test_one_part_only(tmp_path: Path) -> None:
    write(tmp_path, train_images=IMAGES, train_labels=LABELS)
    assert refused(tmp_path, "test") == f"'{tmp_path}' has no test split; it has only 'train'"
    train, test = split_dataset(tmp_path)
    assert (len(train), len(test)) == (4, 1)


@pytest.mark.parametrize("zipped", [False, True])
def test_truncated(zipped: bool, tmp_path: Path) -> None:
    write(tmp_path, zipped=zipped, train_images=IMAGES)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    text = refused(tmp_path)
    assert text.startswith(f"'{file}' ")
    assert ("cannot be read" if zipped else "50 bytes of data where its header says 60") in text
    assert text.endswith("Fetch it again")


def test_too_long(tmp_path: Path) -> None:
    write(tmp_path, train_images=IMAGES)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b"x")
    assert "61 bytes of data where its header says 60" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"\0\0\x08\x01" + bytes(20), b"\0\0\x0d\x03" + bytes(20), b"<html>not</html>"],
)
def test_foreign(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    assert "is not an IDX file of 3-dimensional bytes" in refused(tmp_path)


def test_a_gz_that_is_none_and_one_that_is_corrupt(tmp_path: Path) -> None:
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(b"<html>")
    assert "cannot be read: Not a gzipped file" in refused(tmp_path)
    noise = np.random.default_rng(0).integers(0, 9, (9, 9, 9), np.uint8)
    content = bytearray(gzip.compress(idx(noise)))
    content[20] ^= 255
    file.write_bytes(content)
    assert "cannot be read" in refused(tmp_path) or "bytes of data" in refused(tmp_path)


def test_sizes_that_no_memory_holds(tmp_path: Path) -> None:
    content = b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    assert f"0 bytes of data where its header says {(2**32 - 1) ** 3}" in refused(tmp_path)


def test_labels_that_do_not_belong_to_the_images(tmp_path: Path) -> None:
    write(tmp_path, train_images=IMAGES, train_labels=LABELS[:3])
    assert "has 3 labels for the 5 images of train-images-idx3-ubyte" in refused(tmp_path)


def test_splits_of_different_sizes_and_no_images(tmp_path: Path) -> None:
    write(tmp_path / "a", train_images=IMAGES, t10k_images=IMAGES[:, :2])
    assert "holds IDX images of 5×4×3, 5×2×3: not images of one size" in refused(tmp_path / "a")
    write(tmp_path / "b", train_images=IMAGES[:0])
    assert "not images of one size" in refused(tmp_path / "b")


def test_mnist(real_data: Path) -> None:
    whole = open_dataset(real_data / "mnist")
    assert len(whole) == 70_000
    assert whole.classes == tuple("0123456789")
    assert whole.labels is not None
    assert whole.labels[0] == 5
    train, test = split_dataset(real_data / "mnist")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.labels is not None
    assert test.labels is not None
    # the published counts
    assert np.bincount(train.labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert np.bincount(test.labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    raw = gzip.decompress((real_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert np.asarray(test.image(9999)).tobytes() == raw[-784:]
    assert test.image(0).size == (28, 28)
