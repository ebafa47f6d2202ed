from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convscope._errors import UsageError
from convscope._plot import (
    TABLES,
    Frame,
    Section,
    Sheet,
    Theme,
    Tile,
    image_tile,
    kernel_tiles,
    map_sheet,
    map_tiles,
    overlay_tile,
    palette,
    rgb_filter_tiles,
)
from convscope._plot.colors import BACKGROUND, FLAT, NAN, NEG_INF, POS_INF
from convscope._plot.draw import resized
from convscope._plot.layout import MOST_PIXELS, MOST_SIDE, Box, Layout

LINES = ("model tiny · layer conv1 · input cat.png",)


def _sheet(values: NDArray[np.float32], **options: object) -> Sheet:
    return map_sheet(values, "Maps of conv1", LINES, **options)  # type: ignore[arg-type]


def _words(sheet: Sheet) -> str:
    return " ".join(text.text for text in sheet.layout.texts)


def _area(box: Box, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[box.y : box.y + box.h, box.x : box.x + box.w]


@pytest.mark.parametrize("cmap", list(TABLES))
def test_png_pixels_against_a_loop(maps: NDArray[np.float32], cmap: str) -> None:
    sheet = _sheet(maps[:2], cmap=cmap)
    decoded = Image.open(io.BytesIO(sheet._repr_png_()))
    assert decoded.mode == "P"
    rgb = np.asarray(decoded.convert("RGB"))
    for placed, one in zip(sheet.layout.tiles, maps, strict=False):
        low, high = float(one.min()), float(one.max())
        if cmap == "signed":
            low, high = -max(-low, high), max(-low, high)
        for y, x in ((0, 0), (3, 7), (9, 13), *np.argwhere(one == one.max()).tolist()):
            at = (float(one[y, x]) - low) / (high - low) * 255
            expected = TABLES[cmap][round(at)].astype(int)
            block = _area(placed.box, rgb)[
                y * placed.scale : (y + 1) * placed.scale, x * placed.scale : (x + 1) * placed.scale
            ]
            assert (block == block[0, 0]).all()
            assert np.abs(block[0, 0].astype(int) - expected).max() <= 6  # 240 levels, not 256


def test_png_is_exactly_the_palette_of_the_indices(maps: NDArray[np.float32]) -> None:
    sheet = _sheet(maps)
    decoded = np.asarray(Image.open(io.BytesIO(sheet._repr_png_())).convert("RGB"))
    colors = palette("viridis", "light")
    for placed in sheet.layout.tiles:
        if placed.tile.state in ("zero", "constant"):
            continue  # hatched
        expected = colors[placed.tile.pixels].repeat(placed.scale, 0).repeat(placed.scale, 1)
        np.testing.assert_array_equal(_area(placed.box, decoded), expected)


def test_marks(maps: NDArray[np.float32]) -> None:
    sheet = _sheet(maps)
    pixels = np.asarray(sheet.image)
    for number in (2, 3):
        area = _area(sheet.layout.tiles[number].box, pixels)
        assert FLAT in area
        assert 0.03 < (area != FLAT).mean() < 0.45
    for number, index in ((4, NAN), (5, POS_INF)):
        x, y, w, h = sheet.layout.tiles[number].box
        assert (pixels[y - 2, x : x + w] == index).all()
        assert (pixels[y : y + h, x - 2] == index).all()
    kinds = [swatch.kind for swatch in sheet.layout.swatches]
    assert kinds == ["bar", "zero", "constant", "nan", "+inf", "-inf"]
    assert NEG_INF in pixels
    words = _words(sheet)
    assert "inactive: every value is exactly 0: channel 2" in words
    assert "constant: one value at every position: channel 3" in words
    assert "= 0.31" in words
    assert "NaN, not a number: channel 4" in words


def test_legend_tells_the_range(maps: NDArray[np.float32]) -> None:
    live = maps[:2]
    assert "each channel from its own minimum to its own maximum" in _words(_sheet(live))
    layer = _words(_sheet(live, range="layer"))
    assert "one range for every channel" in layer
    assert f"−{-live.min():.3g}" in layer
    assert "values outside have the end colors" in _words(_sheet(live, range=(-0.1, 0.1)))
    assert "outside" not in _words(_sheet(live, range=(-10, 10)))
    signed = _words(_sheet(live, cmap="signed"))
    assert "white = 0" in signed
    assert "minus to plus its own largest magnitude" in signed
    one = _words(_sheet(live[:1]))
    assert "the channel’s own range" in one
    assert f"{live[0].max():.3g}" in one


def test_sections_with_a_range_each(maps: NDArray[np.float32]) -> None:
    sections = tuple(
        Section(name, tuple(map_tiles(maps[:2] * scale, range="layer")))
        for name, scale in (("conv1", 1), ("conv2", 5))
    )
    words = _words(Sheet("Depths", LINES, sections))
    assert "each layer has one range, written in its heading" in words
    assert words.count("colors −") == 2


def test_single_positions_share_one_range() -> None:
    sheet = _sheet(np.array([-1.0, 0.0, 3.0], np.float32).reshape(3, 1, 1))
    assert [t.tile.pixels.item() for t in sheet.layout.tiles] == [0, 60, 240]
    assert "one range for every channel" in _words(sheet)


def test_scale_is_stated(maps: NDArray[np.float32]) -> None:
    assert "shown ×16, nearest neighbor" in _words(_sheet(maps))
    assert "shown" not in _words(_sheet(np.random.default_rng(0).random((2, 224, 224))))
    small = replace(_sheet(np.random.default_rng(0).random((2, 224, 224))), cell=112)
    assert "shown at 1:2, mean of 2×2" in _words(small)


def test_huge_sheets_are_reduced_and_say_so() -> None:
    tile = map_tiles(np.random.default_rng(0).random((1, 512, 512)))[0]
    layout = Sheet("Huge", LINES, (Section("", (tile,) * 512),)).layout
    assert layout.width * layout.height <= MOST_PIXELS
    assert max(layout.width, layout.height) <= MOST_SIDE
    assert any("shown at 1:2, mean of 2×2" in text.text for text in layout.texts)


def test_reduction_is_the_mean_of_blocks_and_keeps_nan() -> None:
    pixels = np.random.default_rng(0).integers(0, 240, (7, 9), dtype=np.uint8)
    pixels[6, 8] = NAN
    small = resized(pixels, -2)
    assert small.shape == (4, 5)
    assert small[3, 4] == NAN
    for y in range(3):
        for x in range(5):
            block = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert small[y, x] == np.rint(block.mean())


def test_mixed_sheets_are_rgb_and_pictures_exact() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    sheet = Sheet(
        "Seen",
        LINES,
        (Section("", (image_tile(picture, "input"), *map_tiles(rng.random((1, 8, 8))))),),
    )
    assert sheet.image.mode == "RGB"
    placed = sheet.layout.tiles[0]
    shown = _area(placed.box, np.asarray(sheet.image))
    np.testing.assert_array_equal(shown, picture.repeat(placed.scale, 0).repeat(placed.scale, 1))


def test_rgb_filters() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    weights[2], weights[3, 1, 4, 4] = 0, np.nan
    tiles = rgb_filter_tiles(weights)
    assert [tile.state for tile in tiles] == ["image", "image", "zero", "nan"]
    assert tiles[0].pixels.shape == (5, 5, 3)
    assert (
        abs(
            int(tiles[0].pixels[1, 2, 0])
            - 127.5 * (1 + weights[0, 0, 1, 2] / abs(weights[0]).max())
        )
        <= 0.5
    )
    assert "inactive: every value is exactly 0: filter 2" in _words(
        Sheet("Filters", LINES, (Section("", tuple(tiles)),), noun="filter")
    )


def test_kernel_matrix() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 7, 3, 3)).astype(np.float32)
    tiles = kernel_tiles(weights, outputs=[4, 0], inputs=[6, 1, 2])
    assert [tile.label for tile in tiles][:4] == ["4←6", "4←1", "4←2", "0←6"]
    most = float(np.abs(weights).max())
    assert {(tile.low, tile.high) for tile in tiles} == {(-most, most)}
    expected = np.floor((weights[4, 1].astype(float) + most) / (2 * most) * 240 + 0.5)
    assert np.abs(tiles[1].pixels - expected).max() <= 1
    section = Section("", tuple(tiles), 3, rows=("4", "0"), heads=("6", "1", "2"))
    names = [
        t.text
        for t in Sheet("K", LINES, (section,), cmap="signed").layout.texts
        if t.style == "note"
    ]
    assert sorted(names) == ["0", "1", "2", "4", "6"]


