"""WebDataset shards, read where they lie."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope as cs
from convscope._data import open_dataset
from convscope._errors import DatasetError, ImageError


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 7), (level, 0, 0)).save(stream, "png")
    return stream.getvalue()


def shard(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def samples(first: int, count: int) -> list[tuple[str, bytes]]:
    return [
        one
        for k in range(first, first + count)
        for one in (
            (f"{k:06}.cls", str(k % 3).encode()),
            (f"{k:06}.png", png(k)),
            (f"{k:06}.json", b"{}"),
        )
    ]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for k in range(3):
        shard(tmp_path / f"train-{k:03}.tar", samples(10 * k, 10))
    return tmp_path


@pytest.mark.parametrize("pattern", ["train-{000..002}.tar", "train-*.tar"])
def test_images_and_labels_of_all_shards(shards: Path, pattern: str) -> None:
    data = open_dataset(f"{shards}/{pattern}")
    assert len(data) == 30
    assert data.ids[12] == "train-001/000012.png"
    assert data.labels is not None
    assert data.labels.tolist() == [k % 3 for k in range(30)]
    assert data.classes == ("0", "1", "2")
    for k in (0, 12, 29):
        assert data.image(k).getpixel((0, 0)) == (k, 0, 0)  # type: ignore[union-attr]


def test_one_tar_with_labels_beside_its_images_is_a_shard(tmp_path: Path) -> None:
    named = [("a.jpg.png", png(1)), ("a.cls", b"ant"), ("b.png", png(2)), ("b.cls", b"bee\n")]
    data = open_dataset(shard(tmp_path / "one.tar", named))
    assert type(data).__name__ == "WebDataset"
    assert data.classes == ("ant", "bee")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]
    plain = open_dataset(
        shard(tmp_path / "two.tar", [("ant/a.png", png(1)), ("bee/b.png", png(2))])
    )
    assert type(plain).__name__ == "ImageArchive"


def test_a_missing_label_leaves_the_data_unlabeled(tmp_path: Path) -> None:
    data = open_dataset(shard(tmp_path / "a.tar", [*samples(0, 3), ("9.png", png(9))]))
    assert (len(data), data.labels) == (4, None)


def test_a_damaged_image_is_named(shards: Path) -> None:
    shard(shards / "train-001.tar", [("x.cls", b"0"), ("x.png", b"junk")])
    data = open_dataset(f"{shards}/train-{{000..002}}.tar")
    with pytest.raises(ImageError, match=r"'train-001/x.png' is not an image"):
        data.image(10)


def test_shards_that_change_are_noticed(shards: Path) -> None:
    before = open_dataset(f"{shards}/train-*.tar").fingerprint()
    assert before == open_dataset(f"{shards}/train-{{000..002}}.tar").fingerprint()
    shard(shards / "train-002.tar", [*samples(20, 9), ("000029.cls", b"2"), ("000029.png", png(5))])
    assert before != open_dataset(f"{shards}/train-*.tar").fingerprint()


def test_a_scan_of_shards(shards: Path, tmp_path: Path) -> None:
    network = cs.load("demo")
    atlas = cs.scan(network, f"{shards}/train-*.tar", tmp_path / "atlas", ["stem.conv"], top=3)
    assert atlas.images == 30
    values = network.activations(
        [open_dataset(f"{shards}/train-*.tar").image(k) for k in range(30)], "stem.conv"
    )["stem.conv"]
    best = np.argsort(-values.amax((2, 3))[:, 4].numpy(), kind="stable")[0]
    assert atlas["stem.conv:4"].top(by="peak")[0].id == f"train-{best // 10:03}/{best:06}.png"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("train-{000..004}.tar", "train-003.tar'. 3 of 5 exist"),
        ("valid-*.tar", "valid-*.tar' matches no file. See: ls "),
    ],
)
def test_shards_that_are_not_there(shards: Path, pattern: str, text: str) -> None:
    with pytest.raises(DatasetError) as raised:
        open_dataset(f"{shards}/{pattern}")
    assert text in str(raised.value)


def test_a_shard_cut_short_or_compressed(shards: Path) -> None:
    path = shards / "train-001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r"Shard '.*train-001.tar' cannot be read: "):
        open_dataset(f"{shards}/train-*.tar")
    shard(path, samples(0, 2), "w:gz")
    with pytest.raises(DatasetError, match="compressed shard has no random access"):
        open_dataset(f"{shards}/train-*.tar")


def test_no_image(tmp_path: Path) -> None:
    shard(tmp_path / "a-0.tar", [("a.cls", b"0"), ("a.txt", b"words")])
    with pytest.raises(DatasetError, match="holds no image, in 1 shards"):
        open_dataset(f"{tmp_path}/a-*.tar")
