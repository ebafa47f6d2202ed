"""What must hold of dreams, styles and films on every backend of Keras. Run by
``test_stylize_backends.py``, a process for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import convscope as cs
from convscope._errors import UnknownLayer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CHANCE = np.random.default_rng(0)
PICTURE, MANNER = (CHANCE.integers(0, 255, (24, 30, 3), np.uint8) for _ in range(2))
SHAPES = {"one": [(3, 3, 3, 6), (6,)], "two": [(3, 3, 6, 8), (8,)]}


def network() -> Any:
    """The same weights on every backend."""
    chance = np.random.default_rng(1)
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(6, 3, activation="relu", name="one"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(8, 3, activation="relu", name="two"),
        ]
    )
    for name, shapes in SHAPES.items():
        values = [chance.normal(0, 0.4, shape).astype(np.float32) for shape in shapes]
        model.get_layer(name).set_weights(values)
    return model


def loaded() -> Any:
    return cs.load(network(), preprocess=cs.Preprocess(size=(16, 16), mean=0.5, std=0.25))


def test_dream_style_and_film(tmp_path: Path) -> None:
    model = loaded()
    before = [np.array(w) for w in model.module.get_weights()] if hasattr(model, "module") else []
    made = cs.dream(model, PICTURE, "two", steps=3, octaves=1, jitter=3, animate=True)
    (old, new), *_ = made.measures.values()
    assert new > 1.1 * old
    assert made.save(tmp_path / "dream.webp").stat().st_size > 1000
    styled = cs.style(model, PICTURE, MANNER, layers="one", content_layer="two", steps=8, octaves=1)
    start, end = styled.measures["style loss"]
    assert end < start
    if before:
        after = model.module.get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    if "STYLIZED" in os.environ:
        np.savez(os.environ["STYLIZED"], dream=made.values, style=styled.values)


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(UnknownLayer, match="No layer 'three'"):
        cs.dream(loaded(), PICTURE, "three")
