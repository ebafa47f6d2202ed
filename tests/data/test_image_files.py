from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope._data import Subset, image_files, open_dataset, split_dataset
from convscope._errors import ConvscopeError, DatasetError, ImageError, UsageError


def message(raised: pytest.ExceptionInfo[ConvscopeError]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


def png(gray: int) -> bytes:
    """An image identified by its gray level."""
    stream = io.BytesIO()
    Image.new("L", (3, 2), gray).save(stream, "PNG")
    return stream.getvalue()


def write_folder(root: Path, names: list[str]) -> Path:
    for gray, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(gray))
    return root


def write_zip(root: Path, names: list[str]) -> Path:
    root.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root.with_name("data.ZIP"), "w", zipfile.ZIP_DEFLATED) as archive:
        for gray, name in enumerate(names):
            archive.writestr(name, png(gray))
    return root.with_name("data.ZIP")


def write_tar(ending: str) -> Callable[[Path, list[str]], Path]:
    def write(root: Path, names: list[str]) -> Path:
        path = root.with_name(f"data.tar{ending}")
        with tarfile.open(path, f"w:{ending[1:]}") as archive:
            for gray, name in enumerate(names):
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(png(gray))
                archive.addfile(member, io.BytesIO(png(gray)))
        return path

    return write


writers = pytest.mark.parametrize(
    "write",
    [write_folder, write_zip, write_tar(""), write_tar(".gz"), write_tar(".xz"), write_tar(".bz2")],
    ids=["folder", "zip", "tar", "tar.gz", "tar.xz", "tar.bz2"],
)


# --- layouts, the same for folders and archives ---------------------------------------------------


@writers
def test_a_flat_folder_has_no_labels(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "d", ["b.png", "a.PNG", "c.JpEg", "notes.txt", ".hidden.png"])
    data = open_dataset(path)
    assert list(data.ids) == ["a.PNG", "b.png", "c.JpEg"]
    assert [data.image(i).getpixel((0, 0)) for i in range(3)] == [1, 0, 2]
    assert (data.labels, data.classes, data.name) == (None, (), str(path))
    assert data.image(0).mode == "L"


@writers
def test_sub_folders_are_classes(write: Callable[..., Path], tmp_path: Path) -> None:
    names = ["dog/1.png", "cat/1.png", "cat/deep/2.png", "ant/x.png"]
    data = open_dataset(write(tmp_path / "d", names))
    assert data.classes == ("ant", "cat", "dog")
    assert data.labels is not None
    shown = {data.ids[i]: data.classes[data.labels[i]] for i in range(len(data))}
    assert shown == {name: name.split("/")[0] for name in names}
    for i, name in enumerate(data.ids):
        assert data.image(i).getpixel((0, 0)) == names.index(name)


@writers
def test_train_and_test_are_splits(write: Callable[..., Path], tmp_path: Path) -> None:
    names = [
        "Train/dog/1.png",
        "Train/cat/2.png",
        "Train/ant/0.png",
        "val/dog/3.png",
        "val/cat/4.png",
    ]
    path = write(tmp_path / "d", names)
    whole, train, test = (open_dataset(path, split=split) for split in (None, "train", "test"))
    assert len(whole) == 5
    assert list(train.ids) == ["Train/ant/0.png", "Train/cat/2.png", "Train/dog/1.png"]
    assert list(test.ids) == ["val/cat/4.png", "val/dog/3.png"]
    # "ant" is only in the training split: a class has one index all the same
    assert whole.classes == train.classes == test.classes == ("ant", "cat", "dog")
    assert train.labels is not None
    assert test.labels is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2], [1, 2])
    assert test.image(0).getpixel((0, 0)) == 4
    assert test.name == f"{path} (test)"


@writers
def test_a_single_root_is_dropped(write: Callable[..., Path], tmp_path: Path) -> None:
    below = ["training/0/1.png", "training/1/2.png", "testing/1/3.png"]
    names = [f"mnist/png/{name}" for name in below]
    data = open_dataset(write(tmp_path / "d", names), split="test")
    assert list(data.ids) == ["testing/1/3.png"]
    assert data.image(0).getpixel((0, 0)) == 2
    assert data.classes == ("0", "1")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path, ["train/1.png", "bus/1.png", "car/1.png"]))
    assert data.classes == ("bus", "car", "train")
    assert data.split("train") is None


