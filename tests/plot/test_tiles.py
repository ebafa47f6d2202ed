"""Tiles of lines: strips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convscope._plot import Frame, Section, Sheet, map_tiles


def test_a_line_of_values_is_drawn_as_a_strip_of_its_one_row() -> None:
    values = np.linspace(0, 1, 96, dtype=np.float32)[None, None]
    (tile,) = map_tiles(values)
    assert tile.size == (12, 96)
    assert (tile.drawn == tile.pixels).all()
    assert map_tiles(np.zeros((1, 1, 4000), np.float32))[0].size == (24, 4000)
    assert map_tiles(np.zeros((1, 1, 5), np.float32))[0].size == (1, 5)
    assert map_tiles(np.zeros((1, 2, 96), np.float32))[0].size == (2, 96)
    framed = replace(tile, frames=(Frame(0, 40, 1, 60),))
    plain, outlined = (
        np.asarray(Sheet("x", (), (Section("", (one,)),)).image.convert("RGB"))
        for one in (tile, framed)
    )
    rows, columns = np.nonzero((plain != outlined).any(2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (24, 40)  # shown twice as large, both
