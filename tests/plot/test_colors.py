from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._plot import TABLES, THEMES, palette, table
from convscope._plot.colors import (
    BACKGROUND,
    INK_STEPS,
    LEVELS,
    MIDDLE,
    NAN,
    RESERVED,
    TEXT,
    contrast,
)
from convscope._plot.text import STYLES


@pytest.mark.parametrize("name", ["viridis", "magma"])
def test_tables_are_matplotlibs(name: str) -> None:
    from matplotlib import colormaps

    expected = colormaps[name](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_array_equal(TABLES[name], expected)


def test_gray_is_a_ramp() -> None:
    np.testing.assert_array_equal(TABLES["gray"], np.arange(256)[:, None].repeat(3, 1))


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB (D65) from the formulas, independent of what made the table."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_signed_is_balanced_and_neutral_at_zero() -> None:
    lab = _lab(TABLES["signed"])
    lightness = lab[:, 0]
    np.testing.assert_allclose(lightness, lightness[::-1], atol=0.5)
    assert (np.diff(lightness[:128]) > 0).all()
    np.testing.assert_array_less(np.abs(lab[127:129, 1:]), 0.5)
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.max() < 3  # no visible edge anywhere


def test_signed_survives_red_green_blindness() -> None:
    # Machado, Oliveira and Fernandes 2009, deuteranopia, on linear light
    see = [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
    linear = (TABLES["signed"] / 255.0) ** 2.2
    seen = np.clip(linear @ np.array(see).T, 0, 1) ** (1 / 2.2) * 255
    lab = _lab(seen)
    apart = np.linalg.norm(lab[:96] - lab[:159:-1], axis=1)
    assert apart.min() > 15


@pytest.mark.parametrize("name", list(TABLES))
def test_reserved_colors_are_unmistakable(name: str) -> None:
    lab = _lab(table(name, LEVELS))
    for color in RESERVED.values():
        distance = np.linalg.norm(lab - _lab(np.array(color, np.uint8)), axis=1)
        assert distance.min() > 25
    for one, other in combinations(RESERVED.values(), 2):
        assert np.linalg.norm(np.subtract(one, other)) > 200


@pytest.mark.parametrize("theme", list(THEMES))
def test_text_contrast(theme: str) -> None:
    colors = palette("viridis", theme)
    paper = tuple(colors[BACKGROUND].tolist())
    assert paper == THEMES[theme][0]
    for style in STYLES.values():
        ink = BACKGROUND + round(style.ink * INK_STEPS)
        assert contrast(paper, tuple(colors[ink].tolist())) >= 4.5
    assert contrast(paper, tuple(colors[TEXT].tolist())) >= 12


def test_contrast_is_wcags() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


def test_palette_middle_is_neutral() -> None:
    assert palette("signed", "light")[MIDDLE].tolist() == TABLES["signed"][127].tolist()
    assert palette("signed", "dark")[NAN].tolist() == [255, 0, 255]


def test_tables_cannot_be_overwritten() -> None:
    with pytest.raises(ValueError, match="read-only"):
        TABLES["viridis"][0] = 0


def test_error_texts() -> None:
    with pytest.raises(UsageError) as caught:
        table("virids")
    assert str(caught.value) == (
        "No color map 'virids'. Close: 'viridis'. Known: viridis, magma, gray, signed"
    )
    with pytest.raises(UsageError, match=r"No theme 'drak'. Close: 'dark'. Known: light, dark"):
        palette("gray", "drak")