def test_one_class_is_no_label(tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path, ["photos/a.png", "photos/b.png"]))
    assert data.labels is None
    assert list(data.ids) == ["photos/a.png", "photos/b.png"]


def test_a_image_beside_the_class_folders_makes_labels_unknown(tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path, ["cat/a.png", "dog/b.png", "stray.png"]))
    assert (data.labels, data.classes) == (None, ())


def test_only_a_train_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, ["train/cat/1.png", "train/dog/1.png"])
    assert open_dataset(tmp_path).classes == ("cat", "dog")
    with pytest.raises(DatasetError) as raised:
        open_dataset(tmp_path, split="test")
    assert message(raised) == f"'{tmp_path}' has no test split; it has only 'train'"


def test_a_split_of_data_without_splits_is_all_of_it(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat/1.png", "dog/1.png"])
    assert len(open_dataset(tmp_path, split="test")) == 2
    with pytest.raises(UsageError, match=r"No split 'dev'\. Splits: 'train', 'test'"):
        open_dataset(tmp_path, split="dev")


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", ["1.png"])
    root = write_folder(tmp_path / "d", ["dog/1.png"])
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "up").symlink_to(root)
    assert list(open_dataset(root).ids) == ["cat/1.png", "dog/1.png"]


def test_a_folder_named_like_an_image_is_not_one(tmp_path: Path) -> None:
    write_folder(tmp_path, ["album.png/1.png", "other/2.png", "__MACOSX/other/._2.png"])
    assert list(open_dataset(tmp_path).ids) == ["album.png/1.png", "other/2.png"]


# --- what is damaged, missing or too large --------------------------------------------------------


