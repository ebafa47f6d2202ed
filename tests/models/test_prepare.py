"""What may be given as an image, and what is said of what may not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope as cs
from convscope._errors import ImageError, ModelError, UsageError
from convscope._models import probabilities

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


@pytest.fixture
def model() -> Any:
    """Takes 3×12×16, known to be scaled to 0…1."""
    return cs.load(nn.Conv2d(3, 2, 1), preprocess=cs.Preprocess(size=(12, 16)))


def _pictures(folder: Path) -> dict[str, Any]:
    path = folder / "p.png"
    Image.fromarray(RGB).save(path)
    return {
        "a path": path,
        "text": str(path),
        "PIL": Image.fromarray(RGB),
        "uint8 HWC": RGB,
        "uint8 CHW tensor": torch.from_numpy(RGB).permute(2, 0, 1),
        "an open file": io.BytesIO(path.read_bytes()),
    }


@pytest.mark.parametrize(
    "kind", ["a path", "text", "PIL", "uint8 HWC", "uint8 CHW tensor", "an open file"]
)
def test_images_are_preprocessed(model: Any, tmp_path: Path, kind: str) -> None:
    batch = model.prepare(_pictures(tmp_path)[kind])
    expected = torch.from_numpy(RGB).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(batch.values, expected)
    assert batch.single
    assert batch.size == (12, 16)
    assert len(batch.views) == len(batch) == 1


@pytest.mark.parametrize(
    "numbers",
    [
        torch.rand(3, 12, 16),
        torch.rand(3, 12, 16).double(),
        torch.rand(3, 12, 16).half(),
        np.random.default_rng(1).random((3, 12, 16)),
        np.ones((3, 12, 16), ">f4"),
        np.ones((3, 12, 32), np.float32)[:, ::-1, ::-2],
        np.broadcast_to(np.float32(1), (3, 12, 16)),
    ],
)
def test_floats_are_taken_as_they_are(model: Any, numbers: Any) -> None:
    for given, single in ((numbers, True), (numbers[None], False)):
        batch = model.prepare(given)
        assert batch.values.dtype == torch.float32
        assert batch.single is single
        assert batch.views is None
        expected = np.asarray(numbers).astype(np.float32)[None]
        np.testing.assert_array_equal(batch.values.numpy(), expected)


def test_a_list_is_a_batch_and_gives_a_list(model: Any) -> None:
    batch = model.prepare([RGB, Image.fromarray(RGB)])
    assert (len(batch), batch.single, batch.names) == (2, False, ("image", "image"))
    assert len(model.prepare(np.stack([RGB, RGB, RGB]))) == 3
    assert len(model.prepare([torch.rand(2, 3, 12, 16), torch.rand(3, 12, 16)])) == 3
    assert model.prepare(batch) is batch
    assert batch.one(1).single
    head = cs.load(nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), input=(3, 1, 2))
    assert len(head.predict([RGB, RGB])) == 2
    assert isinstance(head.predict(RGB)[0], tuple)


def test_images_can_be_preprocessed_to_another_size(model: Any) -> None:
    assert model.prepare(RGB, size=24).size == (24, 24)
    several = model.prepare([RGB, RGB], size=(10, 20))
    assert several.size == several.preprocess.size == several.one(1).preprocess.size == (10, 20)
    assert model.prepare(RGB).preprocess == model.input.preprocess
    assert model.prepare([RGB, torch.rand(3, 12, 16)]).preprocess is None
    with pytest.raises(UsageError, match="size= resizes images, and An array of float32 of shape"):
        model.prepare(torch.rand(3, 12, 16), size=24)


def test_keras_takes_floats_in_its_own_layout(torch_and_keras: tuple[Any, Any]) -> None:
    theirs = torch_and_keras[1]
    numbers = np.random.default_rng(2).random((10, 14, 3)).astype(np.float32)
    batch = theirs.prepare(numbers)
    assert batch.values.shape == (1, 3, 10, 14)
    np.testing.assert_array_equal(batch.values[0].numpy(), np.moveaxis(numbers, 2, 0))
    with pytest.raises(ImageError) as caught:
        theirs.prepare(np.moveaxis(numbers, 2, 0))
    assert str(caught.value) == (
        "An array of float32 of shape (3, 10, 14) has 14 channels where tiny takes 3. Its axes "
        "seem to be in another order. Give (height, width, 3), or an image file"
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "No image was given"),
        (
            np.zeros((0, 3, 12, 16), np.float32),
            "An array of float32 of shape (0, 3, 12, 16) holds no image",
        ),
        (
            None,
            "A value of type NoneType is not an image. Give a path, a PIL image, a uint8 "
            "array, or a float array (3, height, width)",
        ),
        (
            torch.zeros(3, 12, 16, dtype=torch.int64),
            "An array of int64 of shape (3, 12, 16) is not "
            "an image. Give a path, a PIL image, a uint8 array, or a float array (3, height, "
            "width)",
        ),
        (
            np.zeros((12, 16)),
            "An array of float64 of shape (12, 16) is not an image. Give a path, "
            "a PIL image, a uint8 array, or a float array (3, height, width)",
        ),
        (
            torch.zeros(1, 12, 16),
            "An array of float32 of shape (1, 12, 16) has 1 channel where "
            "Conv2d takes 3. Give (3, height, width), or an image file",
        ),
        (
            torch.zeros(12, 16, 3),
            "An array of float32 of shape (12, 16, 3) has 12 channels where "
            "Conv2d takes 3. Its axes seem to be in another order. Give (3, height, width), or an "
            "image file",
        ),
        (
            {"a": 1},
            "A value of type dict is not an image. Give a path, a PIL image, a uint8 "
            "array, or a float array (3, height, width)",
        ),
        (
            [torch.zeros(3, 4, 4), torch.zeros(3, 5, 5)],
            "Images of one call must have one size, not array 4×4, array 5×5. Set one with size=",
        ),
    ],
)
def test_what_is_no_image_gives_an_error_of_one_line(model: Any, given: Any, text: str) -> None:
    with pytest.raises((ImageError, UsageError)) as caught:
        model.prepare(given)
    assert str(caught.value) == text


def test_one_channel_and_many_channel_networks() -> None:
    gray = cs.load(nn.Conv2d(1, 2, 1), input=(1, 12, 16))
    assert gray.prepare(RGB).values.shape == (1, 1, 12, 16)
    many = cs.load(nn.Conv2d(6, 2, 1), input=(6, 12, 16))
    assert many.prepare(torch.rand(6, 12, 16)).values.shape == (1, 6, 12, 16)
    with pytest.raises(ImageError, match="takes 6 channels and an image has 1 or 3"):
        many.prepare(RGB)
    pixels, note = many.preprocessed(many.prepare(torch.rand(6, 12, 16)))
    assert pixels.shape == (12, 16, 3)
    assert note.startswith("channel 0 of 6, numbers from ")


def test_the_preprocessed_image_undoes_the_normalization() -> None:
    model = cs.load(nn.Conv2d(3, 2, 1), preprocess="imagenet")
    batch = model.prepare(RGB)
    np.testing.assert_array_equal(model.preprocessed(batch)[0], RGB)
    np.testing.assert_array_equal(model.preprocessed(model.prepare(batch.values))[0], RGB)
    unknown = cs.load(nn.Conv2d(3, 2, 1))
    assert "drawn black to white" in unknown.preprocessed(unknown.prepare(batch.values))[1]


def test_a_wrong_size_names_the_right_one() -> None:
    model = cs.load(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), input=(3, 4, 4))
    with pytest.raises(ModelError) as caught:
        model.logits(torch.rand(3, 5, 5))
    text = str(caught.value)
    assert text.startswith("Sequential failed on an input of 3×5×5: RuntimeError: ")
    assert text.endswith(". It takes 3×4×4")


# Probabilities


def test_distributions_stay_scores_go_through_softmax_and_one_output_is_a_probability() -> None:
    given = torch.tensor([[0.2, 0.8]])
    torch.testing.assert_close(probabilities(given), given)
    torch.testing.assert_close(probabilities(given * 5), (given * 5).softmax(1))
    torch.testing.assert_close(probabilities(torch.tensor([[0.9]])), torch.tensor([[0.9]]))
    torch.testing.assert_close(
        probabilities(torch.tensor([[3.0]])), torch.tensor([[3.0]]).sigmoid()
    )


def test_what_is_no_classifier_predicts_nothing(model: Any) -> None:
    with pytest.raises(ModelError, match="Conv2d returns 2×12×16 for an image, not one logit per"):
        model.predict(RGB)


def test_a_wrong_number_of_class_names_is_an_error() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    model = cs.load(module, input=(3, 2, 2), classes=["cat", "dog"])
    with pytest.raises(ModelError, match="has 3 outputs and 2 class names"):
        model.predict(RGB)
    assert {name for name, _ in cs.load(module, input=(3, 2, 2)).predict(RGB)} == {
        "class 0",
        "class 1",
        "class 2",
    }
