"""Opening pictures: every accepted input to upright 8-bit RGB, every bad one to one sentence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicrop_engine.errors import ImageError
from vicrop_engine.images.picture import MAX_PIXELS, open_picture


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """A picture whose four corners differ."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 77)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: Any) -> np.ndarray[Any, Any]:
    return np.asarray(open_picture(source).image)


def test_path_bytes_picture_and_array_are_the_same(tmp_path: Path) -> None:
    image = gradient()
    path = tmp_path / "picture.png"
    image.save(path)
    wanted = np.asarray(image)
    for source in (path, str(path), path.read_bytes(), image, wanted):
        np.testing.assert_array_equal(pixels(source), wanted)
    assert open_picture(path).size == (40, 30)


@pytest.mark.parametrize(
    ("orientation", "operation"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_exif_rotation_is_honoured(orientation: int, operation: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(gradient(), "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(data), np.asarray(gradient().transpose(operation)))
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), pixels(data))


def test_transparency_is_composited_over_white() -> None:
    layered = gradient().convert("RGBA")
    layered.putalpha(Image.new("L", layered.size, 0))
    assert (pixels(encoded(layered)) == 255).all()
    half = Image.new("LA", (4, 4), (0, 128))
    assert (pixels(half) == 127).all()


def test_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 4, 8))
    result = pixels(encoded(image, transparency=0))
    assert (result[:, :4] == (200, 100, 50)).all()
    assert (result[:, 4:] == 255).all()


def test_sixteen_bit_grey_is_scaled() -> None:
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    data = encoded(Image.fromarray(values))
    wanted = np.rint(values / 257).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(pixels(data)[..., channel], wanted)


@pytest.mark.parametrize(("top", "grey"), [(1.0, 255), (200.0, 200)])
def test_float_grey(top: float, grey: int) -> None:
    values = np.zeros((4, 4), np.float32)
    values[2] = top
    values[3] = np.nan
    result = pixels(Image.fromarray(values))
    assert (result[2] == grey).all()
    assert (result[[0, 1, 3]] == 0).all()


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "YCbCr", "HSV", "P"])
def test_other_modes_are_converted(mode: str) -> None:
    image = gradient().convert(mode)
    np.testing.assert_array_equal(pixels(image), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg() -> None:
    assert pixels(encoded(gradient().convert("CMYK"), "JPEG")).shape == (30, 40, 3)


def test_of_an_animation_the_first_frame_is_taken_and_said_so() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture = open_picture(data)
    assert picture.image.getpixel((4, 4)) == (255, 0, 0)
    assert picture.notices == ("the picture has 3 frames; only the first is looked at",)
    moved = Image.open(io.BytesIO(data))
    moved.seek(2)
    assert open_picture(moved).image.getpixel((4, 4)) == (255, 0, 0)
    assert moved.tell() == 2
    assert open_picture(gradient()).notices == ()


def bomb(side: int) -> bytes:
    """A PNG whose header promises a square of `side` and whose body holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [30000, 13000])
def test_a_header_bomb_is_refused_before_decoding(side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(ImageError, match="the limit is 150 million"):
        open_picture(bomb(side))


def test_a_large_header_within_the_limit_only_fails_on_its_body() -> None:
    """Pillow's own warning, an error here, does not come in between."""
    with pytest.raises(ImageError, match="damaged"):
        open_picture(bomb(10000))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_truncated_files_are_refused(kind: str) -> None:
    random = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(random), kind)
    for share in (0.5, 0.9):
        with pytest.raises(ImageError):
            open_picture(data[: int(len(data) * share)])


@pytest.mark.parametrize("end", [1, 8, 20, 33])
def test_almost_nothing_of_a_file_is_refused(end: int) -> None:
    with pytest.raises(ImageError):
        open_picture(encoded(gradient())[:end])


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "0 bytes"), (b"hello, I am text", "known format"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "known format")],
)
def test_what_is_no_picture_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=words) as caught:
        open_picture(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ImageError, match=words):
        open_picture(data)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        open_picture(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        open_picture("a\0b.png")


def test_a_picture_of_one_pixel_is_refused() -> None:
    with pytest.raises(ImageError, match="1 x 1 pixels, too small"):
        open_picture(Image.new("RGB", (1, 1)))


@pytest.mark.parametrize("size", [(1, 2), (1, 500), (500, 1)])
def test_pictures_one_pixel_wide_are_opened(size: tuple[int, int]) -> None:
    assert open_picture(Image.new("RGB", size)).size == size


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(array: Any) -> None:
    with pytest.raises(ImageError, match=r"wanted uint8 \[height, width, 3\]"):
        open_picture(array)


def test_other_types_are_refused() -> None:
    with pytest.raises(ImageError, match="got int"):
        open_picture(7)  # type: ignore[arg-type]
