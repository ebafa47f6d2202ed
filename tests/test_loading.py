"""Loaders: which images, in which batches, and what becomes of those that cannot be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs
from convscope._data import open_dataset
from convscope._errors import DatasetError, UsageError
from convscope._loading import (
    class_count,
    default_workers,
    match_labels,
    open_images,
    prefetch,
    prefetch_batches,
)


@pytest.fixture
def model() -> cs.Model:
    network = nn.Sequential(nn.Conv2d(3, 3, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    preprocess = cs.Preprocess(size=(8, 8), resize=8)
    return cs.load(network, preprocess=preprocess, classes=["Black Cat", "dog", "emu"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images, each of one gray level; the fourth cannot be read."""
    for k in range(10):
        path = tmp_path / "photos" / ("black_cat" if k < 5 else "dog") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * k,) * 3).save(path)
    (tmp_path / "photos" / "black_cat" / "3.png").write_bytes(b"junk")
    return tmp_path / "photos"


def levels(values: torch.Tensor) -> list[int]:
    return [round(float(image.mean()) * 255 / 10) for image in values]


def test_batches_leave_out_what_cannot_be_read(model: cs.Model, photos: Path) -> None:
    loader = open_images(model, photos)
    loader.batch_size = 4
    reports: list[tuple[int, int]] = []
    batches = list(loader.batches(lambda done, total: reports.append((done, total))))
    assert [indices.tolist() for indices, _ in batches] == [[0, 1, 2], [4, 5, 6, 7], [8, 9]]
    assert [levels(batch.values) for _, batch in batches] == [[0, 1, 2], [4, 5, 6, 7], [8, 9]]
    assert reports == [(4, 10), (8, 10), (10, 10)]
    assert list(loader.damaged) == ["black_cat/3.png"]
    assert "is not an image" in loader.damaged["black_cat/3.png"]
    assert loader.describe() == f"9 images of {photos} (1 damaged, left out)"


def test_some_images_are_spread_evenly(model: cs.Model, photos: Path) -> None:
    loader = open_images(model, photos, first=4)
    assert loader.indices.tolist() == [0, 3, 6, 9]
    assert loader.describe() == f"4 of 10 images of {photos}"
    assert open_images(model, photos, first=50).indices.tolist() == list(range(10))


def test_one_image_and_a_list_of_images(model: cs.Model) -> None:
    gray = Image.new("L", (9, 7), 77)
    assert len(open_images(model, gray).indices) == 1
    loader = open_images(model, [gray, gray])
    assert len(loader.indices) == 2
    shown = loader.display_image(1)
    assert (shown.size, shown.getpixel((0, 0))) == ((9, 7), 77)


def test_arrays_are_drawn(model: cs.Model) -> None:
    loader = open_images(model, [np.zeros((3, 8, 8), np.float32)])
    assert loader.display_image(0).size == (8, 8)


def test_the_test_split_is_used_where_there_is_one(model: cs.Model) -> None:
    assert open_images(model, "shapes,count=5,size=8").dataset.name.endswith("(test)")
    assert open_images(model, "shapes,count=5,size=8", split=None).dataset.name.endswith("seed=0")


@pytest.mark.parametrize("workers", [1, 3])
def test_prefetched_batches_are_in_order(model: cs.Model, photos: Path, workers: int) -> None:
    data = open_dataset(photos)
    indices = [np.arange(0, 6), np.arange(3, 4), np.arange(6, 10)]
    found = list(prefetch_batches(model, data, (8, 8), indices, workers))
    assert [batch.images.tolist() for batch in found] == [[0, 1, 2, 4, 5], [], [6, 7, 8, 9]]
    assert levels(found[0].values) == [0, 1, 2, 4, 5]
    assert [index for batch in found for index, _ in batch.skipped] == [3, 3]
    assert all("is not an image" in reason for batch in found for _, reason in batch.skipped)


def test_both_loaders_prepare_the_same_values(model: cs.Model, photos: Path) -> None:
    loader = open_images(model, photos)
    ((indices, batch),) = loader.batches()
    (prefetched,) = prefetch_batches(model, loader.dataset, (8, 8), [np.arange(10)])
    np.testing.assert_array_equal(indices, prefetched.images)
    np.testing.assert_array_equal(batch.values, prefetched.values)


def test_prefetching_runs_a_few_batches_ahead_in_other_threads() -> None:
    taken, threads = [], set()

    def batches() -> Iterator[np.ndarray]:
        for k in range(20):
            taken.append(k)
            yield np.arange(10 * k, 10 * k + 10)

    def work(indices: np.ndarray) -> list[int]:
        threads.add(threading.current_thread().name)
        time.sleep(0.001)
        return [int(index) ** 2 for index in indices]

    running = prefetch(work, batches(), workers=2)
    indices, results = next(running)
    assert results == [index**2 for index in indices.tolist()]
    assert taken == [0, 1, 2]
    running.close()  # type: ignore[attr-defined]
    assert all(name.startswith("decode") for name in threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_an_error_of_a_worker_reaches_the_consumer() -> None:
    def work(indices: np.ndarray) -> list[int]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(prefetch(work, [np.arange(3)], workers=2))


def test_the_caller_s_own_sequences_get_one_thread(photos: Path) -> None:
    assert default_workers(open_dataset([Image.new("L", (4, 4))])) == 1
    assert 1 <= default_workers(open_dataset(photos)) <= 8


# --- labels ---------------------------------------------------------------------------------------


def test_labels_are_matched_by_name(model: cs.Model, photos: Path) -> None:
    """``black_cat`` is ``Black Cat``."""
    assert match_labels(model, open_dataset(photos), 3, "a test").tolist() == [0] * 5 + [1] * 5


def test_numbered_classes_are_matched_by_order(model: cs.Model) -> None:
    gray = Image.new("L", (4, 4))
    data = open_dataset([(gray, 2), (gray, 0)])
    assert match_labels(model, data, 3, "a test").tolist() == [2, 0]
    with pytest.raises(DatasetError, match=r"has 3 classes and .* 2 outputs\. Give data with the"):
        match_labels(model, data, 2, "a test")


def test_labels_that_do_not_match(model: cs.Model, photos: Path) -> None:
    with pytest.raises(DatasetError, match="is not labeled, and a test needs labels"):
        match_labels(model, open_dataset(photos / "dog"), 3, "a test")
    (photos / "dog").rename(photos / "doge")
    with pytest.raises(DatasetError) as raised:
        match_labels(model, open_dataset(photos), 3, "a test")
    assert str(raised.value) == (
        f"Classes do not match: '{photos}' has 'doge' (1 of 2 classes), which Sequential does not "
        "have. Close: 'dog'. Rename its folders, or name the outputs: --classes FILE"
    )


def test_the_number_of_classes(model: cs.Model) -> None:
    assert class_count(torch.zeros(5, 3), model) == 3
    with pytest.raises(UsageError, match=r"returns \(3, 4, 4\) for an image, not one score per"):
        class_count(torch.zeros(5, 3, 4, 4), model)
