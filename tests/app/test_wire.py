"""Numbers as they travel: read back with nothing but ``struct`` and numpy."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convscope._app import wire


def read(block: bytes) -> dict[str, object]:
    """CSM1, by its description alone."""
    magic, c, h, w, fh, fw = struct.unpack_from("<4s5I", block)
    assert magic == b"CSM1"
    ends = np.frombuffer(block, "<f4", 3 * c, 24).reshape(3, c)
    state = np.frombuffer(block, "u1", c, 24 + 12 * c)
    payload = np.frombuffer(block, "u1", c * h * w, 24 + 13 * c).reshape(c, h, w)
    assert len(block) == 24 + 13 * c + c * h * w
    return {
        "low": ends[0],
        "high": ends[1],
        "mean": ends[2],
        "state": state,
        "levels": payload,
        "full": (fh, fw),
    }


maps = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(maps)
def test_levels_are_the_values_to_half_a_step(values: np.ndarray) -> None:
    told = read(wire.maps_block(values))
    low, high = (told[end][:, None, None].astype(np.float64) for end in ("low", "high"))  # type: ignore[index]
    back = low + told["levels"] / 252 * (high - low)  # type: ignore[operator]
    step = (high - low) / 252
    assert (np.abs(back - values) <= step * 0.51 + 1e-5 * np.abs(values) + 1e-30).all()
    np.testing.assert_array_equal(told["low"], values.min((1, 2)))
    np.testing.assert_array_equal(told["high"], values.max((1, 2)))


@given(maps, st.integers(1, 9))
def test_pooling_keeps_the_peak_of_every_channel(values: np.ndarray, most: int) -> None:
    small = wire.max_pool(values, most)
    assert max(small.shape[1:]) <= most
    np.testing.assert_array_equal(small.max((1, 2)), values.max((1, 2)))


def test_pooling_takes_the_highest_of_each_block() -> None:
    values = np.arange(36, dtype=np.float32).reshape(1, 6, 6)
    expected = values.reshape(1, 3, 2, 3, 2).max((2, 4))
    np.testing.assert_array_equal(wire.max_pool(values, 3), expected)


@pytest.mark.parametrize(
    ("size", "small"), [((64, 16), (8, 2)), ((3, 40), (1, 8)), ((5, 7), (5, 7))]
)
def test_a_pooled_map_keeps_its_proportions(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert wire.max_pool(np.zeros((2, *size), np.float32), 8).shape == (2, *small)
    assert wire.pooled_size(size, 8) == small


def test_states_say_what_is_dead_constant_or_no_number() -> None:
    values = np.zeros((5, 2, 2), np.float32)
    values[0, 0, 0], values[2] = 1, 3
    values[3, 0], values[4, 0, 1] = np.nan, np.inf
    told = read(wire.maps_block(values))
    assert list(told["state"]) == [  # type: ignore[call-overload]
        wire.VARIED,
        wire.ZERO,
        wire.CONSTANT,
        wire.HOLDS_NAN,
        wire.HOLDS_INF,
    ]
    levels = told["levels"]
    assert levels[3, 0, 0] == wire.NAN  # type: ignore[index]
    assert levels[4, 0, 1] == wire.POS_INF  # type: ignore[index]
    assert np.isfinite(told["low"]).all()  # type: ignore[call-overload]


def test_a_channel_of_nothing_but_nan_has_finite_ends() -> None:
    told = read(wire.maps_block(np.full((1, 2, 2), np.nan, np.float32)))
    assert told["low"] == told["high"] == 0
    assert (told["levels"] == wire.NAN).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("scale", [1e-38, 1e38])
def test_extreme_spans_do_not_overflow(scale: float) -> None:
    values = (np.linspace(-1, 1, 16).reshape(1, 4, 4) * scale).astype(np.float32)
    assert list(read(wire.maps_block(values))["levels"][0, 0]) == [0, 17, 34, 50]  # type: ignore[index]


def test_floats_are_exact() -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 2, 5)).astype(np.float32)
    block = wire.floats_block(values, wire.COLOR)
    assert struct.unpack_from("<4s5I", block) == (b"CSF1", 1, 3, 2, 5, 1)
    np.testing.assert_array_equal(np.frombuffer(block, "<f4", offset=24), values.ravel())


def test_thumbnails_stand_one_after_another() -> None:
    block = wire.thumbnails_block([(3, np.eye(2, dtype=np.float32)), (7, np.ones((30, 1), "f4"))])
    magic, count = struct.unpack_from("<4sI", block)
    assert (magic, count) == (b"CST1", 2)
    assert struct.unpack_from("<3I2f", block, 8) == (3, 2, 2, 0.0, 1.0)
    assert struct.unpack_from("<3I2f", block, 28) == (7, 24, 1, 1.0, 1.0)
    assert list(block[48:52]) == [252, 0, 0, 252]
    assert len(block) == 48 + 4 + 24
