from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convscope._errors import ConvscopeError, ImageError, UsageError
from convscope._images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DecodedImage,
    Preprocess,
    PreprocessedImage,
    parse_preprocess,
)

skimage_data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module", params=["cat", "astronaut", "coffee"])
def photograph(request: pytest.FixtureRequest) -> Image.Image:
    return Image.fromarray(getattr(skimage_data, request.param)())


def told(raised: pytest.ExceptionInfo[ConvscopeError]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


# --- against torchvision and Keras ----------------------------------------------------------------


@pytest.mark.parametrize("size", [None, (640, 360), (97, 311), (224, 224), (100, 60), (1, 1)])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (224, 224), (40, 65), (40, 67)])
def test_equals_torchvision(
    photograph: Image.Image, size: tuple[int, int] | None, resize: int, crop: int
) -> None:
    presets = pytest.importorskip("torchvision.transforms._presets")
    picture = photograph.resize(size) if size else photograph
    theirs = presets.ImageClassification(crop_size=crop, resize_size=resize)(picture).numpy()
    ours = Preprocess((crop, crop), resize, IMAGENET_MEAN, IMAGENET_STD)
    assert np.abs(ours.normalize(ours.view(picture).pixels) - theirs).max() <= 1e-6


@pytest.mark.parametrize("interpolation", ["bicubic", "nearest", "bilinear"])
def test_equals_torchvision_in_other_interpolations(
    photograph: Image.Image, interpolation: str
) -> None:
    presets = pytest.importorskip("torchvision.transforms._presets")
    mode = presets.InterpolationMode(interpolation)
    theirs = presets.ImageClassification(crop_size=64, resize_size=80, interpolation=mode)
    ours = Preprocess((64, 64), 80, IMAGENET_MEAN, IMAGENET_STD, interpolation=interpolation)
    values = ours.normalize(ours.view(photograph).pixels)
    assert np.abs(values - theirs(photograph).numpy()).max() <= 1e-6


@pytest.mark.parametrize("mode", ["caffe", "tf"])
def test_equals_keras(photograph: Image.Image, mode: str) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    utils = pytest.importorskip("keras.src.applications.imagenet_utils")
    pixels = np.asarray(photograph)
    theirs = utils.preprocess_input(
        pixels.astype(np.float32)[None], data_format="channels_last", mode=mode
    )[0]
    ours = parse_preprocess(mode)
    values = ours.normalize(ours.view(photograph).pixels)
    assert np.abs(values - np.moveaxis(theirs, 2, 0)).max() <= 1e-6 * (1 + np.abs(theirs).max())
    assert np.array_equal(ours.restore(values), pixels)


# --- normalize and restore ------------------------------------------------------------------------

_number = st.floats(-2, 2, allow_nan=False)
_spread = st.floats(0.05, 3)


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    mean=st.one_of(_number, st.tuples(_number, _number, _number)),
    std=st.one_of(_spread, st.tuples(_spread, _spread, _spread)),
    scale=st.sampled_from([1.0, 255.0, 2.0]),
    order=st.sampled_from(["RGB", "BGR"]),
)
@settings(max_examples=80, deadline=None)
def test_restore_undoes_normalize(
    seed: int, height: int, width: int, mean: Any, std: Any, scale: float, order: str
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    preprocess = Preprocess(mean=mean, std=std, scale=scale, order=order)
    values = preprocess.normalize(Image.fromarray(pixels))
    assert values.dtype == np.float32
    assert values.shape == (3, height, width)
    assert values.flags.c_contiguous
    assert np.array_equal(preprocess.restore(values), pixels)


def test_one_channel() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    preprocess = Preprocess(mean=0.1307, std=0.3081)
    view = preprocess.view(pixels, channels=1)
    values = preprocess.normalize(view.pixels)
    assert view.pixels.mode == "L"
    assert np.allclose(values, (pixels[None] / 255 - 0.1307) / 0.3081, atol=1e-6)
    assert np.array_equal(preprocess.restore(values), pixels)


def test_color_for_a_one_channel_model_and_gray_for_a_three_channel_one() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert np.asarray(Preprocess().view(red, channels=1).pixels).tolist() == [[76] * 4] * 4  # luma
    gray = Preprocess().view(np.full((2, 2), 7, np.uint8), channels=3)
    assert np.asarray(gray.pixels).tolist() == [[[7] * 3] * 2] * 2


def test_what_no_picture_holds_is_clipped_without_a_warning() -> None:
    values = np.array([[[np.nan, np.inf, -np.inf, 0.5]]], np.float32)
    assert Preprocess().restore(values).tolist() == [[0, 255, 0, 128]]


def test_other_channel_counts_are_refused() -> None:
    with pytest.raises(ImageError) as raised:
        Preprocess().view(np.zeros((4, 4), np.uint8), channels=4)
    assert told(raised) == (
        "The model takes 4 channels and an image has 1 or 3. "
        "Give a float array of shape (4, height, width)"
    )


@pytest.mark.parametrize("part", ["mean", "std"])
def test_numbers_per_channel_must_fit(part: str) -> None:
    preprocess = Preprocess(**{part: (0.5, 0.25, 0.125)})
    for act in (
        lambda: preprocess.normalize(Image.new("L", (4, 4))),
        lambda: preprocess.restore(np.zeros((1, 4, 4), np.float32)),
    ):
        with pytest.raises(UsageError) as raised:
            act()
        assert told(raised) == (
            f"{part}=0.5/0.25/0.125 is 3 numbers for an input of 1 channel. "
            "Give one, or one per channel"
        )


# --- the way back ---------------------------------------------------------------------------------


def _found(seen: Image.Image) -> tuple[float, float, float, float]:
    """The box of what is red in a picture."""
    pixels = np.asarray(seen).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 128) & (pixels[..., 1] < 128))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((224, 224), 256),
        Preprocess((160, 224)),
        Preprocess((224, 96), (300, 200)),
        Preprocess((96, 64), (96, 64)),
        Preprocess(None, 100),
        Preprocess(),
        Preprocess((700, 700), 600),  # padded: the crop is larger than the picture
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(480, 640), (640, 480), (300, 300)])
def test_a_box_finds_its_way_back(preprocess: Preprocess, size: tuple[int, int]) -> None:
    box = tuple(round(side * k) for side, k in zip(size * 2, (0.4, 0.45, 0.6, 0.55), strict=True))
    pixels = np.full((*size, 3), 255, np.uint8)
    pixels[box[0] : box[2], box[1] : box[3]] = (255, 0, 0)
    view = preprocess.view(pixels)
    if preprocess.size:
        assert (view.pixels.height, view.pixels.width) == preprocess.size
    back = view.to_original(_found(view.pixels))
    error = [abs(a - b) * scale for a, b, scale in zip(back, box, view.scale * 2, strict=True)]
    assert max(error) <= 0.51  # in seen pixels: as near as whole pixels can be found