def _check_layout(layout: Layout) -> None:
    boxes = (
        [t.box for t in layout.texts]
        + [t.box for t in layout.tiles]
        + [s.box for s in layout.swatches]
    )
    taken = np.zeros((layout.height, layout.width), np.uint8)
    for x, y, w, h in boxes:
        assert x >= 0
        assert y >= 0
        assert x + w <= layout.width
        assert y + h <= layout.height
        taken[y : y + h, x : x + w] += 1
    assert taken.max() <= 1


NAMES = st.text("abcXYZ019._-/ ·", min_size=1, max_size=120).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 70),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    title=NAMES,
    line=NAMES,
    columns=st.none() | st.integers(1, 12),
    cell=st.none() | st.integers(1, 120),
    range_=st.sampled_from(["channel", "layer", (-0.5, 0.5)]),
    spoiled=st.integers(0, 5),
)
def test_nothing_overlaps(count, size, title, line, columns, cell, range_, spoiled) -> None:  # type: ignore[no-untyped-def]
    values = np.random.default_rng(count).normal(size=(count, *size)).astype(np.float32)
    values[::5] *= 1e-7
    for number, bad in enumerate((0, 0.31, np.nan, np.inf, -np.inf)[:spoiled]):
        values[number % count] = bad
    sheet = replace(map_sheet(values, title, [line], columns=columns, range=range_), cell=cell)
    _check_layout(sheet.layout)
    assert sheet.image.size == (sheet.layout.width, sheet.layout.height)
    assert len(sheet.layout.tiles) == count
    for placed in sheet.layout.tiles:
        h, w = resized(placed.tile.drawn, placed.scale).shape
        assert (placed.box.h, placed.box.w) == (h, w)
    if columns:
        assert len({placed.box.x for placed in sheet.layout.tiles}) == min(columns, count)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.booleans(), st.booleans(), NAMES
)
def test_no_overlap_in_a_matrix(outs, ins, side, rows, heads, name) -> None:  # type: ignore[no-untyped-def]
    tiles = kernel_tiles(np.random.default_rng(0).normal(size=(outs, ins, side, side)))
    section = Section(
        name,
        tuple(tiles),
        ins,
        tuple(map(str, range(outs))) * rows,
        tuple(f"{name}{i}" for i in range(ins)) * heads,
    )
    sheet = Sheet("Filters", LINES, (section, section), cmap="signed")
    _check_layout(sheet.layout)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 700), st.integers(1, 700), NAMES), min_size=1, max_size=7))
