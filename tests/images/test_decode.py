from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from convscope._data import open_dataset
from convscope._errors import ImageError
from convscope._images import IMAGE_SUFFIXES, MAX_PIXELS, DecodedImage, decode, is_image
from convscope._images.decode import reads_avif


def told(raised: pytest.ExceptionInfo[ImageError]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


def refused(source: Any) -> str:
    with pytest.raises(ImageError) as raised:
        decode(source)
    return told(raised)


@pytest.fixture
def pixels() -> np.ndarray:
    """A picture without any symmetry: 5 rows, 7 columns."""
    return np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)


# --- what is there, and what is not ---------------------------------------------------------------


def test_a_file_that_is_not_there_names_its_neighbor(tmp_path: Path) -> None:
    (tmp_path / "chelsea.png").write_bytes(b"")
    text = refused(tmp_path / "chelsae.png")
    assert text == f"No image '{tmp_path}/chelsae.png'. Close: 'chelsea.png'. See: ls {tmp_path}"
    assert refused(str(tmp_path / "x" / "y.png")).startswith(f"No image '{tmp_path}/x/y.png'.")


def test_a_folder_names_the_command_for_folders(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    assert refused(folder) == (
        f"'{folder}' is a folder, not an image. Give its images: '{folder}'/*"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "No image ''"),
        ("a" * 5000, "File name too long"),
        ("a\nb.png", "No image 'a\\nb.png'"),
        ("~no-such-user-here/cat.png", "cannot be opened"),
        ("https://example.org/cat.png", "Download it and give the file"),
        ("/dev/null", "no regular file"),
    ],
)
def test_paths_that_lead_nowhere(source: str, said: str) -> None:
    assert said in refused(source)