def test_boxes_are_clipped_at_the_border() -> None:
    view = Preprocess((10, 10), 20).view(np.zeros((40, 60, 3), np.uint8))
    assert view.scale == (0.5, 0.5)
    assert view.offset == (5, 10)
    assert view.to_original((0, 0, 10, 10)) == (10, 20, 30, 40)
    assert view.to_original((-100, -100, 100, 100)) == (0, 0, 40, 60)
    assert all(isinstance(side, float) for side in view.to_original((0, 0, 99, 99)))


def test_padding_maps_to_the_border() -> None:
    view = Preprocess((8, 8), 4).view(np.full((4, 4), 255, np.uint8), channels=1)
    seen = np.asarray(view.pixels)
    assert seen[2:6, 2:6].min() == 255
    assert seen.sum() == 16 * 255
    assert view.to_original((0, 0, 8, 8)) == (0, 0, 4, 4)
    assert view.to_original((0, 0, 2, 2)) == (0, 0, 0, 0)


def test_a_view_keeps_the_original_and_its_name() -> None:
    picture = DecodedImage(Image.new("RGB", (30, 20)), "cat.jpg")
    view = Preprocess((8, 8)).view(picture)
    assert isinstance(view, PreprocessedImage)
    assert view.original is picture
    assert view.name == "cat.jpg"


def test_one_pixel_and_a_strip() -> None:
    model = Preprocess((224, 224), 256)
    assert model.view(np.full((1, 1, 3), 9, np.uint8)).pixels.getpixel((100, 100)) == (9, 9, 9)
    with pytest.raises(ImageError) as raised:
        model.view(np.zeros((1, 20_000, 3), np.uint8))
    assert told(raised) == (
        "An image of 1×20000 (height×width) would become 256×5120000 for this model. Crop it first"
    )


# --- at another size ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "size", "resize"),
    [
        (Preprocess((224, 224), 256), (448, 448), 512),
        (Preprocess((224, 224), 256), (224, 224), 256),
        (Preprocess((224, 224), 256), (224, 448), None),
        (Preprocess((100, 200), 120), (50, 100), 60),
        (Preprocess((224, 224), (224, 224)), (64, 96), (64, 96)),
        (Preprocess((100, 100), (120, 150)), (50, 100), (60, 150)),
        (Preprocess((224, 224)), (64, 64), None),
        (Preprocess(None, (32, 32)), (64, 64), (64, 64)),
        (Preprocess(), (64, 48), None),
    ],
    ids=str,
)
def test_at_another_size(before: Preprocess, size: tuple[int, int], resize: Any) -> None:
    after = before.at(size)
    assert (after.size, after.resize) == (size, resize)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(20, 60), st.integers(20, 60))
@settings(max_examples=60, deadline=None)
def test_at_any_size_nothing_is_padded(height: int, width: int, h: int, w: int) -> None:
    white = np.full((height, width), 255, np.uint8)
    view = Preprocess((40, 40), 46).at((h, w)).view(white, channels=1)
    assert (view.pixels.height, view.pixels.width) == (h, w)
    assert np.asarray(view.pixels).min() == 255