def test_no_overlap_among_pictures(pictures) -> None:  # type: ignore[no-untyped-def]
    tiles = [image_tile(np.zeros((h, w), np.uint8), name, name) for h, w, name in pictures]
    sheet = Sheet("Seen", LINES, (Section("a", tuple(tiles)), Section("", tuple(tiles), 2)))
    _check_layout(sheet.layout)


@pytest.mark.parametrize("count", [512, 2048])
def test_many_channels_keep_their_numbers(count: int) -> None:
    sheet = _sheet(np.random.default_rng(0).random((count, 7, 7)))
    _check_layout(sheet.layout)
    labels = [text.text for text in sheet.layout.texts if text.style == "label"]
    assert labels == [str(number) for number in range(count)]
    assert 1 <= sheet.layout.width / sheet.layout.height <= 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_drawn_where_the_layout_says(theme: str, maps: NDArray[np.float32]) -> None:
    sheet = _sheet(maps, theme=theme)
    pixels = np.asarray(sheet.image)
    for text in sheet.layout.texts:
        assert (_area(text.box, pixels) > BACKGROUND).any(), text.text


@pytest.mark.parametrize("ending", ["png", "webp", "jpg", "svg", "pdf"])
def test_files(tmp_path: Path, maps: NDArray[np.float32], ending: str) -> None:
    path = _sheet(maps).save(tmp_path / "new" / f"maps.{ending}")
    data = path.read_bytes()
    assert data == _sheet(maps).save(path).read_bytes()  # the same picture, the same bytes
    assert list(path.parent.iterdir()) == [path]
    if ending in ("svg", "pdf"):
        assert data.startswith({"svg": b"<?xml", "pdf": b"%PDF"}[ending])
    else:
        with Image.open(path) as image:
            assert image.size == _sheet(maps).image.size


def test_webp_is_lossless(tmp_path: Path, maps: NDArray[np.float32]) -> None:
    sheet = _sheet(maps)
    with Image.open(sheet.save(tmp_path / "a.webp")) as shown:
        same = np.asarray(shown.convert("RGB")) == np.asarray(sheet.image.convert("RGB"))
    assert same.all()


def test_the_png_carries_its_words(tmp_path: Path, maps: NDArray[np.float32]) -> None:
    with Image.open(_sheet(maps).save(tmp_path / "a.png")) as image:
        info = image.info
    assert info["Title"] == "Maps of conv1"
    assert "input cat.png" in info["Description"]
    assert "own minimum" in info["Description"]


