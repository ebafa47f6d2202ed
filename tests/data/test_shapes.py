from __future__ import annotations

import colorsys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope._data import Shapes, open_dataset, split_dataset
from convscope._data.shapes import CLASSES, TEXTURES, ShapeFactors, draw
from convscope._errors import UsageError


def covered(data: Shapes, index: int) -> np.ndarray:
    """The fraction of each pixel that the shape covers, from its color: the background is gray."""
    pixels = np.asarray(data.image(index)).astype(float)
    colorful = pixels.max(2) - pixels.min(2)
    return colorful / colorful.max()


def radii(data: Shapes, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance and direction (degrees, counter-clockwise) of the shape's pixels from its center."""
    factors = data.factors(index)
    y, x = np.nonzero(covered(data, index) > 0.22)
    right, up = (x + 0.5) - factors.x * data.size, factors.y * data.size - (y + 0.5)
    return np.hypot(right, up), np.degrees(np.arctan2(up, right)) % 360


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return Shapes(120, 96, seed=7)


def test_classes_take_turns(shapes: Shapes) -> None:
    assert shapes.classes == CLASSES
    assert np.bincount(shapes.labels).tolist() == [30] * 4
    for i in range(12):
        assert shapes.factors(i).shape == CLASSES[shapes.labels[i]]
    assert max(Counter(Shapes(7).labels.tolist()).values()) == 2


def test_the_seed_and_the_index_decide_everything() -> None:
    short, long, other = Shapes(8, 32, 1), Shapes(40, 32, 1), Shapes(8, 32, 2)
    for i in range(8):
        assert short.image(i).tobytes() == long.image(i).tobytes()
        assert short.factors(i) == Shapes(8, 200, 1).factors(i)
        assert short.factors(i) != other.factors(i)
    assert short.ids == long.ids[:8] == [str(i) for i in range(8)]
    assert short.name == "shapes,count=8,size=32,seed=1"


def test_factors_vary(shapes: Shapes) -> None:
    drawn = [shapes.factors(i) for i in range(len(shapes))]
    assert {factors.texture for factors in drawn} == set(TEXTURES)
    ranges = {
        "hue": (0, 1),
        "rotation": (0, 360),
        "size": (0.15, 0.35),
        "x": (0.15, 0.85),
        "y": (0.15, 0.85),
        "background": (0, 0.45),
    }
    for key, (low, high) in ranges.items():
        values = np.array([getattr(factors, key) for factors in drawn])
        assert low <= values.min() < low + 0.25 * (high - low)
        assert high - 0.25 * (high - low) < values.max() <= high


def test_the_center_is_where_the_factors_say(shapes: Shapes) -> None:
    for i in range(len(shapes)):
        factors = shapes.factors(i)
        if factors.texture != "solid":
            continue
        mask = covered(shapes, i)
        y, x = np.mgrid[: shapes.size, : shapes.size] + 0.5
        center = (y * mask).sum() / mask.sum(), (x * mask).sum() / mask.sum()
        expected = factors.y * shapes.size, factors.x * shapes.size
        assert np.abs(np.subtract(center, expected)).max() < 0.5


def test_the_size_is_the_reach_of_the_shape(shapes: Shapes) -> None:
    for i in range(len(shapes)):
        distance, _ = radii(shapes, i)
        assert abs(distance.max() - shapes.factors(i).size * shapes.size) < 1.5


def test_the_area_is_that_of_the_named_shape(shapes: Shapes) -> None:
    # of the circumscribed circle's radius squared, from school geometry; a star of five points
    # whose inner corners lie at 0.4: ten triangles of two sides 1 and 0.4 around an angle of 36°
    area = {
        "circle": np.pi,
        "square": 2.0,
        "triangle": 3 * np.sqrt(3) / 4,
        "star": 10 * 0.5 * 0.4 * np.sin(np.radians(36)),
    }
    for i in range(len(shapes)):
        factors = shapes.factors(i)
        if factors.texture == "solid":
            expected = area[factors.shape] * (factors.size * shapes.size) ** 2
            assert abs(covered(shapes, i).sum() / expected - 1) < 0.08


def test_the_rotation_points_a_corner(shapes: Shapes) -> None:
    for i in range(len(shapes)):
        factors = shapes.factors(i)
        if factors.shape == "circle" or factors.texture != "solid":
            continue
        distance, direction = radii(shapes, i)
        step = {"square": 90, "triangle": 120, "star": 72}[factors.shape]
        tips = direction[distance > distance.max() - 1.5]
        off = (tips - (factors.rotation + 90) + step / 2) % step - step / 2
        assert np.abs(off).max() < 13
        assert abs(np.median(off)) < 6


def test_the_hue_and_the_ground(shapes: Shapes) -> None:
    for i in range(len(shapes)):
        factors, pixels = shapes.factors(i), np.asarray(shapes.image(i))
        inside = pixels[covered(shapes, i) > 0.98].astype(float).mean(0) / 255
        hue = colorsys.rgb_to_hsv(*inside)[0]
        assert abs((hue - factors.hue + 0.5) % 1 - 0.5) < 0.01
        corner = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        ground = round(255 * factors.background)
        assert (corner == ground).all(1).any()


def test_the_texture_is_seen(shapes: Shapes) -> None:
    dark = {texture: [] for texture in TEXTURES}
    for i in range(len(shapes)):
        pixels = np.asarray(shapes.image(i)).max(2)[covered(shapes, i) > 0.4]
        dark[shapes.factors(i).texture].append((pixels < 160).mean())
    assert max(dark["solid"]) < 0.12  # anti-aliased edges alone
    assert 0.3 < np.mean(dark["stripes"]) < 0.7
    assert 0.1 < np.mean(dark["dots"]) < 0.45


@given(st.integers(8, 150), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_any_size(size: int, index: int) -> None:
    image = Shapes(51, size).image(index)
    assert (image.size, image.mode) == ((size, size), "RGB")


def test_factors_of_one_s_own_can_be_drawn() -> None:
    image = draw(ShapeFactors("circle", 0.0, "solid", 0.25, 0.0, 0.5, 0.5, 0.2), 40)
    red = [round(255 * c) for c in colorsys.hsv_to_rgb(0, 0.85, 1)]
    assert list(image.getpixel((20, 20))) == red
    assert image.getpixel((0, 0)) == (51, 51, 51)


# --- by name --------------------------------------------------------------------------------------


def test_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_dataset("shapes").name == "shapes,count=1000,size=64,seed=0"
    data = open_dataset("shapes,size=16,count=5,seed=3")
    assert (len(data), data.image(0).size) == (5, (16, 16))
    assert data.image(4).tobytes() == Shapes(5, 16, 3).image(4).tobytes()
    assert open_dataset(data) is data
    (tmp_path / "shapes").mkdir()  # a folder of that name does not stand in the way of options
    assert len(open_dataset("shapes,count=5")) == 5


@pytest.mark.parametrize("spec", ["shapes,count=50,size=16", Shapes(50, 16)])
def test_the_test_split_has_new_shapes(spec: object) -> None:
    train, test = split_dataset(spec)
    assert (len(train), len(test)) == (50, 50)
    assert (train.name, test.name) == (
        "shapes,count=50,size=16,seed=0 (train)",
        "shapes,count=50,size=16,seed=1000003 (test)",
    )
    assert not {train.image(i).tobytes() for i in range(50)} & {
        test.image(i).tobytes() for i in range(50)
    }
    assert train.image(3).tobytes() == Shapes(50, 16).image(3).tobytes()
    assert train.split("train") is None


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("shapes,cuont=5", "shapes does not take 'cuont=5'. Close: 'count'. Write: shapes,count="),
        ("shapes,count=many", "shapes does not take 'count=many'. Write: shapes,count=1000"),
        ("shapes,count=-1", "shapes does not take 'count=-1'."),
        ("shapes,size=²", "shapes does not take 'size=²'."),
        ("shapes,", "shapes does not take ''."),
        ("shapes,count=0", "shapes needs count ≥ 1, size ≥ 8 and seed ≥ 0, not 0, 64 and 0."),
        ("shapes,size=4", "shapes needs count ≥ 1, size ≥ 8"),
    ],
)
def test_errors(spec: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_dataset(spec)
    assert str(raised.value).startswith(text)
    with pytest.raises(UsageError, match="seed ≥ 0"):
        Shapes(seed=-1)