# --- what is said, and what is refused ------------------------------------------------------------


@pytest.mark.parametrize(
    ("preprocess", "said"),
    [
        (Preprocess(), "0…1 (as given)"),
        (Preprocess((224, 224), 256), "resize 256, crop 224×224, 0…1 (as given)"),
        (Preprocess((224, 160)), "resize to cover, crop 224×160, 0…1 (as given)"),
        (Preprocess((9, 8), (9, 8)), "resize 9×8, 0…1 (as given)"),
        (
            Preprocess((9, 8), (12, 12), interpolation="bicubic", origin="timm"),
            "resize 12×12, crop 9×8, bicubic, 0…1 (timm)",
        ),
        (
            parse_preprocess("caffe"),
            "0…255, mean 103.939/116.779/123.68, std 1, BGR (--preprocess caffe)",
        ),
    ],
)
def test_describe(preprocess: Preprocess, said: str) -> None:
    assert preprocess.describe() == said


def test_lists_and_arrays_become_tuples_so_that_a_card_can_be_read_back() -> None:
    card = Preprocess(
        size=[32, 48],  # type: ignore[arg-type]
        mean=np.array(IMAGENET_MEAN),  # type: ignore[arg-type]
        std=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert card == Preprocess((32, 48), mean=IMAGENET_MEAN, std=0.5)
    assert hash(card) == hash(Preprocess((32, 48), mean=IMAGENET_MEAN, std=0.5))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": 224}, "size is (height, width) in pixels, not 224. Write size=(32, 32)"),
        ({"size": (3, 32, 32)}, "size is (height, width) in pixels, not (3, 32, 32)"),
        ({"size": (0, 5)}, "size is (height, width)"),
        ({"resize": 0}, "resize is (height, width)"),
        ({"std": 0}, "std divides, so it cannot be 0 as in 0"),
        ({"std": (1, 0, 1)}, "std divides, so it cannot be 0 as in (1, 0, 1)"),
        ({"scale": 0}, "scale divides"),
        ({"scale": (1, 2)}, "scale is a number, not (1, 2)"),
        ({"mean": float("nan")}, "mean is a number, or one per channel, not nan"),
        ({"mean": "imagenet"}, "mean is a number, or one per channel, not 'imagenet'"),
        ({"mean": ()}, "mean is a number, or one per channel, not ()"),
        ({"order": "rgb"}, "Channel order is 'RGB' or 'BGR', not 'rgb'"),
        (
            {"interpolation": "bilinaer"},
            "No interpolation 'bilinaer'. Close: 'bilinear'. "
            "Known: nearest, box, bilinear, hamming, bicubic, lanczos",
        ),
    ],
)
def test_wrong_values(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        Preprocess(**wrong)
    assert told(raised).startswith(said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unit", Preprocess()),
        ("imagenet", Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD)),
        ("tf", Preprocess(mean=0.5, std=0.5)),
        (
            "resize=256,crop=224,mean=imagenet,std=imagenet",
            Preprocess((224, 224), 256, IMAGENET_MEAN, IMAGENET_STD),
        ),
        (
            "ImageNet, crop=32x48, interpolation=BICUBIC",
            Preprocess((32, 48), mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bicubic"),
        ),
        (
            "resize=30x40,mean=0.1/0.2/0.3,std=0.5,scale=255,order=bgr",
            Preprocess(None, (30, 40), (0.1, 0.2, 0.3), 0.5, 255.0, "BGR"),
        ),
        ("crop=64,tf", Preprocess((64, 64), mean=0.5, std=0.5)),
    ],
)
def test_parse_preprocess(text: str, expected: Preprocess) -> None:
    parsed = parse_preprocess(text)
    assert parsed == expected
    assert parsed.origin == f"--preprocess {text}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imagnet", "No preprocessing 'imagnet'. Close: 'imagenet'. Known: imagenet, raw"),
        ("mean", "No preprocessing 'mean'. Close: 'mean='."),
        ("croop=3", "No preprocessing 'croop=3'. Close: 'crop='."),
        ("", "No preprocessing ''. Known: imagenet"),
        ("crop=big", "crop=big is not understood. Write crop=224 or crop=224x160"),
        ("crop=0", "crop=0 is not understood."),
        ("resize=1x2x3", "resize=1x2x3 is not understood."),
        ("mean=a/b", "mean=a/b is not understood."),
        ("mean=nan", "mean is a number"),
        ("std=0", "std divides"),
        ("scale=1/2", "scale is a number, not (1.0, 2.0)"),
        ("order=GRB", "Channel order is 'RGB' or 'BGR', not 'GRB'"),
        ("interpolation=cubic", "No interpolation 'cubic'. Close: 'bicubic'."),
    ],
)
def test_parse_preprocess_errors(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_preprocess(text)
    assert told(raised).startswith(said)