@writers
def test_a_damaged_image_is_named_and_the_others_stay(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = png
    monkeypatch.setitem(globals(), "png", lambda gray: b"junk" if gray == 1 else real(gray))
    data = open_dataset(write(tmp_path / "d", ["cat/a.png", "cat/b.png", "dog/c.png"]))
    with pytest.raises(ImageError) as raised:
        data.image(1)
    assert message(raised).startswith("'cat/b.png' is not an image")
    assert data.image(2).getpixel((0, 0)) == 2


def test_a_damaged_zip_member_is_named_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("b.png", png(2))
    content = bytearray(path.read_bytes())
    content[60] ^= 255  # within the first image: its check sum no longer holds
    path.write_bytes(content)
    data = open_dataset(path)
    with pytest.raises(ImageError) as raised:
        data.image(0)
    assert message(raised).startswith(f"'a.png' is damaged in {path}: Bad CRC-32")
    assert data.image(1).getpixel((0, 0)) == 2


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_what_is_no_archive(name: str, tmp_path: Path) -> None:
    for content in (b"", b"no archive at all", bytes(600)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError) as raised:
            open_dataset(tmp_path / name)
        assert str(tmp_path / name) in message(raised)


@pytest.mark.parametrize("ending", [".gz", ".xz", ".bz2"])
def test_a_tar_cut_short(ending: str, tmp_path: Path) -> None:
    path = write_tar(ending)(tmp_path / "d", [f"{k}.png" for k in range(300)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match="cannot be read as an archive"):
        open_dataset(path)


@pytest.mark.parametrize("write", [write_zip, write_tar("")], ids=["zip", "tar"])
def test_an_archive_that_would_fill_the_memory(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "d", ["a.png", "b.png"])
    monkeypatch.setattr(image_files, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(DatasetError, match=r"Unpack it, and give the folder"):
        open_dataset(path)


@writers
def test_no_image_at_all(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "d", ["readme.txt"])
    with pytest.raises(DatasetError) as raised:
        open_dataset(path)
    assert message(raised).startswith(f"'{path}' holds no image. Readable: .jpg, .jpeg, .png")


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError) as raised:
        open_dataset(tmp_path / "fotos")
    assert message(raised) == (
        f"No dataset '{tmp_path}/fotos'. Close: 'photos'. Give a folder of images, a .zip or .tar, "
        "a folder of IDX files, or 'shapes'"
    )
    with pytest.raises(DatasetError, match="Close: 'shapes'"):
        open_dataset("shaeps")
    (tmp_path / "photos" / "a.png").write_bytes(png(0))
    with pytest.raises(DatasetError) as raised:
        open_dataset(tmp_path / "photos" / "a.png")
    assert message(raised).endswith(
        f"is a file, not a dataset. Give its folder: '{tmp_path}/photos'"
    )
    for wrong in ("a" * 5000, "~no-such-user-here/x"):
        with pytest.raises(DatasetError, match="cannot be opened"):
            open_dataset(wrong)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a/1.png", "b/1.png"])
    (tmp_path / "b").chmod(0)
    with pytest.raises(DatasetError, match="Permission denied"):
        open_dataset(tmp_path)


# --- splitting ------------------------------------------------------------------------------------


def test_a_split_is_disjoint_complete_and_deterministic(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{'cat' if k % 2 else 'dog'}/{k:02}.png" for k in range(57)])
    train, test = split_dataset(tmp_path, seed=4)
    assert (len(train), len(test)) == (52, 5)
    assert not set(train.ids) & set(test.ids)
    assert set(train.ids) | set(test.ids) == set(open_dataset(tmp_path).ids)
    assert train.classes == test.classes == ("cat", "dog")
    assert train.labels is not None
    for i, name in enumerate(train.ids):
        assert train.classes[train.labels[i]] == name.split("/")[0]
        assert train.image(i).getpixel((0, 0)) == int(Path(name).stem)
    again = split_dataset(open_dataset(tmp_path), seed=4)
    assert (again[0].ids, again[1].ids) == (train.ids, test.ids)
    assert split_dataset(tmp_path, seed=5)[1].ids != test.ids
    assert test.name == f"{tmp_path} (10 % held out)"


def test_the_data_s_own_split_is_used(tmp_path: Path) -> None:
    write_folder(tmp_path, ["train/cat/1.png", "train/dog/2.png", "test/dog/3.png"])
    for spec in (tmp_path, open_dataset(tmp_path)):
        train, test = split_dataset(spec)
        assert (list(train.ids), list(test.ids)) == (
            ["train/cat/1.png", "train/dog/2.png"],
            ["test/dog/3.png"],
        )


def test_an_unlabeled_test_part_is_not_used_to_measure(tmp_path: Path) -> None:
    names = [f"train/{kind}/{k}.png" for k in range(10) for kind in ("cat", "dog")]
    write_folder(tmp_path, [*names, "test/1.png", "test/2.png"])
    train, test = split_dataset(tmp_path)
    assert (len(train), len(test)) == (18, 2)
    assert train.labels is not None
    assert test.labels is not None
    assert all(name.startswith("train/") for name in test.ids)
    assert open_dataset(tmp_path, split="test").labels is None


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.png"])
    with pytest.raises(DatasetError, match="has 1 image; a split needs at least two"):
        split_dataset(tmp_path)


def test_a_subset_keeps_the_order_it_is_given(tmp_path: Path) -> None:
    data = open_dataset(write_folder(tmp_path, ["a/0.png", "b/1.png", "c/2.png"]))
    subset = Subset(data, np.array([2, 0]), "two")
    assert (subset.name, subset.ids, subset.classes) == (
        "two",
        ["c/2.png", "a/0.png"],
        ("a", "b", "c"),
    )
    assert subset.labels is not None
    assert subset.labels.tolist() == [2, 0]
    assert subset.image(0).getpixel((0, 0)) == 2


@pytest.mark.slow
def test_cifar_10_from_its_archive(real_data: Path) -> None:
    train, test = split_dataset(real_data / "cifar10-images.tar.xz")
    assert (len(train), len(test)) == (50_000, 10_000)
    assert train.classes == test.classes
    assert train.classes[:3] == ("airplane", "automobile", "bird")
    assert train.labels is not None
    assert test.labels is not None
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert (test.image(0).size, test.image(0).mode) == ((32, 32), "RGB")