def test_a_text_file_is_no_image(tmp_path: Path) -> None:
    file = tmp_path / "notes.jpg"
    file.write_text("hello, I am text")
    assert refused(file).startswith(
        "'notes.jpg' is not an image that is read here: it begins with b'hello, I'. Give JPEG, PNG"
    )


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert refused(tmp_path / "empty.png").startswith("'empty.png' is empty: it has no bytes")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_a_truncated_file_is_damaged_not_gray(kind: str, tmp_path: Path) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(whole, kind)
    file = tmp_path / "cut.jpg"
    file.write_bytes(whole.getvalue()[: len(whole.getvalue()) * 2 // 3])
    text = refused(file)
    assert text.startswith("'cut.jpg' ")
    assert "cut short" in text or "not an image" in text


def test_postscript_is_never_handed_to_a_program(tmp_path: Path) -> None:
    file = tmp_path / "cat.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    assert "not an image that is read here" in refused(file)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.png").touch()
    monkeypatch.setattr(Path, "open", refuse)
    assert refused(tmp_path / "secret.png").endswith("cannot be opened: Permission denied")


@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"]), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_give_a_picture_or_an_image_error(kind: str, data: st.DataObject) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(whole, kind)
    content = bytearray(whole.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    said = ""
    try:
        assert decode(io.BytesIO(bytes(content))).image.mode in ("RGB", "L")
    except ImageError as error:
        said = str(error)
    assert "\n" not in said


# --- bombs ----------------------------------------------------------------------------------------


def _png(bits: int, color: int, width: int, height: int, rows: bytes) -> bytes:
    """A PNG written by hand: color 0 is gray, 2 is RGB."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        size, check = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(kind + body))
        return size + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(100_000, 100_000), (MAX_PIXELS + 1, 1)])
def test_a_bomb_is_refused_at_once(size: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(_png(8, 0, *size, bytes(1000)))
    began = time.perf_counter()
    text = refused(file)
    assert time.perf_counter() - began < 0.5
    assert text == "'bomb.png' has more than 178 million pixels; it was not opened. Reduce it first"


def test_bombs_are_refused_where_pillow_was_told_to_allow_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "178 million" in refused(io.BytesIO(_png(8, 0, 100_000, 100_000, bytes(1000))))


def test_a_large_picture_is_opened_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow warns from 20 and refuses from 40
    stream = io.BytesIO()
    Image.new("L", (6, 5), 9).save(stream, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(stream).image.size == (6, 5)


def test_the_warning_filters_are_left_as_they_were(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(decode, [tmp_path / "a.png"] * 200))) == 200
    assert warnings.filters == before


# --- files of every kind --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_files_come_back_exactly(kind: str, pixels: np.ndarray, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).save(tmp_path / "a.any", kind, **options)
    picture = decode(tmp_path / "a.any")
    assert np.array_equal(np.asarray(picture.image), pixels)
    assert (picture.name, picture.notes) == ("a.any", ())


def test_a_wrong_extension_does_not_matter(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "cat.jpg", "PNG")
    assert np.array_equal(np.asarray(decode(str(tmp_path / "cat.jpg")).image), pixels)


def test_every_listed_suffix_can_be_written_and_read(tmp_path: Path) -> None:
    for suffix in IMAGE_SUFFIXES:
        if suffix == ".avif" and not reads_avif():
            continue
        mode = "L" if suffix == ".pgm" else "RGB"
        Image.new(mode, (4, 3), 200 if mode == "L" else (200, 10, 10)).save(tmp_path / f"a{suffix}")
        assert decode(tmp_path / f"a{suffix}").image.size == (4, 3)


# The beginning of an AVIF file: a box of 32 bytes that names the format.
AVIF_HEAD = b"\0\0\0 ftypavif\0\0\0\0avifmif1miafMA1A"


@pytest.mark.skipif(not reads_avif(), reason="this Pillow was built without AVIF")
def test_avif_files_are_read_upright_alone_and_in_folders(tmp_path: Path) -> None:
    flat = np.full((48, 32, 3), 40, np.uint8)
    flat[:24] = 220
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(flat).save(tmp_path / "a.avif", quality=100, exif=exif)
    picture = decode(tmp_path / "a.avif")
    expected = np.rot90(flat, -1)
    assert picture.image.size == (48, 32)
    assert np.abs(np.asarray(picture.image).astype(int) - expected).mean() < 4
    assert decode(io.BytesIO((tmp_path / "a.avif").read_bytes())).image.size == (48, 32)
    assert len(open_dataset(tmp_path)) == 1
    (tmp_path / "broken.avif").write_bytes(AVIF_HEAD)
    assert "broken.avif" in refused(tmp_path / "broken.avif")


def test_avif_where_pillow_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decode.__globals__, "reads_avif", lambda: False)
    (tmp_path / "a.avif").write_bytes(AVIF_HEAD)
    assert refused(tmp_path / "a.avif") == (
        "'a.avif' is AVIF, which this Pillow does not read: pip install -U 'pillow>=11.3'"
    )
    (tmp_path / "b.avif").write_bytes(b"something else")
    assert "AVIF" not in refused(tmp_path / "b.avif")


def test_avif_is_known_of_pillow_without_asking_for_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(features.modules, "avif", raising=False)
    assert reads_avif.__wrapped__() is False


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits(big_endian: bool, tmp_path: Path) -> None:
    values = np.array([[0, 257, 32768, 65535]], ">u2" if big_endian else "<u2")
    file = tmp_path / ("a.tif" if big_endian else "a.png")
    Image.fromarray(values).save(file)
    picture = decode(file)
    assert picture.image.mode == "L"
    assert np.asarray(picture.image).tolist() == [[0, 1, 128, 255]]
    assert picture.notes == ("16 bits reduced to 8",)


def test_sixteen_bits_of_color_are_noted_too(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 65535, 32768, 0, 0, 256, 65535)  # two pixels
    (tmp_path / "deep.png").write_bytes(_png(16, 2, 2, 1, row))
    picture = decode(tmp_path / "deep.png")
    assert np.asarray(picture.image).tolist() == [[[255, 128, 0], [0, 1, 255]]]
    assert picture.notes == ("16 bits reduced to 8",)


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ([[0.0, 0.5, 1.0]], [0, 128, 255], "floats of 0 to 1 taken as black to white"),
        ([[0.0, 100.2, 255.0]], [0, 100, 255], "values of 0 to 255 taken as 8 bits"),
        ([[0.0, 257.0, 65535.0]], [0, 1, 255], "16 bits reduced to 8"),
    ],
)
def test_float_tiff(values: list[Any], expected: list[int], note: str, tmp_path: Path) -> None:
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "f.tiff")
    picture = decode(tmp_path / "f.tiff")
    assert np.asarray(picture.image)[0].tolist() == expected
    assert picture.notes == (note,)


@pytest.mark.parametrize("bad", [-1.0, 70000.0, np.nan, np.inf])
def test_numbers_that_no_picture_holds_are_refused(bad: float, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, bad]], np.float32)).save(tmp_path / "f.tiff")
    text = refused(tmp_path / "f.tiff")
    assert text.startswith("'f.tiff' holds values from")
    assert text.endswith("Give it as a float array in the model's own scale")


def test_32_bit_integers(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 128, 255]], np.int32)).save(tmp_path / "i.tiff")
    assert np.asarray(decode(tmp_path / "i.tiff").image)[0].tolist() == [0, 128, 255]


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "b.png")
    picture = decode(tmp_path / "b.png")
    assert (picture.image.mode, np.asarray(picture.image).tolist()) == ("L", [[255, 0, 255]])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    picture = decode(tmp_path / "c.jpg")
    assert picture.image.mode == "RGB"
    assert np.abs(np.asarray(picture.image)[8, 8].astype(int) - [255, 0, 0]).max() < 8
    assert picture.notes == ("converted from CMYK",)


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png")
    picture = decode(tmp_path / "p.png")
    assert np.asarray(picture.image).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    image.save(tmp_path / "t.png", transparency=1)
    picture = decode(tmp_path / "t.png")
    assert np.asarray(picture.image).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert picture.notes == ("transparency laid on white",)
    image.save(tmp_path / "half.png", transparency=bytes([255, 128]))
    assert np.asarray(decode(tmp_path / "half.png").image)[0, 1].tolist() == [127, 127, 255]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 0, 0, 255], [0, 200, 0, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = decode(tmp_path / "a.png")
    assert np.asarray(picture.image).tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]
    assert picture.notes == ("transparency laid on white",)


def test_an_opaque_alpha_is_no_news() -> None:
    assert decode(Image.new("RGBA", (3, 3), (1, 2, 3, 255))).notes == ()


@pytest.mark.parametrize("mode", ["LA", "La"])
def test_gray_with_transparency_stays_gray(mode: str) -> None:
    image = Image.new("LA", (2, 1), (100, 255))
    image.putpixel((1, 0), (0, 0))
    picture = decode(image if mode == "LA" else image.convert("La"))
    assert picture.image.mode == "L"
    assert np.asarray(picture.image).tolist() == [[100, 255]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_gives_its_first_frame(kind: str, tmp_path: Path) -> None:
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = [Image.new("RGB", (8, 8), color) for color in colors]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], **options)
    picture = decode(tmp_path / "a")
    assert np.asarray(picture.image)[4, 4].tolist() == [250, 0, 0]
    assert picture.notes == ("frame 1 of 3",)
    with Image.open(tmp_path / "a") as opened:
        opened.seek(1)
        second = decode(opened)
    assert np.asarray(second.image)[4, 4].tolist() == [0, 250, 0]
    assert second.notes == ("frame 2 of 3",)


_TURNED = {  # how each EXIF orientation is stored, in numpy's words
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", _TURNED)
def test_exif_orientation(orientation: int, kind: str, pixels: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(_TURNED[orientation](pixels)))
    options = {"lossless": True} if kind == "WEBP" else {}
    stored.save(tmp_path / "a", kind, exif=exif, **options)
    picture = decode(tmp_path / "a")
    assert np.array_equal(np.asarray(picture.image), pixels)
    if kind != "TIFF":  # Pillow turns these itself, and does not say so
        assert picture.notes == (("turned upright as its EXIF says",) if orientation > 1 else ())


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_unknown_orientation_is_ignored(orientation: int, pixels: np.ndarray) -> None:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(stream, "PNG", exif=exif)
    picture = decode(stream)
    assert np.array_equal(np.asarray(picture.image), pixels)
    assert picture.notes == ()


def test_corrupt_exif_is_not_fatal_and_not_loud(pixels: np.ndarray) -> None:
    stream = io.BytesIO()
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\0\x12\x01\x03\0\x01"
    Image.fromarray(pixels).save(stream, "JPEG", exif=broken)
    assert decode(stream).image.size == (7, 5)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 20_000)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "odd.png")
    assert decode(tmp_path / "odd.png").image.size == size


# --- what lives in memory -------------------------------------------------------------------------


def test_open_files_are_read_from_their_start(pixels: np.ndarray, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")  # leaves the stream at its end
    assert np.array_equal(np.asarray(decode(stream).image), pixels)
    assert decode(stream).name == "image"
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    with (tmp_path / "a.png").open("rb") as file:
        assert decode(file).name == "a.png"
        assert decode(file, name="mine").name == "mine"
    with (tmp_path / "a.png").open(encoding="latin-1") as file:
        assert refused(file) == "'a.png' is open as text. Open it as bytes: open(path, 'rb')"


def test_streams_that_cannot_be_rewound(pixels: np.ndarray) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.rest = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self.rest.readinto(buffer)

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    assert np.array_equal(np.asarray(decode(Pipe(stream.getvalue())).image), pixels)
    assert "not an image" in refused(Pipe(b"nonsense"))


def test_pil_images_keep_their_name_and_are_not_shared(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        picture = decode(opened)
    assert picture.name == "a.png"
    mine = Image.fromarray(pixels)
    picture = decode(mine)
    mine.putpixel((0, 0), (0, 0, 0))
    assert np.array_equal(np.asarray(picture.image), pixels)
    assert decode(picture) is picture


def test_a_lazily_opened_image_that_is_cut_short(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with Image.open(tmp_path / "a.png") as opened:
        assert "cut short" in refused(opened)


def test_a_picture_of_no_pixels() -> None:
    assert refused(Image.new("F", (0, 4))) == "'image' is 0×4 pixels: there is nothing in it"


@pytest.mark.parametrize("framework", [np.asarray, torch.from_numpy])
def test_uint8_arrays(framework: Any, pixels: np.ndarray) -> None:
    gray = pixels[:, :, 0].copy()
    for given_, expected in (
        (pixels, pixels),
        (np.ascontiguousarray(pixels.transpose(2, 0, 1)), pixels),
        (gray, gray),
        (gray[:, :, None], gray),
        (gray[None], gray),
    ):
        picture = decode(framework(given_))
        assert np.array_equal(np.asarray(picture.image), expected)
        assert picture.image.mode == ("RGB" if expected.ndim == 3 else "L")
        assert picture.name == "image"


def test_arrays_with_an_alpha_channel_and_odd_strides(pixels: np.ndarray) -> None:
    alpha = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
    assert np.asarray(decode(alpha).image).min() == 255
    assert np.array_equal(np.asarray(decode(pixels[::-1, ::2]).image), pixels[::-1, ::2])


@pytest.mark.parametrize("shape", [(), (7,), (5, 7, 2), (2, 5, 7), (1, 5, 7, 3), (0, 7), (5, 0, 3)])
def test_uint8_arrays_of_other_shapes(shape: tuple[int, ...]) -> None:
    text = refused(np.zeros(shape, np.uint8))
    assert text.startswith(f"A uint8 array of shape {shape} is not an image. Give (height, width)")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "An array of float32 is not an image"),
        (torch.zeros(3, 4, 4), "(255 * x).round().astype('uint8')"),
        (np.zeros((4, 4), np.int64), "An array of int64 is not an image"),
        (np.zeros((4, 4), bool), "An array of bool is not an image"),
        (None, "A NoneType is not an image"),
        ([[1, 2]], "A list is not an image: give a file, a PIL image or uint8"),
        (7, "A int is not an image"),
    ],
)
def test_wrong_types(source: Any, said: str) -> None:
    assert said in refused(source)


def test_is_picture() -> None:
    class TensorFlowLike:
        class dtype:
            name = "uint8"

    yes = [
        "a.png",
        Path("a.png"),
        Image.new("L", (1, 1)),
        io.BytesIO(),
        TensorFlowLike(),
        np.zeros((2, 2), np.uint8),
        torch.zeros(2, 2, dtype=torch.uint8),
        DecodedImage(Image.new("L", (1, 1)), "a"),
    ]
    no = [None, 3, [np.zeros((2, 2), np.uint8)], np.zeros((2, 2)), torch.zeros(2, 2), ("a.png",)]
    assert all(map(is_image, yes))
    assert not any(map(is_image, no))
