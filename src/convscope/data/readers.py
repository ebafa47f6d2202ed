"""Readers: from what a user types to a ``Dataset``."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope.data.base import Dataset, Subset
from convscope.data.shapes import Shapes
from convscope.errors import DatasetError, UsageError, closest
from convscope.images import IMAGE_SUFFIXES, decode

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_IDX_STEMS = {"train": "train", "test": "t10k"}


def open_dataset(spec: str | Path | Dataset, *, part: str | None = None) -> Dataset:
    """The dataset that ``spec`` names.

    ``spec`` is a folder of images (class sub-folders optional), a ``.zip`` or ``.tar`` of one, a
    folder of IDX files (MNIST), or ``shapes[,count=…,size=…,seed=…]``. ``part`` is ``"train"`` or
    ``"test"`` where the data bring such a split; ``None`` takes all of it.

    Raises ``DatasetError`` where there is no image, ``UsageError`` for an unknown option.
    """
    if isinstance(spec, Dataset):
        return spec
    name, *options = str(spec).split(",")
    if name == "shapes" and not Path(name).exists():
        return _shapes(options, part)
    path = Path(spec).expanduser()
    if not path.exists():
        raise DatasetError(
            f"No dataset {str(spec)!r}.{_neighbours(path)} Give a folder of images, a .zip or "
            ".tar, a folder of IDX files, or 'shapes'"
        )
    if path.is_dir():
        return _IdxDataset(path, part) if _is_idx(path) else _FolderDataset(path, part)
    if path.name.lower().endswith(_ARCHIVES):
        return _ArchiveDataset(path, part)
    raise DatasetError(f"{path} is a file, not a dataset. Give its folder: {path.parent}")


def split_dataset(spec: str | Path | Dataset, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """A training and a test part: the data's own, or nine tenths and one tenth at random."""
    if not isinstance(spec, Dataset):
        train = open_dataset(spec, part="train")
        if train.name.endswith(" (train)"):
            return train, open_dataset(spec, part="test")
    whole = spec if isinstance(spec, Dataset) else open_dataset(spec)
    order = np.random.default_rng(seed).permutation(len(whole))
    held_out = max(1, len(whole) // 10)
    if len(whole) < 2:
        raise DatasetError(f"{whole.name} has {len(whole)} image; training needs at least two")
    return (
        Subset(whole, np.sort(order[held_out:]), f"{whole.name} (90 %)"),
        Subset(whole, np.sort(order[:held_out]), f"{whole.name} (10 % held out)"),
    )


def _neighbours(path: Path) -> str:
    parent = path.parent
    return closest(path.name, (p.name for p in parent.iterdir())) if parent.is_dir() else ""


def _shapes(options: Sequence[str], part: str | None) -> Shapes:
    values = {"count": 1000, "size": 64, "seed": 0}
    for option in options:
        key, _, value = option.partition("=")
        if key not in values or not value.isdigit():
            raise UsageError(f"shapes does not take {option!r}. It takes: count=, size=, seed=")
        values[key] = int(value)
    # The held-out part is a fresh draw: its stream of random numbers never meets the other's.
    made = Shapes(values["count"], values["size"], values["seed"] + 1_000_003 * (part == "test"))
    if part:
        made.name += f" ({part})"
    return made


class _Listed(Dataset):
    """Pictures known by a path below a root; the first folder of the path is the class."""

    def _list(self, paths: Sequence[str], name: str, part: str | None) -> None:
        paths = sorted(p for p in paths if p.lower().endswith(IMAGE_SUFFIXES))
        paths, self._prefix = _below_common_root(paths)
        self.name = name
        if part and {p.split("/")[0].lower() for p in paths} & {*_TRAIN, *_TEST}:
            wanted = _TRAIN if part == "train" else _TEST
            paths = [p for p in paths if p.split("/")[0].lower() in wanted]
            self.name = f"{name} ({part})"
        if not paths:
            raise DatasetError(f"{self.name} holds no image. Read are: {', '.join(IMAGE_SUFFIXES)}")
        self.ids = paths
        folders = [_class_of(p) for p in paths]
        if all(folders) and len(set(folders)) > 1:
            self.classes = tuple(sorted(set(folders)))
            index = {folder: k for k, folder in enumerate(self.classes)}
            self.labels = np.array([index[folder] for folder in folders], np.int64)


def _below_common_root(paths: Sequence[str]) -> tuple[list[str], str]:
    """Drop the folders that all paths share, but never a split's name or a class."""
    prefix = ""
    while paths:
        heads = {p.split("/")[0] for p in paths}
        if len(heads) > 1 or any(p.count("/") < 2 for p in paths):
            break
        (head,) = heads
        if head.lower() in {*_TRAIN, *_TEST}:
            break
        prefix += head + "/"
        paths = [p[len(head) + 1 :] for p in paths]
    return list(paths), prefix


def _class_of(path: str) -> str:
    parts = PurePosixPath(path).parts[:-1]
    if parts and parts[0].lower() in {*_TRAIN, *_TEST}:
        parts = parts[1:]
    return parts[0] if parts else ""


class _FolderDataset(_Listed):
    """A folder of image files, class sub-folders optional."""

    def __init__(self, root: Path, part: str | None) -> None:
        self.root = root
        self._list([p.relative_to(root).as_posix() for p in root.rglob("*")], str(root), part)

    def picture(self, index: int) -> Image.Image:
        return decode(self.root / self._prefix / self.ids[index]).image


class _ArchiveDataset(_Listed):
    """A ``.zip`` or ``.tar`` of such a folder.

    The members are read into memory at once (still encoded): a compressed tar cannot be entered
    in the middle, and an archive of a million photographs belongs unpacked.
    """

    def __init__(self, path: Path, part: str | None) -> None:
        try:
            members = _zip_members(path) if path.suffix == ".zip" else _tar_members(path)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise DatasetError(f"{path} cannot be read as an archive: {error}") from None
        self._list(list(members), str(path), part)
        self._bytes = {name: members[self._prefix + name] for name in self.ids}

    def picture(self, index: int) -> Image.Image:
        name = self.ids[index]
        return decode(io.BytesIO(self._bytes[name]), name=f"{self.name}:{name}").image


def _zip_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {m.filename: archive.read(m) for m in archive.infolist() if not m.is_dir()}


def _tar_members(path: Path) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                members[member.name] = stream.read()
    return members


def _idx_file(root: Path, stem: str, kind: str) -> Path | None:
    names = (f"{stem}-{kind}{suffix}" for kind in (kind, kind.replace("-idx", ".idx"))
             for suffix in ("", ".gz"))  # fmt: skip
    return next((root / name for name in names if (root / name).is_file()), None)


def _is_idx(root: Path) -> bool:
    return any(_idx_file(root, stem, "images-idx3-ubyte") for stem in _IDX_STEMS.values())


class _IdxDataset(Dataset):
    """A folder of IDX files as MNIST, Fashion-MNIST and KMNIST come, gzipped or not."""

    def __init__(self, root: Path, part: str | None) -> None:
        stems = [stem for name, stem in _IDX_STEMS.items() if part in (None, name)]
        files = [(stem, _idx_file(root, stem, "images-idx3-ubyte")) for stem in stems]
        if part and files[0][1] is None:
            raise DatasetError(f"{root} has no {stems[0]}-images-idx3-ubyte[.gz]")
        found = [(stem, file) for stem, file in files if file is not None]
        images = [_read_idx(file, dimensions=3) for _, file in found]
        self._images = np.concatenate(images)
        self.name = f"{root} ({part})" if part else str(root)
        self.ids = [f"{stem}/{i}" for (stem, _), block in zip(found, images, strict=True)
                    for i in range(len(block))]  # fmt: skip
        labels = [_idx_file(root, stem, "labels-idx1-ubyte") for stem, _ in found]
        if all(labels):
            read = [_read_idx(file, dimensions=1) for file in labels if file]
            self.labels = np.concatenate(read).astype(np.int64)
            self.classes = tuple(str(k) for k in range(int(self.labels.max()) + 1))

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self._images[index])


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in one IDX file: two zero bytes, a type, a rank, big-endian sizes, the data."""
    try:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        with opened as stream:
            raw = stream.read()
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from None
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise DatasetError(f"{path} is not an IDX file of {dimensions}-dimensional bytes")
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    if len(raw) - header != int(np.prod(shape)):
        raise DatasetError(f"{path} is truncated: {len(raw) - header} of {np.prod(shape)} bytes")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
