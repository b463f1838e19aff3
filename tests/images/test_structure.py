"""Pictures from people who are not known: what is refused before a pixel is looked at."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from scripts import hostile_pictures as hostile
from vicrop_engine.errors import ImageError
from vicrop_engine.images.picture import FROM_STRANGERS, OWN_FILES, ImageLimits, open_picture, picture_size
from vicrop_engine.images.structure import MAX_BLOCKS, MAX_CHUNKS, MAX_SCANS, MAX_SEGMENTS, read_structure

SMALL = ImageLimits(FROM_STRANGERS.formats, max_pixels=10_000, max_bytes=1 << 20, trusted=False)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_kind_and_size_are_those_that_pillow_finds(kind: str) -> None:
    data = hostile.noise(random.Random(3), kind, (57, 31))
    structure = read_structure(data)
    assert (structure.kind, structure.size, structure.animated) == (kind, (57, 31), False)
    assert picture_size(data, FROM_STRANGERS) == (57, 31)
    np.testing.assert_array_equal(open_picture(data, FROM_STRANGERS).image, open_picture(data).image)


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_three_headers_of_webp(mode: str, options: dict[str, object]) -> None:
    image = Image.new(mode, (300, 20), (200, 90, 30, 40)[: len(mode)])
    assert read_structure(hostile.encoded(image, "WEBP", **options)).size == (300, 20)


def test_progressive_and_rotated_jpegs_are_taken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.effect_noise((400, 300), 60).convert("RGB")
    data = hostile.encoded(image, "JPEG", progressive=True, exif=exif)
    assert picture_size(data, FROM_STRANGERS) == (400, 300)
    assert open_picture(data, FROM_STRANGERS).size == (300, 400)


def test_a_first_frame_larger_than_its_gif_counts_as_it_is() -> None:
    data = bytearray(hostile.encoded(Image.new("L", (200, 100)), "GIF"))
    data[6:10] = b"\x08\x00\x08\x00"
    assert read_structure(bytes(data)).size == (200, 100)
    with pytest.raises(ImageError, match="200 x 100 pixels"):
        picture_size(bytes(data), SMALL)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_huge_declared_sizes_are_refused_before_pillow_sees_them(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = hostile.declaring(kind, hostile.HUGE, hostile.HUGE)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ImageError, match="the limit is 50 million"):
        picture_size(data, FROM_STRANGERS)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_pictures_without_height_are_refused(kind: str) -> None:
    with pytest.raises(ImageError, match=r"too small|damaged|known format"):
        picture_size(hostile.flat(kind), FROM_STRANGERS)


@pytest.mark.parametrize(
    ("flood", "words"),
    [
        ("chunks", f"more than {MAX_CHUNKS} chunks"),
        ("segments", f"more than {MAX_SEGMENTS} segments"),
        ("scans", f"more than {MAX_SCANS} scans"),
        ("blocks", f"more than {MAX_BLOCKS} blocks"),
        ("junk", "no JPEG segments"),
        ("solid", "20000 x 20000 pixels"),
        ("text", "damaged"),
        ("moving gif", "animation"),
        ("moving png", "animation"),
        ("moving webp", "animation"),
    ],
)
def test_floods_are_refused_in_little_memory(flood: str, words: str) -> None:
    data = hostile.FLOODS[flood]()
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=words):
            picture_size(data, FROM_STRANGERS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_scans_are_counted_by_the_pixels_they_go_over() -> None:
    """Seven scans of a large picture cost as much as a hundred of a small one."""
    whole = hostile.declaring("JPEG", 7000, 7000)
    scan = whole[whole.index(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="more than 20 scans"):
        picture_size(whole[:-2] + scan * 20 + whole[-2:], FROM_STRANGERS)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_for_ones_own_files(kind: str) -> None:
    data = hostile.encoded(Image.new("RGB", (32, 32)), kind)
    assert open_picture(data, OWN_FILES).size == (32, 32)
    with pytest.raises(ImageError, match="is not PNG, JPEG, WEBP, GIF"):
        open_picture(data, FROM_STRANGERS)


def test_formats_are_those_of_the_limits_whoever_they_are_for() -> None:
    data = hostile.noise(random.Random(1), "PNG")
    with pytest.raises(ImageError, match="known format"):
        open_picture(data, ImageLimits(formats=("JPEG",)))
    with pytest.raises(ImageError, match="the picture is PNG; give JPEG"):
        open_picture(data, ImageLimits(formats=("JPEG",), trusted=False))


def test_bytes_and_pixels_are_bounded_to_the_last_one() -> None:
    data = hostile.encoded(Image.new("RGB", (100, 100)))
    assert picture_size(data, SMALL) == (100, 100)
    with pytest.raises(ImageError, match=r"101 x 100 pixels and the limit is 0\.01 million"):
        picture_size(hostile.encoded(Image.new("RGB", (101, 100))), SMALL)
    with pytest.raises(ImageError, match=f"has {len(data)} bytes and the limit is {len(data) - 1}"):
        picture_size(data, ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(ImageError, match="101 x 100"):
        open_picture(Image.new("RGB", (101, 100)), SMALL)


def test_large_pictures_with_transparency_are_converted_in_pieces() -> None:
    """More rows than are converted at a time come out as in one piece."""
    layered = Image.effect_noise((20, 700), 90).convert("RGBA")
    layered.putalpha(Image.effect_noise((20, 700), 90))
    white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    wanted = Image.alpha_composite(white, layered).convert("RGB")
    np.testing.assert_array_equal(open_picture(layered).image, wanted)


def test_the_callers_own_picture_stays_as_it_is() -> None:
    image = Image.new("RGB", (8, 4))
    image.getexif()[0x0112] = 6
    opened = open_picture(image).image
    assert (image.size, opened.size) == ((8, 4), (4, 8))
    plain = Image.new("RGB", (8, 4))
    open_picture(plain).image.putpixel((0, 0), (9, 9, 9))
    assert plain.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_an_opened_picture_holds_its_pixels_and_nothing_of_its_file(kind: str) -> None:
    opened = open_picture(hostile.noise(random.Random(4), kind)).image
    assert type(opened) is Image.Image
    assert opened.info == {}
