from __future__ import annotations

import numpy as np
import pytest

from convscope._errors import UsageError
from convscope._plot import TABLES, Section, Sheet, overlay, overlay_tile

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def test_against_a_loop() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.25]])
    shown = overlay(PICTURE, values, opacity=0.6)
    for y in range(12):
        for x in range(20):
            color = TABLES["viridis"][round(values[y // 6, x // 10] * 255)].astype(float)
            gray = PICTURE[y, x].astype(float) @ [0.299, 0.587, 0.114]
            assert np.abs(shown[y, x] - (0.4 * gray + 0.6 * color)).max() <= 3


def test_opacity_ends() -> None:
    values = np.arange(4.0).reshape(2, 2)
    gray = PICTURE.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_array_equal(overlay(PICTURE, values, opacity=0)[..., 0], np.rint(gray))
    assert (overlay(PICTURE, values, opacity=1)[-1, -1] == TABLES["viridis"][255]).all()


def test_outside_the_box_the_picture_stays() -> None:
    shown = overlay(PICTURE, np.eye(2), box=(5, 2, 15, 10))
    inside = np.zeros((12, 20), bool)
    inside[2:10, 5:15] = True
    np.testing.assert_array_equal(shown[~inside], PICTURE[~inside])
    assert (shown[inside] != PICTURE[inside]).any()


def test_nan_is_opaque_and_a_dead_map_leaves_gray() -> None:
    values = np.array([[np.nan, 1.0], [0.0, 0.5]])
    assert (overlay(PICTURE, values)[:6, :10] == (255, 0, 255)).all()
    dead = overlay(PICTURE, np.zeros((2, 2)))
    assert (dead[..., 0] == dead[..., 1]).all()


def test_a_given_range_and_signed_zero() -> None:
    shown = overlay(PICTURE, np.zeros((1, 1)), low=-2, high=2, cmap="signed", opacity=1)
    assert (shown == TABLES["signed"][127]).all()


def test_the_legend_says_how_it_is_laid_over() -> None:
    sheet = Sheet("Grad-CAM", ("model tiny",), (Section("", (overlay_tile(PICTURE, np.eye(2)),)),))
    words = " ".join(text.text for text in sheet.layout.texts)
    assert "laid over the image in gray" in words
    assert "viridis" in words
    assert [swatch.kind for swatch in sheet.layout.swatches] == ["bar"]


def test_overlays_with_nan_draw() -> None:
    values = np.array([[np.nan, 1.0], [0.0, 0.5]])
    sheet = Sheet("Grad-CAM", (), (Section("", (overlay_tile(PICTURE, values, "conv1:3"),)),))
    assert "nan" in [swatch.kind for swatch in sheet.layout.swatches]
    assert sheet.image.mode == "RGB"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"opacity": 2}, "Opacity runs from 0 to 1, not 2."),
        (
            {"box": (0, 0, 99, 5)},
            "Box (0, 0, 99, 5) is not inside the 20×12 image. Nearest: (0, 0, 20, 5).",
        ),
    ],
)
def test_error_texts(options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        overlay(PICTURE, np.eye(2), **options)  # type: ignore[arg-type]
    assert str(caught.value) == text
