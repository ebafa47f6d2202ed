"""Rows with names: Hugging Face datasets, and torch Datasets of dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope._data import open_dataset
from convscope._errors import ConvscopeError, DatasetError, UsageError


def image(level: int) -> Image.Image:
    return Image.new("RGB", (9, 7), (level, 0, 0))


def level(data: Any, index: int) -> int:
    return int(data.image(index).getpixel((0, 0))[0])


@pytest.fixture
def hugging() -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "img": datasets.Image(),
            "kind": datasets.ClassLabel(names=["ant", "bee"]),
            "label": datasets.Value("string"),
        }
    )
    rows = {
        "id": list(range(6)),
        "img": [image(k) for k in range(6)],
        "kind": [k % 2 for k in range(6)],
        "label": list("abcabc"),
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_hugging_face_dataset(hugging: Any) -> None:
    data = open_dataset(hugging)
    assert (len(data), data.classes) == (6, ("ant", "bee"))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert [level(data, k) for k in range(6)] == list(range(6))


def test_one_from_disk_by_name(hugging: Any, tmp_path: Path) -> None:
    hugging.save_to_disk(str(tmp_path / "saved"))
    data = open_dataset(f"huggingface:{tmp_path}/saved,label=label")
    assert data.classes == ("a", "b", "c")
    assert data.name == f"huggingface:{tmp_path}/saved,label=label"
    assert level(data, 4) == 4


def test_rows_of_a_list() -> None:
    rows = [{"name": "x", "photo": np.full((5, 4, 3), k, np.uint8), "target": k} for k in range(3)]
    data = open_dataset(rows)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2]
    assert level(data, 2) == 2


def test_rows_of_floats_are_numbers() -> None:
    data = open_dataset([{"x": np.zeros((6, 4, 4), np.float32)}] * 2)
    assert data.preprocessed
    assert data.labels is None


def test_of_a_dataset_of_several_splits_one_has_to_be_chosen(hugging: Any) -> None:
    datasets = pytest.importorskip("datasets")
    with pytest.raises(DatasetError, match=r"has the splits train, test. Choose one: split=train"):
        open_dataset(datasets.DatasetDict({"train": hugging, "test": hugging}))


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        (
            "huggingface:{}/saved,label=labl",
            UsageError,
            "No column 'labl'. Close: 'label'. Columns",
        ),
        ("huggingface:{}/saved,where=x", UsageError, "/saved does not take 'where'. It takes: "),
        ("huggingface:{}/nothing", DatasetError, "/nothing cannot be opened: "),
    ],
)
def test_errors(
    hugging: Any,
    tmp_path: Path,
    spec: str,
    kind: type[ConvscopeError],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hugging.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(kind) as raised:
        open_dataset(spec.format(tmp_path))
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rows_without_images() -> None:
    with pytest.raises(DatasetError, match=r"No column holds images. Columns: a, b. Name one"):
        open_dataset([{"a": 1, "b": "cat.jpg"}])
