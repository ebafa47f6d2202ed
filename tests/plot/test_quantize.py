from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._plot import map_tiles, quantize
from convscope._plot.colors import FLAT, LEVELS, MIDDLE, NAN, NEG_INF, POS_INF

VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    elements=st.one_of(
        st.floats(-1e3, 1e3, width=32),
        st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
)


def _reference(value: float, low: float, high: float) -> int:
    """One value's index, in Python floats."""
    if np.isnan(value):
        return NAN
    if np.isinf(value):
        return POS_INF if value > 0 else NEG_INF
    return int(min(max((value - low) / (high - low), 0), 1) * (LEVELS - 1) + 0.5)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from(["channel", "layer", (-2.0, 3.5)]))
def test_every_pixel_against_a_loop(values: NDArray[np.float32], range_: object) -> None:
    done = quantize(values, range_)  # type: ignore[arg-type]
    finite = values[np.isfinite(values)].astype(float)
    for channel, one in enumerate(values):
        own = one[np.isfinite(one)].astype(float)
        if isinstance(range_, tuple):
            low, high = range_
        elif range_ == "layer" or one.size == 1:
            low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
        else:
            low, high = (own.min(), own.max()) if own.size else (np.nan, np.nan)
        np.testing.assert_equal((done.low[channel], done.high[channel]), (low + 0.0, high + 0.0))
        for index, value in zip(done.indices[channel].flat, one.flat, strict=True):
            if index == FLAT:
                assert done.states[channel] != "live" or not high > low
            else:  # float32 may round a half the other way: one level of 240
                assert abs(int(index) - _reference(float(value), low, high)) <= 1
                assert (index >= LEVELS) == (not np.isfinite(value))


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from(["channel", "layer"]))
def test_signed_zero_is_the_middle(values: NDArray[np.float32], range_: str) -> None:
    values[:, 0, 0] = 0
    done = quantize(values, range_, signed=True)  # type: ignore[arg-type]
    np.testing.assert_array_equal(done.low, -done.high)
    assert set(done.indices[:, 0, 0].tolist()) <= {MIDDLE, FLAT}


def test_states(maps: NDArray[np.float32]) -> None:
    done = quantize(maps)
    assert done.states == ("live", "live", "zero", "constant", "nan", "inf")
    assert (done.indices[2:4] == FLAT).all()
    assert done.indices[4, 2, 3] == NAN
    assert (done.indices[4] == NAN).sum() == 1
    assert done.indices[5, 0, 0] == POS_INF
    assert done.indices[5, 9, 13] == NEG_INF
    assert done.low[4] == np.nanmin(maps[4])
    assert done.low[5] == maps[5][np.isfinite(maps[5])].min()


def test_a_shared_range_keeps_the_true_color_of_a_constant(maps: NDArray[np.float32]) -> None:
    done = quantize(maps, (0.0, 0.62))
    assert done.states[2:4] == ("zero", "constant")
    assert (done.indices[2] == 0).all()
    assert (done.indices[3] == MIDDLE).all()


def test_rounding_noise_is_not_stretched() -> None:
    noise = np.float32(1) + np.random.default_rng(0).integers(0, 3, (1, 8, 8)) * np.float32(1.2e-7)
    faint = np.random.default_rng(0).random((1, 8, 8)) * 1e-30
    assert quantize(noise).states == ("constant",)
    assert quantize(faint).states == ("live",)
    assert quantize(faint).indices.max() == LEVELS - 1


def test_extreme_spreads() -> None:
    wide = np.array([[[-3e38, 0, 3e38]]], np.float32)
    assert quantize(wide).indices.ravel().tolist() == [0, MIDDLE, LEVELS - 1]
    tiny = np.array([[[0, 0.7e-44, 1.4e-44]]], np.float32)  # denormal numbers
    assert quantize(tiny).indices.ravel().tolist()[::2] == [0, LEVELS - 1]


def test_the_layers_range_covers_channels_not_shown() -> None:
    values = np.arange(3 * 4, dtype=np.float32).reshape(3, 2, 2)
    (tile,) = map_tiles(values, channels=[1], range="layer")
    assert (tile.label, tile.low, tile.high, tile.minimum, tile.maximum) == ("1", 0, 11, 4, 7)


def test_input_is_left_alone(maps: NDArray[np.float32]) -> None:
    before = maps.copy()
    quantize(maps, "layer", signed=True)
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: quantize(np.zeros((4, 4))),
            "Maps need shape (channels, height, width), not (4, 4). Try values[None].",
        ),
        (
            lambda: quantize(np.zeros((1, 3, 4, 4))),
            "Maps need shape (channels, height, width), not (1, 3, 4, 4). Try values[0].",
        ),
        (
            lambda: quantize(np.zeros((0, 4, 4))),
            "Maps of shape (0, 4, 4) hold no values. Give at least one channel.",
        ),
        (
            lambda: quantize(np.zeros((8, 4, 4)), channels=[70]),
            "No channel 70: there are 8 (0–7). Nearest: 7.",
        ),
        (
            lambda: quantize(np.zeros((8, 4, 4)), "chanel"),  # type: ignore[arg-type]
            "No range 'chanel'. Close: 'channel'. Known: channel, layer, (low, high)",
        ),
        (
            lambda: quantize(np.zeros((8, 4, 4)), (1, 0)),
            "A range needs low < high, both finite, not (1, 0).",
        ),
        (
            lambda: quantize(np.zeros((8, 4, 4)), (0, 2), signed=True),
            "Signed colors need a range centered on zero, not (0, 2). Nearest: (-2, 2).",
        ),
    ],
)
def test_error_texts(call: object, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()  # type: ignore[operator]
    assert str(caught.value) == text