def test_an_interrupted_write_keeps_the_old_file(
    tmp_path: Path, maps: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "maps.png"
    path.write_bytes(b"old")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _sheet(maps).save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_plot_is_the_same_picture(maps: NDArray[np.float32]) -> None:
    sheet = _sheet(maps)
    figure = sheet.plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    expected = np.asarray(sheet.image.convert("RGB"))
    assert drawn.shape == expected.shape
    for placed in sheet.layout.tiles:
        np.testing.assert_array_equal(_area(placed.box, drawn), _area(placed.box, expected))


def test_notebook_html(maps: NDArray[np.float32]) -> None:
    html = replace(_sheet(maps), title='Maps of "conv<1>"')._repr_html_()
    assert 'alt="Maps of &quot;conv&lt;1&gt;&quot;' in html
    data = re.search(r"base64,([^\"]+)", html)
    assert data
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).mode == "P"


@pytest.mark.parametrize("side", [8, 40, 700])
@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_frame_lies_where_it_should_at_any_scale(side: int, rgb: bool, theme: Theme) -> None:
    pixels = np.full((side, side, 3)[: 2 + rgb], 90, np.uint8)
    corners = (side // 4, side // 8, side // 2, side - 1)
    plain, framed = (
        Sheet("t", (), (Section("", (tile,)),), theme=theme)
        for tile in (Tile(pixels), Tile(pixels, frames=(Frame(*corners),)))
    )
    changed = np.any(_rgb(plain) != _rgb(framed), axis=2)
    box, scale = framed.layout.tiles[0].box, framed.layout.tiles[0].scale
    shown = [c * scale if scale > 0 else c // -scale for c in corners]
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) == (box.y + shown[0], box.y + shown[2] - 1)
    assert (columns.min(), columns.max()) == (box.x + shown[1], box.x + shown[3] - 1)


def test_a_frame_outside_its_tile_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rows 0 to 9 .* not inside a tile of 8×8"):
        Tile(np.zeros((8, 8), np.uint8), frames=(Frame(0, 0, 9, 2),))


@pytest.mark.parametrize("length", [1, 12, 30])
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_names_of_columns_stay_on_the_sheet(columns: int, length: int) -> None:
    kernels = kernel_tiles(np.ones((2, columns, 3, 3), np.float32))
    section = Section("", tuple(kernels), columns, ("a row", "b"), ("x" * length,) * columns)
    sheet = Sheet("names", (), (section,), cmap="signed")
    assert sheet.image.size == (sheet.layout.width, sheet.layout.height)


def test_no_framework_nor_matplotlib_is_imported() -> None:
    code = (
        "import sys, numpy as np; from convscope._plot import map_sheet;"
        "map_sheet(np.eye(3)[None], 't')._repr_png_();"
        "print({'torch', 'keras', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "set()"


def _tile():  # type: ignore[no-untyped-def]
    return map_tiles(np.eye(3)[None])[0]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: map_sheet(np.eye(3)[None], "t", cmap="virids"),
            "No color map 'virids'. Close: 'viridis'. Known: viridis, magma, gray, signed",
        ),
        (
            lambda: map_sheet(np.eye(3)[None], "t").save("a.gif"),
            "Cannot write '.gif' figures. Try 'a.png'. Known: png, webp, jpg, jpeg, svg, pdf",
        ),
        (
            lambda: map_sheet(np.eye(3)[None], "t").save("a"),
            "'a' has no file ending. Try 'a.png'. Known: png, webp, jpg, jpeg, svg, pdf",
        ),
        (
            lambda: Sheet("t", (), (Section("", (_tile(),)),), cmap="signed"),
            "Color map 'signed' needs ranges centered on zero, not 0 to 1. "
            "Make the tiles with signed=True.",
        ),
        (lambda: Section("conv1", ()), "Section 'conv1' has no tiles. Give at least one."),
        (lambda: Section("", (_tile(),), 0), "A grid needs 1 column or more, not 0. Nearest: 1."),
        (
            lambda: image_tile(np.zeros((3, 3, 3))),
            "A tile needs (height, width) or (height, width, 3) uint8, not (3, 3, 3) float64. "
            "Use map_tiles for values, image_tile for images.",
        ),
        (
            lambda: rgb_filter_tiles(np.zeros((4, 8, 3, 3))),
            "RGB filters need 3 input channels, not 8. Use kernel_tiles instead.",
        ),
        (
            lambda: kernel_tiles(np.zeros((4, 8))),
            "Filters need shape (outputs, inputs, height, width), not (4, 8). "
            "Pass the weights of a convolution.",
        ),
        (
            lambda: overlay_tile(np.zeros((9, 9), np.uint8), np.eye(3)),
            "An overlay needs an image (height, width, 3) uint8, not (9, 9) uint8. "
            "Try Image.convert('RGB').",
        ),
    ],
)
def test_error_texts(call: object, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()  # type: ignore[operator]
    assert str(caught.value) == text


def _rgb(sheet: Sheet) -> NDArray[np.int64]:
    return np.asarray(sheet.image.convert("RGB")).astype(np.int64)
